"""Poll: asks engines how far batches are, and tells receivers what has been delivered."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from librarian import guard, outcomes
from librarian.catalog.copies_due import Turn
from librarian.errors import LibrarianError
from librarian.gates import gate_of
from librarian.policies import ClonePolicy
from librarian.replication import Assertion, note
from librarian.states import BatchState, DueState, TransferState
from librarian.tasks.base import Cadence, Task
from librarian.timing import utc_now
from librarian.transfers.base import Phase, Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from librarian.catalog.records import Batch, Outgoing, Peer
    from librarian.catalog.transaction import Transaction
    from librarian.names import BatchId, PeerId
    from librarian.site import Site
    from librarian.timing import Budget
    from librarian.transfers.base import TransferEngine

log = logging.getLogger(__name__)

#: Batches asked about in one question to an engine.
MOST_ASKED: Final = 1000
#: An engine that has not answered by then is asked again in the next pass.
PATIENCE: Final = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class Question:
    """Batches that engines work on, or may, and the peers they go to; what may not move there now is to be stopped."""

    batches: tuple[Batch, ...]
    peers: dict[PeerId, Peer]
    #: Why nothing may move to a peer now.
    stopped: dict[PeerId, str]
    #: Batches of which nothing is left to move: every transfer in them has ended otherwise.
    emptied: frozenset[BatchId]

    def is_to_stop(self, batch: Batch) -> bool:
        """Whether its engine must not go on with it."""
        return batch.id in self.emptied or batch.peer_id in self.stopped


@dataclass(frozen=True, kw_only=True)
class Answers:
    """How far batches are, by handle, and which of those to be stopped no engine works on any more."""

    progress: dict[str, Progress]
    stopped: set[BatchId]


class Poll(Task[Question, Answers]):
    """Asks engines how far batches are. Unknown is not failed: what cannot be asked is asked again."""

    name: ClassVar[str] = "poll"

    def __init__(self, site: Site, policy: ClonePolicy | None = None) -> None:
        super().__init__(site)
        self.policy = policy or ClonePolicy()
        self.cadence = Cadence(interval=self.policy.interval)
        #: What could not be stopped yet, which is said once.
        self._unstopped: set[BatchId] = set()

    async def plan(self, tx: Transaction) -> Question | None:
        """Every running batch, and of those queued what is to be stopped: its submission may have gone unheard."""
        begun = await tx.batches.begun(limit=MOST_ASKED)
        if not begun:
            return None
        peers = await tx.peers.with_ids([batch.peer_id for batch in begun])
        now = utc_now()
        gates = {peer.id: gate_of(peer, now=now) for peer in peers.values()}
        stopped = {peer: gate.why for peer, gate in gates.items() if not gate.may_move}
        emptied = frozenset(batch.id for batch in await tx.batches.emptied([batch.id for batch in begun]))
        asked = tuple(
            batch
            for batch in begun
            if batch.state is not BatchState.QUEUED
            or batch.id in emptied
            or (batch.key is not None and batch.peer_id in stopped)
        )
        return Question(batches=asked, peers=peers, stopped=stopped, emptied=emptied) if asked else None

    async def act(self, plan: Question) -> Answers:
        """Ask every engine once, side by side; stop what may not move now."""
        answers = Answers(progress={}, stopped=set())
        await asyncio.gather(*(self._ask(engine, plan, answers) for engine in {b.engine for b in plan.batches}))
        return answers

    async def _ask(self, name: str, plan: Question, answers: Answers) -> None:
        batches = [batch for batch in plan.batches if batch.engine == name]
        to_stop = [batch for batch in batches if plan.is_to_stop(batch)]
        engine = self.site.engines.get(name)
        if engine is None:
            answers.stopped.update(batch.id for batch in to_stop)
            return
        handles = [batch.handle for batch in batches if batch.handle is not None and batch not in to_stop]

        async def inspect() -> None:
            answers.progress.update(await engine.inspect(handles))

        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE.total_seconds()):
                await asyncio.gather(inspect(), *(self._stop(engine, batch, answers) for batch in to_stop))

    async def _stop(self, engine: TransferEngine, batch: Batch, answers: Answers) -> None:
        """Stop what an engine may do for *batch*. Once it may move again it is LOST: same key, same staging."""
        handle = batch.handle or batch.key
        try:
            if handle is not None:
                await engine.cancel(handle)
        except LibrarianError as error:
            told = logging.DEBUG if batch.id in self._unstopped else logging.WARNING
            self._unstopped.add(batch.id)
            extra = {"event": "batch-not-stopped", "batch": batch.id}
            log.log(told, "Cannot stop batch %s yet: %s", batch.id, error, extra=extra)
        else:
            guard.step("stopped without record")
            self._unstopped.discard(batch.id)
            answers.stopped.add(batch.id)

    async def run_pass(self, budget: Budget) -> int:
        """One round: asking again at once would tell nothing new. Engines ring when something has."""
        async with self.site.catalog.begin() as tx:
            plan = await self.plan(tx)
        if plan is None:
            return 0
        await self.carry_out(plan)
        for bell in ("deliver", "submit", "send", "reread"):
            self.site.bells.ring(bell)
        return 0

    async def record(self, tx: Transaction, plan: Question, result: Answers) -> None:
        """Write progress and results; a batch that has ended is told to its receiver in the same transaction."""
        unknown = Progress(phase=Phase.UNKNOWN, reason="the engine does not answer")
        for batch in plan.batches:
            if batch.id in plan.emptied:
                if batch.id in result.stopped:
                    self.site.meters.forget(batch.id)
                    await tx.batches.move(batch.id, BatchState.CANCELLED, reason="nothing is left to move")
                continue
            if batch.peer_id in plan.stopped:
                await self._stopped(tx, batch, plan.stopped[batch.peer_id])
                continue
            progress = result.progress.get(batch.handle or "", unknown)
            peer = plan.peers[batch.peer_id]
            self._measure(batch, progress)
            match progress.phase:
                case Phase.SUCCEEDED | Phase.FAILED:
                    await self._ended(tx, peer, batch, progress)
                case Phase.LOST:
                    await tx.batches.move(batch.id, BatchState.QUEUED, reason="the engine had lost it")
                case Phase.HELD:
                    await self._held(tx, peer, batch, progress)
                case Phase.ACTIVE | Phase.UNKNOWN:
                    await self._goes_on(tx, batch, progress)

    def _measure(self, batch: Batch, progress: Progress) -> None:
        meters = self.site.meters
        if progress.phase in (Phase.UNKNOWN, Phase.LOST):
            return
        before = (batch.progressed_at, batch.bytes_done)
        meters.read(batch.peer_id, batch.id, bytes_done=progress.bytes_done, before=before, now=utc_now())
        if progress.phase in (Phase.SUCCEEDED, Phase.FAILED):
            meters.forget(batch.id)

    async def _stopped(self, tx: Transaction, batch: Batch, why: str) -> None:
        if batch.state is BatchState.QUEUED or batch.reason == why:
            return
        now = utc_now()
        await tx.batches.progress(
            batch.id,
            state=batch.state,
            bytes_done=batch.bytes_done,
            reason=why,
            # That nothing gets done while it is stopped is no wonder.
            silent_since=None,
            next_try_at=now,
        )

    async def _goes_on(self, tx: Transaction, batch: Batch, progress: Progress) -> None:
        is_active = progress.phase is Phase.ACTIVE
        if progress.remedy and progress.reason != batch.reason:
            await tx.alerts.raise_alert(
                f"engine:{batch.engine}:unknown",
                message=f"The {batch.engine} engine cannot be asked about batches: {progress.reason}.",
                remedy=progress.remedy,
            )
        await tx.batches.progress(
            batch.id,
            state=BatchState.ACTIVE if is_active else batch.state,
            bytes_done=progress.bytes_done,
            reason=progress.reason or None,
            silent_since=progress.silent_since if is_active else batch.silent_since,
            next_try_at=utc_now(),
        )

    async def _held(self, tx: Transaction, peer: Peer, batch: Batch, progress: Progress) -> None:
        if batch.state is not BatchState.HELD:
            await tx.alerts.raise_alert(
                f"batch:{peer.name}:held",
                message=f"The {batch.engine} engine cannot go on with a batch to {peer.name}: {progress.reason}.",
                remedy=progress.remedy or "Do what the reason says; the batch goes on by itself.",
            )
        await tx.batches.progress(
            batch.id,
            state=BatchState.HELD,
            bytes_done=progress.bytes_done,
            reason=progress.reason,
            silent_since=progress.silent_since,
            next_try_at=utc_now(),
        )

    async def _ended(self, tx: Transaction, peer: Peer, batch: Batch, progress: Progress) -> None:
        guard.step("delivered without notice")
        has_succeeded = progress.phase is Phase.SUCCEEDED
        moved = await tx.batches.move(
            batch.id,
            BatchState.DELIVERED if has_succeeded else BatchState.FAILED,
            bytes_done=progress.bytes_done,
            reason=progress.reason or None,
        )
        if not moved:
            return
        ongoing = [t for t in await tx.outgoing.of_batch(batch.id) if t.state is TransferState.ONGOING]
        failed = {t.uuid: t for t in ongoing if not has_succeeded or t.uuid in progress.failed_items}
        delivered = [t for t in ongoing if t.uuid not in failed]
        await self._stage(tx, peer, batch, delivered)
        if failed:
            await self._failed(tx, peer, batch, progress, failed)

    async def _failed(
        self, tx: Transaction, peer: Peer, batch: Batch, progress: Progress, failed: Mapping[str, Outgoing]
    ) -> None:
        usable = [store.name for store in self.site.stores.fixed() if store.problem is None]
        sources = await tx.copies_due.sources([t.file_id for t in failed.values()], among=usable)
        for suspect in (failed[uuid] for uuid in progress.suspects if uuid in failed):
            await outcomes.doubt(
                tx, suspect, store=sources.get(suspect.file_id), why=progress.failed_items[suspect.uuid]
            )
        await tx.outgoing.unbatch(list(failed))
        soonest = await outcomes.record_failures(
            tx,
            peer,
            [_not_delivered(t, batch, progress, has_source=t.file_id in sources) for t in failed.values()],
            most=self.policy.quarantine_after,
        )
        if soonest is not None:
            self.site.bells.ring_in(soonest - utc_now(), "send")

    async def _stage(self, tx: Transaction, peer: Peer, batch: Batch, delivered: Sequence[Outgoing]) -> None:
        if not delivered:
            return
        await tx.outgoing.stage(batch.id, uuids=[t.uuid for t in delivered])
        await tx.outbox.put(
            [
                note(peer.id, t.uuid, "staged", Assertion(name=t.name, size=t.size, checksum=t.checksum))
                for t in delivered
            ]
        )
        now = utc_now()
        await tx.copies_due.turn(
            peer.id, [Turn(file_id=t.file_id, state=DueState.AWAITING, next_try_at=now) for t in delivered]
        )


def _not_delivered(transfer: Outgoing, batch: Batch, progress: Progress, *, has_source: bool) -> outcomes.Failed:
    # What befalls a whole batch, or a store of ours that is away, is no file's own fault.
    has_own_reason = transfer.uuid in progress.failed_items and transfer.uuid not in progress.given_up
    is_alone = has_own_reason or batch.files == 1
    return outcomes.Failed(
        file_id=transfer.file_id,
        name=transfer.name,
        code=outcomes.NOT_DELIVERED if is_alone else outcomes.BATCH_FAILED,
        reason=progress.failed_items.get(transfer.uuid, progress.reason),
        is_own=is_alone and has_source,
    )
