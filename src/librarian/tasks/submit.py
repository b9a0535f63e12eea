"""Submit: hands batches to their engines, under a key that is stored first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from librarian import guard
from librarian.errors import Bug, EngineFull, LibrarianError, Unavailable
from librarian.gates import gate_of
from librarian.states import BatchState, TransferState
from librarian.tasks import planning
from librarian.tasks.lanes import LaneTask
from librarian.timing import retry_delay, utc_now
from librarian.transfers.base import Item, Job

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from librarian.catalog.records import Batch, EntryPoint, Outgoing, Peer
    from librarian.catalog.transaction import Transaction
    from librarian.names import FileId, PeerId, StoreName

#: A batch for which its engine has no place is tried again after so many intervals.
FULL_PAUSES: Final = 10


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One batch that is to start; ``sources`` says on which store of ours each file is read."""

    peer: Peer
    batch: Batch
    transfers: tuple[Outgoing, ...]
    sources: dict[FileId, StoreName]


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far one round brought a batch: to a key, and in a later round to a handle."""

    key: str
    handle: str | None = None
    #: The engine has no place for it now.
    full: EngineFull | None = None


class Submit(LaneTask[Submission, Step]):
    """Hands batches to their engines. Submitting one again under its key yields the same transfer."""

    name: ClassVar[str] = "submit"

    async def peers_with_work(self, tx: Transaction, *, now: datetime) -> Sequence[PeerId]:
        """Peers with queued batches."""
        return await tx.batches.peers_with([BatchState.QUEUED], now=now)

    def admits(self, peer: Peer) -> bool:
        """Whether bytes may move to *peer* now."""
        return gate_of(peer, now=utc_now()).may_move

    async def plan_for(self, tx: Transaction, peer: Peer) -> Submission | None:
        """Claim the oldest queued batch whose engine has a place for it: SUBMITTING."""
        batch = await self._next_batch(tx, peer)
        if batch is None:
            return None
        if batch.engine not in self.site.engines:
            raise Bug(f"batch {batch.id} wants the engine {batch.engine!r}, which this site does not have")
        if not await tx.batches.move(batch.id, BatchState.SUBMITTING):
            return None
        if batch.key is None:
            return Submission(peer=peer, batch=batch, transfers=(), sources={})
        transfers = await tx.outgoing.of_batch(batch.id)
        going = tuple(t for t in transfers if t.state is TransferState.ONGOING and t.token is not None)
        # A store that is away, or that we have no longer, must not hold up what stands on others.
        usable = [store.name for store in self.site.stores.fixed() if store.problem is None]
        sources = await tx.copies_due.sources([t.file_id for t in going], among=usable)
        return Submission(peer=peer, batch=batch, transfers=going, sources=sources)

    async def act(self, plan: Submission) -> Step:
        """Get a key, or start the transfer under the one that outlives us."""
        engine = self.site.engines[plan.batch.engine]
        key = plan.batch.key
        if key is None:
            return Step(key=await engine.prepare())
        guard.step("key stored")
        try:
            handle = await engine.submit(self._job(plan), key)
        except EngineFull as full:
            return Step(key=key, full=full)
        guard.step("submitted without handle")
        return Step(key=key, handle=handle)

    async def record(self, tx: Transaction, plan: Submission, result: Step) -> None:
        """SUBMITTING → ACTIVE; with a key alone it is QUEUED, and its turn comes at once unless the engine is full."""
        if result.handle is not None:
            await tx.batches.move(plan.batch.id, BatchState.ACTIVE, handle=result.handle)
            return
        pause = timedelta(0) if result.full is None else FULL_PAUSES * self.policy.interval
        await tx.batches.give_back(
            plan.batch.id,
            key=result.key,
            reason=None if result.full is None else result.full.message,
            next_try_at=utc_now() + pause,
        )
        if pause:
            self.site.bells.ring_in(pause, self.name)

    async def give_up(self, tx: Transaction, plan: Submission, error: Exception) -> None:
        """Not started as far as we know: queued again, under the same key."""
        reason = error.message if isinstance(error, LibrarianError) else type(error).__name__
        delay = retry_delay(plan.batch.attempts + 1)
        await tx.batches.move(plan.batch.id, BatchState.QUEUED, reason=reason, next_try_at=utc_now() + delay)
        if isinstance(error, LibrarianError) and not isinstance(error, Unavailable):
            await tx.alerts.raise_alert(
                f"batch:{plan.peer.name}:not-taken",
                message=f"The {plan.batch.engine} engine does not take a batch to {plan.peer.name}: {reason}.",
                remedy=error.remedy or "Correct what the reason says; the batch is submitted again by itself.",
            )
        self.site.bells.ring_in(delay, self.name)

    async def recover(self, tx: Transaction) -> None:
        """Batches that were being submitted when the process died are queued again, under the same key."""
        await tx.batches.reclaim()

    def done(self, plan: Submission) -> None:
        """The engine works now."""
        self.site.bells.ring("poll")

    async def _next_batch(self, tx: Transaction, peer: Peer) -> Batch | None:
        now = utc_now()
        queued = await tx.batches.waiting(peer=peer.id, now=now, limit=self.policy.batches_per_peer)
        if not queued:
            return None
        loads = await tx.batches.loads(now)
        known = await tx.peers.with_ids([load.peer_id for load in loads if load.is_waiting])
        # Whoever cannot go on now must not keep a place from those who can.
        able = {each.id for each in known.values() if self.admits(each) and not self._rests(each)}
        for batch in queued:
            of_engine = [load for load in loads if load.engine == batch.engine]
            if planning.may_start(
                peer.id,
                under_way={load.peer_id: load.started for load in of_engine},
                waiting=[load.peer_id for load in of_engine if load.is_waiting and load.peer_id in able],
                most=self.policy.batches_per_engine,
            ):
                return batch
        return None

    def _rests(self, peer: Peer) -> bool:
        return self.site.neighbours.is_resting(peer.name, self.name)

    def _job(self, plan: Submission) -> Job:
        point = _entry_point(plan.peer, plan.batch)
        return Job(
            peer=plan.peer.name,
            store=plan.batch.store,
            address=point.address if point else "",
            staging=point.staging if point else "",
            items=tuple(
                Item(uuid=t.uuid, token=t.token, source=self._source(plan, t), kind=t.kind, size=t.size)
                for t in plan.transfers
                if t.token is not None
            ),
            rate_limit=plan.peer.rate_limit,
            bytes_done=plan.batch.bytes_done,
            silent_since=plan.batch.silent_since,
        )

    def _source(self, plan: Submission, transfer: Outgoing) -> Path | None:
        store = plan.sources.get(transfer.file_id)
        return None if store is None else self.site.stores.lookup(store).path_of(transfer.name)


def _entry_point(peer: Peer, batch: Batch) -> EntryPoint | None:
    return next((p for p in peer.entry_points if (p.store, p.engine) == (batch.store, batch.engine)), None)
