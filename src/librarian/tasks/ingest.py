"""Ingest: the one way in. Staged bytes of uploads and clones are verified, published and recorded here alone."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from librarian import guard, intake
from librarian.catalog.incoming_rows import Delay
from librarian.errors import Draining, LibrarianError, NotFound, StoreUnavailable
from librarian.policies import IngestPolicy
from librarian.states import TransferState
from librarian.tasks import dealing, recording, replacing, verifying
from librarian.tasks.base import Cadence, Task
from librarian.tasks.lanes import cancel_all
from librarian.tasks.verifying import Bad, Good, Later
from librarian.timing import retry_delay, utc_now
from librarian.turns import in_turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.records import Incoming
    from librarian.catalog.transaction import Transaction
    from librarian.site import Site
    from librarian.tasks.dealing import Lane
    from librarian.tasks.verifying import Outcome
    from librarian.timing import Budget

log = logging.getLogger(__name__)

#: A transfer that failed unexpectedly so often, at last alone, is shown to a person.
ALERT_AFTER: Final = 5
#: A staged transfer that waits longer for its store is shown to a person.
ALERT_WAITING: Final = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Transfers of one store, in the hands of one lane."""

    lane: Lane
    transfers: tuple[Incoming, ...]


class Ingest(Task[Claim, "list[Outcome]"]):
    """Verifies, publishes and records what is staged, several batches side by side; see ``dealing`` for which."""

    name: ClassVar[str] = intake.INGEST_BELL

    def __init__(self, site: Site, policy: IngestPolicy | None = None) -> None:
        super().__init__(site)
        self.policy = policy or IngestPolicy()
        self.cadence = Cadence(interval=self.policy.interval)
        self._running: dict[Lane, asyncio.Task[object]] = {}
        #: What each lane has recorded, until it is told.
        self._ended: dict[Lane, list[Incoming]] = {}
        #: Something that was recorded is to be sent, and the bell was not rung yet.
        self._owes = False
        #: The last look at the catalog left something behind, or a bell rang since.
        self._has_more = True
        #: The last look left out what busy lanes will take up: whoever ends looks again.
        self._was_partial = False

    async def plan(self, tx: Transaction) -> Claim | None:
        """Claim one batch."""
        claims = await self._claim(tx, most=1)
        return claims[0] if claims else None

    async def _claim(self, tx: Transaction, *, most: int | None = None) -> list[Claim]:
        limit = 2 * self.policy.batch_files
        stores = [store for store in self.site.stores if store.problem is not None]
        candidates = await tx.claims.candidates(
            now=utc_now(), limit=limit, except_for=dealing.closed(self._running, [store.name for store in stores])
        )
        self._was_partial = bool(self._running)
        batches = dealing.deal(candidates, busy=self._running, policy=self.policy)[:most]
        claimed = {
            transfer.id: transfer
            for transfer in await tx.claims.claim([each.id for batch in batches for each in batch.candidates])
        }
        self._has_more = len(candidates) == limit or len(claimed) < len(candidates)
        return [
            Claim(lane=batch.lane, transfers=tuple(claimed[each.id] for each in batch.candidates if each.id in claimed))
            for batch in batches
        ]

    async def run_pass(self, budget: Budget) -> int:
        """Keep every lane busy until nothing is left or *budget* is spent; returns how many batches were done.

        A batch that fails unexpectedly does not hold up the other lanes; its error is raised at the end.
        """
        rounds = 0
        failure: BaseException | None = None
        self._has_more = True
        try:
            while True:
                if self._has_more and not budget.is_spent:
                    await self._start_lanes()
                if not self._running:
                    break
                if await self.site.bells.heard_beside(self.name, self._running.values()):
                    self._has_more = True
                for lane in [lane for lane, task in self._running.items() if task.done()]:
                    ended = self._running.pop(lane)
                    failure = failure or ended.exception()
                    rounds += 1
                    self._has_more = self._has_more or self._was_partial
        finally:
            await cancel_all(self._running.values())
            self._running.clear()
        if failure is not None:
            raise failure
        return rounds

    async def _start_lanes(self) -> None:
        async with self.site.catalog.begin() as tx:
            claims = await self._claim(tx)
        if claims:
            guard.step("claimed")
        for claim in claims:
            self._running[claim.lane] = asyncio.create_task(
                self.carry_out(claim), name=f"ingest: {claim.lane.store} {claim.lane.weight.name.lower()}"
            )

    async def act(self, plan: Claim) -> list[Outcome]:
        """Verify and publish; only where a corrupt copy is in the way is the catalog asked about it."""
        try:
            store = self.site.stores.lookup(plan.lane.store)
        except NotFound as error:
            away = StoreUnavailable(error.message, remedy="Configure the store again; what is staged there waits.")
            return [Later(transfer=transfer, error=away) for transfer in plan.transfers]
        outcomes = await verifying.verify(store, self.site.pool, plan.transfers)
        return await replacing.replace_bad_copies(self.site, store, outcomes)

    async def record(self, tx: Transaction, plan: Claim, result: list[Outcome]) -> None:
        """Write files, instances, listings, events, totals, what is owed, and the transfers' ends: one transaction."""
        now = utc_now()
        good = [each for each in result if isinstance(each, Good)]
        recorded = await recording.record_good(tx, good, now=now)
        self._owes = recorded.owes or self._owes
        bad: list[Bad] = [*recorded.bad, *(each for each in result if isinstance(each, Bad))]
        await recording.record_bad(tx, bad)
        self._ended[plan.lane] = [*await in_turns(_ended, recorded.good), *await in_turns(_ended, bad)]
        later = [each for each in result if isinstance(each, Later)]
        await tx.claims.release([_delay(each) for each in later])
        await recording.alert_waiting(tx, [each for each in later if now - each.transfer.progressed_at > ALERT_WAITING])

    async def carry_out(self, plan: Claim) -> list[Outcome]:
        """Act and record; then tell those who wait, and clear what is left in staging."""
        self._ended.pop(plan.lane, None)
        try:
            result = await super().carry_out(plan)
        except asyncio.CancelledError:
            # What was recorded just as we were stopped: whoever waits for it is still there to hear it.
            intake.tell(self.site, self._ended.pop(plan.lane, []))
            raise
        guard.step("recorded but not answered")
        if self._owes:
            self._owes = False
            for bell in ("send", "load"):
                self.site.bells.ring(bell)
        if any(each.rule_id is not None for each in plan.transfers):
            self.site.bells.ring("load")
        ended = self._ended.pop(plan.lane)
        intake.tell(self.site, [each for each in ended if not each.has_staging])
        outcomes: defaultdict[type[Outcome], list[Outcome]] = defaultdict(list)
        for each in result:
            outcomes[type(each)].append(each)
        self._report(plan, outcomes[Good], outcomes[Bad], outcomes[Later])
        leftover = [each.transfer for each in result if _leaves_staging(each)]
        try:
            await intake.clear(self.site, leftover)
        finally:
            # Whoever hears of a refusal finds staging gone; where it cannot be cleared now, that is no reason to wait.
            intake.tell(self.site, [each for each in ended if each.has_staging])
        return result

    def _report(self, plan: Claim, good: Sequence[Outcome], bad: Sequence[Outcome], later: Sequence[Outcome]) -> None:
        store = plan.lane.store
        if good:
            names = good[0].transfer.name if len(good) == 1 else f"{len(good):,} files"
            log.info("Ingested %s onto %s", names, store, extra={"event": "ingested", "store": store})
        if any(each.transfer.peer_id is not None for each in (*good, *bad)):
            self.site.bells.ring("deliver")
        for each in bad:
            if isinstance(each, Bad):
                log.log(
                    logging.ERROR if each.alerts else logging.WARNING,
                    "Cannot ingest %s: %s",
                    each.transfer.name,
                    each.error,
                    extra={"event": "ingest-refused", "transfer": each.transfer.uuid, "code": each.error.code},
                )
        if later:
            waits = [_delay(each) for each in later if isinstance(each, Later)]
            first = min(wait.until for wait in waits)
            log.warning("Cannot ingest %d files onto %s yet: %s", len(later), store, waits[0].reason)
            self._ring_at(first - utc_now())

    def _ring_at(self, delay: timedelta) -> None:
        seconds = max(delay.total_seconds(), 0) + 0.01
        asyncio.get_running_loop().call_later(seconds, self.site.bells.ring, self.name)

    async def give_up(self, tx: Transaction, plan: Claim, error: Exception) -> None:
        """Back to STAGED; after an unexpected error in smaller batches, so that one bad item ends up alone."""
        is_suspicious = not isinstance(error, Draining)
        code = error.code if isinstance(error, LibrarianError) else "bug"
        now = utc_now()
        await tx.claims.release(
            [
                Delay(
                    id=each.id,
                    until=now + retry_delay(each.attempts + 1) if is_suspicious else now,
                    code=code,
                    reason=str(error) or type(error).__name__,
                    is_suspicious=is_suspicious,
                )
                for each in plan.transfers
            ]
        )
        if is_suspicious and plan.transfers[0].attempts + 1 >= ALERT_AFTER:
            await recording.alert_stuck(tx, plan.transfers[0], error)

    async def recover(self, tx: Transaction) -> None:
        """Take back every claim: no lane runs when this is called."""
        taken_back = await tx.claims.take_back()
        if taken_back:
            log.info("Took back %d unfinished ingests", taken_back, extra={"event": "ingest-recovered"})


def _ended(outcome: Good | Bad) -> Incoming:
    """The transfer as it was written down."""
    if isinstance(outcome, Good):
        return replace(
            outcome.transfer,
            state=TransferState.COMPLETED,
            code=None,
            reason=None,
            has_staging=outcome.has_staging,
        )
    error = outcome.error
    return replace(outcome.transfer, state=TransferState.FAILED, code=error.code, reason=error.message)


def _leaves_staging(outcome: Outcome) -> bool:
    return isinstance(outcome, Bad) or (isinstance(outcome, Good) and outcome.has_staging)


def _delay(later: Later) -> Delay:
    """When to look again: at once at first, then the later the longer it has been waiting already."""
    now = utc_now()
    waited = now - later.transfer.progressed_at
    pause = min(max(waited * 0.2, timedelta(seconds=0.5)), timedelta(minutes=1))
    return Delay(id=later.transfer.id, until=now + pause, code=later.error.code, reason=later.error.message)
