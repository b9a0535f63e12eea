"""Reconcile: asks peers about transfers that do not move, and settles what two sites tell differently."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from librarian import outcomes
from librarian.catalog.copies_due import Turn
from librarian.catalog.outgoing import Ending
from librarian.catalog.records import Happening
from librarian.replication import Assertion, note
from librarian.states import OPEN, DueState, RuleWay, Settlement, TransferState, Way, settle
from librarian.tasks.base import Cadence
from librarian.tasks.lanes import LaneTask
from librarian.timing import utc_now
from librarian.wire.clones import AskStates, CloneStates

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence
    from datetime import datetime

    from librarian.catalog.records import Incoming, Outgoing, Peer
    from librarian.catalog.transaction import Transaction
    from librarian.names import FileId, PeerId
    from librarian.policies import ClonePolicy
    from librarian.site import Site

#: Transfers in one question.
MOST_ASKED: Final = 1024


@dataclass(frozen=True, kw_only=True)
class Doubts:
    """Transfers between one peer and us that do not move."""

    peer: Peer
    outgoing: tuple[Outgoing, ...]
    incoming: tuple[Incoming, ...]


class Reconcile(LaneTask[Doubts, CloneStates]):
    """Asks by lack of progress, never by age: a slow link is nobody's fault."""

    name: ClassVar[str] = "reconcile"

    def __init__(self, site: Site, policy: ClonePolicy | None = None) -> None:
        super().__init__(site, policy)
        self.cadence = Cadence(interval=min(self.policy.reconcile_after / 2, timedelta(minutes=1)))

    async def peers_with_work(self, tx: Transaction, *, now: datetime) -> Sequence[PeerId]:
        """Peers with which a transfer has not moved for a while."""
        since = now - self.policy.reconcile_after
        return sorted(
            {*await tx.outgoing.peers_in_doubt(since=since), *await tx.offers.peers_in_doubt(since=since, now=now)}
        )

    async def plan_for(self, tx: Transaction, peer: Peer) -> Doubts | None:
        """The transfers to ask about; they are not asked about again for a while."""
        now = utc_now()
        since = now - self.policy.reconcile_after
        outgoing = await tx.outgoing.without_progress(peer.id, since=since, limit=MOST_ASKED)
        incoming = await tx.offers.silent(peer.id, since=since, now=now, limit=MOST_ASKED)
        if not outgoing and not incoming:
            return None
        return Doubts(peer=peer, outgoing=outgoing, incoming=incoming)

    async def act(self, plan: Doubts) -> CloneStates:
        """Ask by uuids, both ways in one question."""
        question = AskStates(offered=[t.uuid for t in plan.outgoing], taken=[t.uuid for t in plan.incoming])
        return await self.site.neighbours.states(plan.peer.name, question)

    async def record(self, tx: Transaction, plan: Doubts, result: CloneStates) -> None:
        """Settle each; see ``states.settle``."""
        theirs = {state.uuid: state.state for state in result.offered}
        out: defaultdict[Settlement, list[Outgoing]] = defaultdict(list)
        dues = await tx.copies_due.of_files([t.file_id for t in plan.outgoing])
        owed = {due.file_id: due.state for due in dues if due.peer == plan.peer.name and due.way is RuleWay.NETWORK}
        for transfer in await self._without_unowed(tx, plan, theirs, owed=owed):
            is_blocked = owed.get(transfer.file_id) is DueState.BLOCKED
            out[_settle_out(transfer, theirs.get(transfer.uuid), is_blocked=is_blocked)].append(transfer)
        await self._refused(tx, plan, result, out)
        await self._settle_out(tx, plan.peer, out)
        theirs = {state.uuid: state.state for state in result.taken}
        into: defaultdict[Settlement, list[Incoming]] = defaultdict(list)
        for arrival in plan.incoming:
            into[settle(arrival.state, theirs.get(arrival.uuid), Way.IN)].append(arrival)
        await self._settle_in(tx, plan.peer, into)

    def done(self, plan: Doubts) -> None:
        """Whatever was settled goes on at once."""
        for bell in ("send", "deliver", "ingest"):
            self.site.bells.ring(bell)

    async def _without_unowed(
        self, tx: Transaction, plan: Doubts, theirs: Mapping[str, TransferState], *, owed: Container[FileId]
    ) -> list[Outgoing]:
        """The transfers in doubt, but those that no engine works on and no rule asks for any more: these end."""
        unowed = {t.uuid: t for t in plan.outgoing if t.state is not TransferState.STAGED and t.file_id not in owed}
        why = "no rule asks for it any more"
        await tx.outgoing.end(
            plan.peer.id,
            [Ending(uuid=uuid, state=TransferState.CANCELLED, code="not_owed", reason=why) for uuid in unowed],
        )
        await tx.outbox.put(
            [outcomes.cancelled_note(plan.peer, t) for t in unowed.values() if theirs.get(t.uuid) in OPEN]
        )
        return [t for t in plan.outgoing if t.uuid not in unowed]

    async def _refused(
        self, tx: Transaction, plan: Doubts, said: CloneStates, out: defaultdict[Settlement, list[Outgoing]]
    ) -> None:
        """Take what ended at the receiver for a reason out of *out*: it counts as if the notice of it were not late."""
        failed = {state.uuid: state for state in said.offered if state.code}
        refused = [t for t in out[Settlement.FAIL] if t.uuid in failed]
        out[Settlement.FAIL] = [t for t in out[Settlement.FAIL] if t.uuid not in failed]
        refusals = [
            outcomes.Refusal(transfer=t, code=failed[t.uuid].code, reason=failed[t.uuid].reason) for t in refused
        ]
        await outcomes.record_refusals(tx, plan.peer, refusals, most=self.policy.quarantine_after)

    async def _settle_out(self, tx: Transaction, peer: Peer, settled: defaultdict[Settlement, list[Outgoing]]) -> None:
        again = settled[Settlement.OFFER_AGAIN]
        failed = settled[Settlement.FAIL]
        tell = settled[Settlement.TELL_AGAIN]
        await tx.outgoing.touch([t.uuid for each in settled.values() for t in each])
        # A transfer that was staged cannot be offered again; it ends, and the copy is due under a new uuid.
        restarted = [t for t in again if t.state is TransferState.STAGED]
        await tx.outgoing.end(
            peer.id,
            [
                Ending(uuid=t.uuid, state=TransferState.FAILED, code="settled", reason=_why(t))
                for t in failed + restarted
            ],
        )
        await tx.outgoing.unbatch([t.uuid for t in again if t.state is not TransferState.STAGED])
        now = utc_now()
        await tx.copies_due.turn(
            peer.id,
            [
                Turn(file_id=t.file_id, state=DueState.DUE, next_try_at=now, code="settled", reason=_why(t))
                for t in again + failed
            ],
        )
        await tx.outbox.forget(peer.id, [t.uuid for t in tell + restarted])
        await tx.outbox.put(
            [note(peer.id, t.uuid, "staged", Assertion(name=t.name, size=t.size, checksum=t.checksum)) for t in tell]
        )
        await tx.events.tell(
            [
                Happening(subject=t.name, what=f"taken up again with {peer.name}", who=self.name, why=_why(t))
                for t in again + failed
            ]
        )

    async def _settle_in(self, tx: Transaction, peer: Peer, settled: defaultdict[Settlement, list[Incoming]]) -> None:
        waiting = [t.token for t in settled[Settlement.WAIT]]
        await tx.offers.ask_again(waiting, at=utc_now() + self.policy.reconcile_after)
        await tx.offers.settle([t.id for t in settled[Settlement.STAGE]], to=TransferState.STAGED)
        gone = settled[Settlement.CANCEL]
        await tx.offers.settle([t.id for t in gone], to=TransferState.CANCELLED)
        await tx.events.tell(
            [
                Happening(subject=t.name, what="clone cancelled", who=self.name, why=f"{peer.name} has ended it")
                for t in gone
            ]
        )


def _settle_out(transfer: Outgoing, theirs: TransferState | None, *, is_blocked: bool) -> Settlement:
    if is_blocked and transfer.state in OPEN and theirs not in (TransferState.FAILED, TransferState.CANCELLED):
        # There is nothing to send. It goes on by itself once a good copy is here again.
        return Settlement.WAIT
    settlement = settle(transfer.state, theirs, Way.OUT)
    # Bytes may come, think both sites; but what is asked about has no engine that would bring them.
    is_stuck = settlement is Settlement.WAIT and transfer.state is TransferState.ONGOING and theirs in OPEN
    return Settlement.OFFER_AGAIN if is_stuck else settlement


def _why(transfer: Outgoing) -> str:
    return f"it had not moved as {transfer.state.value}, and the peer tells otherwise"
