"""Fetch: brings home what peers that cannot call us have to say, hears it, and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from librarian import hearing
from librarian.tasks.lanes import LaneTask
from librarian.wire.inbox import InboxAnswers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from librarian.catalog.records import Account, Peer
    from librarian.catalog.transaction import Transaction
    from librarian.names import PeerId
    from librarian.policies import ClonePolicy
    from librarian.site import Site


@dataclass(frozen=True, kw_only=True)
class Errand:
    """One look into our inbox at *peer*, which speaks here as *account*, behind what was answered last."""

    peer: Peer
    account: Account
    after: int


class Fetch(LaneTask[Errand, int]):
    """Keeps one question open at each peer that cannot call us.

    What is fetched passes through the same ears as a call would, each of which keeps its own order of rows and acts;
    all of them bear repetition, so that an answer that was lost is simply given again.
    """

    name: ClassVar[str] = "fetch"
    may_be_cut_off: ClassVar[bool] = True

    def __init__(self, site: Site, policy: ClonePolicy | None = None) -> None:
        super().__init__(site, policy)
        #: Of each peer, the place up to which everything is answered; forgotten when a fetch fails.
        self._answered: dict[PeerId, int] = {}

    async def peers_with_work(self, tx: Transaction, *, now: datetime) -> Sequence[PeerId]:
        """Peers that cannot call us."""
        return await tx.peers.fetched()

    async def plan_for(self, tx: Transaction, peer: Peer) -> Errand | None:
        """Look once; the look lasts until there is something, or for a while."""
        account = await tx.accounts.find(peer.name)
        if account is None or not account.is_enabled:
            return None
        return Errand(peer=peer, account=account, after=self._answered.get(peer.id, 0))

    async def act(self, plan: Errand) -> int:
        """Fetch, hear, answer; the place up to which everything is answered."""
        neighbours, name = self.site.neighbours, plan.peer.name
        inbox = await neighbours.fetch(name, after=plan.after)
        hearing.shows_up(self.site, plan.peer)
        if not inbox.items:
            return plan.after
        answers = [await hearing.answer_item(self.site, plan.account, item) for item in inbox.items]
        await neighbours.answer(name, InboxAnswers(answers=answers))
        return max(item.seq for item in inbox.items)

    async def record(self, tx: Transaction, plan: Errand, result: int) -> None:
        """What was said is recorded already, each in its own transaction; here is only the place."""
        self._answered[plan.peer.id] = result

    async def give_up(self, tx: Transaction, plan: Errand, error: Exception) -> None:
        """Start over: what was not answered waits there still."""
        self._answered.pop(plan.peer.id, None)
