"""Hearing: what another librarian says to us, whether it called us or we fetched it.

Who speaks is known by its account here, which carries the name of its site and the roles that it has with us.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Generic

from pydantic import ValidationError
from pydantic_core import to_json

import librarian
from librarian import auth, guard, notices, probing, verdicts
from librarian.errors import BadRequest, DatabaseUnavailable, Forbidden, LibrarianError, OwnedElsewhere
from librarian.peers import SOON
from librarian.states import Role
from librarian.timing import utc_now
from librarian.wire.base import PROTOCOL
from librarian.wire.checkup import CalledBack
from librarian.wire.clones import (
    AskStates,
    CloneState,
    CloneStates,
    NoticeAnswers,
    Notices,
    OfferClones,
    Verdicts,
)
from librarian.wire.inbox import NOTICES, OFFER, PROBE, PROBE_READ, SITE, STATES, A, InboxAnswer, Q
from librarian.wire.problems import Problem
from librarian.wire.site import SiteDescription

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pydantic import BaseModel

    from librarian.catalog.records import Account, Incoming, Outgoing, Peer
    from librarian.catalog.transaction import Transaction
    from librarian.site import Site
    from librarian.wire.checkup import AskCallback, AskProbe, AskProbeRead, ProbeRead, ProbeStaged
    from librarian.wire.inbox import InboxItem, Topic
    from librarian.wire.peers import AskSite

#: Who sends files to us.
SENDERS: Final = frozenset({Role.UPSTREAM})
#: Who sends files to us, or takes them from us.
PEERS: Final = frozenset({Role.UPSTREAM, Role.CALLBACK})


async def peer_of(tx: Transaction, site: Site, account: Account) -> Peer:
    """The peer that speaks: its account carries its site's name.

    Raises
    ------
    Forbidden
        No peer has that name, or it is disabled.
    """
    peer = await tx.peers.find(account.name)
    if peer is None:
        raise Forbidden(
            f"no peer of this site is called {account.name!r}",
            remedy=f"An administrator of this site must run: peer add {account.name}",
        )
    if not peer.is_enabled:
        raise Forbidden(f"the peer {peer.name} is disabled at this site", remedy="Its administrator can enable it.")
    shows_up(site, peer)
    return peer


def shows_up(site: Site, peer: Peer) -> None:
    """*peer* is there: whoever rests since it was away looks again soon."""
    for purpose in site.neighbours.heard_from(peer.name):
        site.bells.ring_in(timedelta(seconds=SOON), purpose)


async def take_offer(site: Site, account: Account, offer: OfferClones) -> Verdicts:
    """Give a verdict on each offered clone. The same offer again gets the same verdicts."""
    async with site.catalog.read() as tx:
        peer = await peer_of(tx, site, account)
    answered = await verdicts.answer_offer(site, peer, offer.clones, lease=site.settings.clones.busy_lease)
    site.bells.ring("deliver")
    return Verdicts(verdicts=answered)


async def take_notices(site: Site, account: Account, said: Notices) -> NoticeAnswers:
    """Apply what a peer tells, and answer for each notice. Saying it again changes nothing."""
    if said.site != account.name:
        raise BadRequest(
            f"the account {account.name!r} speaks for the site {said.site!r}",
            remedy="A peer's account here must carry the name of its site.",
        )
    seqs = {notice.seq for notice in said.notices}
    if len(seqs) != len(said.notices):
        raise BadRequest("two notices carry the same number", remedy="Number every notice of a site once.")
    uuids = [notice.subject for notice in said.notices if notice.state in ("staged", "cancelled")]
    async with site.catalog.read() as tx:
        known = await peer_of(tx, site, account)
    async with site.writers.hold_free(uuids, peer=known.id) as free, site.catalog.begin() as tx:
        heard = await notices.hear(
            tx,
            peer=await peer_of(tx, site, account),
            roles=auth.implied(account.roles),
            said=said,
            most_failures=site.settings.clones.quarantine_after,
            in_use=set(uuids) - free,
        )
    if said.notices:
        guard.step("notice applied but unacknowledged")
    for bell in heard.bells:
        site.bells.ring(bell)
    return NoticeAnswers(answers=heard.answers, seen_epoch=heard.seen_epoch, seen_seq=heard.seen_seq)


async def tell_states(site: Site, account: Account, question: AskStates) -> CloneStates:
    """Say how transfers between the speaker and us stand; what is not between us is unknown."""
    roles = auth.implied(account.roles)
    async with site.catalog.read() as tx:
        peer = await peer_of(tx, site, account)
        offered = await tx.incoming.with_uuids(question.offered, peer_id=peer.id) if Role.UPSTREAM in roles else ()
        taken = await tx.outgoing.known(peer.id, question.taken) if Role.CALLBACK in roles else ()
    return CloneStates(offered=_states(offered), taken=_states(taken))


def _states(transfers: Iterable[Incoming | Outgoing]) -> list[CloneState]:
    return [state_of(transfer) for transfer in transfers]


def state_of(transfer: Incoming | Outgoing) -> CloneState:
    """How *transfer* stands, for the site at its other end."""
    return CloneState(
        uuid=transfer.uuid,
        state=transfer.state,
        name=transfer.name,
        size=transfer.size,
        code=transfer.code,
        reason=transfer.reason,
    )


async def describe_site(site: Site, account: Account) -> SiteDescription:
    """Say who answers, and as whom the caller is known."""
    uuid, entry_points = await site.card.read()
    # A site that only receives our clones learns nothing about how we keep ours.
    sees_entry_points = account.roles != {Role.CALLBACK}
    return SiteDescription(
        name=site.name,
        uuid=uuid,
        version=librarian.__version__,
        protocol=PROTOCOL,
        now=utc_now(),
        account=account.name,
        roles=sorted(account.roles),
        entry_points=entry_points if sees_entry_points else [],
    )


async def _tell_site(site: Site, account: Account, _: AskSite) -> SiteDescription:
    async with site.catalog.read() as tx:
        await peer_of(tx, site, account)
    return await describe_site(site, account)


async def call_back(site: Site, account: Account, _: AskCallback) -> CalledBack:
    """Call the one who asks, with our password there."""
    async with site.catalog.read() as tx:
        peer = await peer_of(tx, site, account)
    try:
        await site.neighbours.look_again(peer.name)
    except LibrarianError as error:
        return CalledBack(works=False, reason=error.message, remedy=error.remedy)
    return CalledBack(works=True)


async def stage_probe(site: Site, account: Account, asked: AskProbe) -> ProbeStaged:
    """Make staging for a probe of the one who asks."""
    async with site.catalog.read() as tx:
        peer = await peer_of(tx, site, account)
    return await probing.stage(site, peer, asked)


async def read_probe(site: Site, account: Account, asked: AskProbeRead) -> ProbeRead:
    """Read and remove a probe of the one who asks."""
    async with site.catalog.read() as tx:
        peer = await peer_of(tx, site, account)
    return await probing.read(site, peer, asked)


@dataclass(frozen=True)
class _Ear(Generic[Q, A]):
    """Who may speak on a topic, and what becomes of what is said."""

    topic: Topic[Q, A]
    roles: frozenset[Role]
    hear: Callable[[Site, Account, Q], Awaitable[BaseModel]]

    async def answer(self, site: Site, account: Account, item: InboxItem) -> BaseModel:
        auth.require(account, self.roles)
        try:
            # As it would be read from a request: what JSON cannot tell apart is told by the model.
            said = self.topic.question.model_validate_json(to_json(item.body))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise BadRequest(
                f"the {item.topic} cannot be read: {first['msg']} at {first['loc']}",
                remedy="Bring both sides to the same release.",
            ) from error
        return await self.hear(site, account, said)


_EARS: Final = {
    ear.topic.name: ear
    for ear in (
        _Ear(OFFER, SENDERS, take_offer),
        _Ear(NOTICES, PEERS, take_notices),
        _Ear(STATES, PEERS, tell_states),
        _Ear(SITE, PEERS, _tell_site),
        _Ear(PROBE, SENDERS, stage_probe),
        _Ear(PROBE_READ, SENDERS, read_probe),
    )
}


async def answer_item(site: Site, account: Account, item: InboxItem) -> InboxAnswer:
    """The answer to one item that we fetched from a peer's inbox, whose account here is *account*.

    The same item again is answered alike. Raises only where we cannot answer now: then nothing was said.
    """
    try:
        ear = _EARS.get(item.topic)
        if ear is None:
            raise BadRequest(
                f"this librarian knows no topic {item.topic[:40]!r}", remedy="Bring both sides to the same release."
            )
        answer = await ear.answer(site, account, item)
    except (DatabaseUnavailable, OwnedElsewhere):
        raise
    except LibrarianError as error:
        problem = Problem(code=error.code, message=error.message, remedy=error.remedy)
        return InboxAnswer(seq=item.seq, problem=problem)
    return InboxAnswer(seq=item.seq, body=answer.model_dump(mode="json", exclude_none=True))
