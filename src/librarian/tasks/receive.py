"""Receive: reads the drives of peers into staging, portion by portion; ingest goes on with what is whole there.

Several drives are read side by side, each by a lane of its own. One that is unplugged, hangs, or finds no room here
waits, with an alert, and goes on by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from librarian import accepting, guard, intake, manifest, receiving, room
from librarian.catalog.incoming_rows import Failure
from librarian.catalog.records import Happening
from librarian.errors import (
    DatabaseUnavailable,
    LibrarianError,
    NotFound,
    OwnedElsewhere,
    StoreUnavailable,
    Unavailable,
)
from librarian.states import ReceptionState, TransferState
from librarian.stores.drive import Seeker
from librarian.stores.parcels import Flaw, Pouring
from librarian.suitcase import PORTION_FILES, Suitcase
from librarian.tasks.base import Cadence, Task
from librarian.tasks.lanes import cancel_all
from librarian.timing import retry_delay, utc_now
from librarian.wire.manifest import Head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.receptions import Reception
    from librarian.catalog.records import Incoming
    from librarian.catalog.transaction import Transaction
    from librarian.names import ReceptionId, StoreName
    from librarian.site import Site
    from librarian.stores.parcels import Poured
    from librarian.timing import Budget
    from librarian.wire.manifest import Entry

log = logging.getLogger(__name__)

#: Entries that are copied before their outcome is written down, and their bytes: at least one entry.
COPY_FILES: Final = 256
COPY_BYTES: Final = 256 * 1024**2
#: A drive that cannot be read, or finds no room, is tried again at least so often.
LONGEST_WAIT: Final = timedelta(minutes=1)
#: One that is plugged in nowhere is looked for so often.
SEEK_EVERY: Final = timedelta(seconds=5)
#: A place that does not say who stands there for this long is left for the next look.
PATIENCE: Final = timedelta(seconds=3)


@dataclass(frozen=True, kw_only=True)
class Copying:
    """Entries of one drive that are to be copied now."""

    reception: Reception
    transfers: tuple[Incoming, ...]


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What became of them."""

    whole: Sequence[Incoming] = ()
    #: With the code and the reason.
    bad: Sequence[tuple[Incoming, str, str]] = ()
    #: Why the others were not copied.
    obstacle: Unavailable | None = None


@dataclass(kw_only=True)
class _Lane:
    """One drive that is being read, and what is known of it for now."""

    case: Suitcase
    task: asyncio.Task[None] | None = None
    #: Entries that were judged last, by the uuids of their transfers.
    entries: dict[str, Entry] = field(default_factory=dict)
    #: Times in a row that it could not go on.
    failures: int = 0


class Receive(Task[Copying, Copied]):
    """Copies what the drives of peers carry, and writes down what each entry became."""

    name: ClassVar[str] = "receive"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.cadence = Cadence(interval=timedelta(seconds=5))
        self._lanes: dict[ReceptionId, _Lane] = {}
        self._seeker = Seeker(PATIENCE)

    async def run_pass(self, budget: Budget) -> int:
        """Read every drive as far as it goes now; returns how many lanes ended."""
        rounds = 0
        failure: BaseException | None = None
        try:
            while True:
                if not budget.is_spent and failure is None:
                    await self._start_lanes(budget)
                running = self._running()
                if not running:
                    break
                await self.site.bells.heard_beside(self.name, running)
                for lane in [lane for lane in self._lanes.values() if lane.task is not None and lane.task.done()]:
                    failure = failure or (lane.task.exception() if lane.task is not None else None)
                    lane.task = None
                    rounds += 1
        finally:
            await self._stop_lanes()
        if failure is not None:
            raise failure
        return rounds

    def _lane_of(self, reception: Reception) -> _Lane:
        meter = self.site.meters.being_received

        def heard(count: int) -> None:
            meter[reception.id] = meter.get(reception.id, 0) + count

        return _Lane(
            case=Suitcase(Path(reception.path), name=reception.drive, head=_head_of(reception), on_bytes=heard)
        )

    def _running(self) -> list[asyncio.Task[None]]:
        return [lane.task for lane in self._lanes.values() if lane.task is not None]

    async def _start_lanes(self, budget: Budget) -> None:
        async with self.site.catalog.read() as tx:
            live = await tx.receptions.live(now=utc_now())
            receptions = await tx.receptions.with_ids(live)
        for reception in receptions.values():
            lane = self._lanes.get(reception.id) or self._lane_of(reception)
            self._lanes[reception.id] = lane
            if lane.task is None:
                lane.task = asyncio.create_task(
                    self._run_lane(reception.id, lane, budget), name=f"receive: {reception.drive}"
                )

    async def _stop_lanes(self) -> None:
        await cancel_all(self._running())
        for lane in self._lanes.values():
            lane.task = None

    async def _run_lane(self, id_: ReceptionId, lane: _Lane, budget: Budget) -> None:
        while not budget.is_spent:
            async with self.site.catalog.read() as tx:
                reception = (await tx.receptions.with_ids([id_])).get(id_)
            if reception is None or reception.state is not ReceptionState.RECEIVING:
                self._forget(id_)
                return
            if str(lane.case.path) != reception.path:
                lane.case.look_anew(Path(reception.path))
            try:
                if await self._go_on(reception, lane):
                    self._forget(id_)
                    return
            except (DatabaseUnavailable, OwnedElsewhere):
                raise
            except LibrarianError as error:
                places = await self._seek(reception)
                if not places or lane.case.path in places:
                    await self._wait(reception, lane, error, is_absent=not places)
                    return
                await self._move(reception, places[0])
            else:
                lane.failures = 0

    async def _seek(self, reception: Reception) -> list[Path]:
        """Where the drive is plugged in now."""
        head = _head_of(reception)
        claims = await self._seeker.look([Path(reception.path)])
        wanted = (head.store, head.generation)
        return [each.path for each in claims if (each.identity.uuid, each.identity.generation) == wanted]

    async def _move(self, reception: Reception, place: Path) -> None:
        async with self.site.catalog.begin() as tx:
            await tx.receptions.move(reception.id, path=str(place))
        log.info(
            "Found drive %s at %s",
            reception.drive,
            place,
            extra={"event": "drive-found", "reception": reception.uuid},
        )

    def _forget(self, id_: ReceptionId) -> None:
        lane = self._lanes.pop(id_, None)
        if lane is not None:
            lane.case.close()
        self.site.meters.being_received.pop(id_, None)

    async def _go_on(self, reception: Reception, lane: _Lane) -> bool:
        """Copy what was judged; else judge more; whether nothing is left to do."""
        async with self.site.catalog.read() as tx:
            waiting = await tx.receptions.open_entries(reception.id, limit=COPY_FILES)
        if waiting:
            if any(each.uuid not in lane.entries for each in waiting):
                await self._recall(reception, lane, waiting)
            done = await self.carry_out(Copying(reception=reception, transfers=_bounded(waiting)))
            if done.obstacle is not None:
                raise done.obstacle
            return False
        if reception.entries < _head_of(reception).files:
            await self._judge(reception, lane)
            return False
        return await self._end(reception)

    async def _judge(self, reception: Reception, lane: _Lane) -> None:
        """The next entries become incoming transfers, as far as there is room."""
        entries = await lane.case.entries(after=reception.entries)
        if reception.reason is not None:
            # Reservations shrink as bytes come in; what had no room before is worth another look.
            await room.look_again(self.site)
        rooms = await room.sample(self.site)
        lane.entries = {entry.uuid: entry for entry in entries}
        async with self.site.catalog.begin(opens_names=True) as tx:
            admission = await receiving.admit(tx, reception, entries, rooms=rooms)
            if admission.entries:
                await self._went_on(tx, reception)
        guard.step("row written")
        self.site.bells.ring("deliver")
        if not admission.entries and admission.shortage is not None:
            raise admission.shortage

    async def _recall(self, reception: Reception, lane: _Lane, waiting: Sequence[Incoming]) -> None:
        """Find the lines of what an earlier process has judged: it is never far behind."""
        wanted = {each.uuid for each in waiting}
        after = max(0, reception.entries - PORTION_FILES)
        while wanted - lane.entries.keys() and after < reception.entries:
            entries = await lane.case.entries(after=after)
            lane.entries |= {entry.uuid: entry for entry in entries if entry.uuid in wanted}
            after += len(entries)
        if missing := wanted - lane.entries.keys():
            raise StoreUnavailable(
                f"{len(missing):,} of the transfers that were opened for {reception.drive} are not in its manifest",
                remedy="Plug in the drive that was received before.",
            )

    async def act(self, plan: Copying) -> Copied:
        """Copy each into its store's staging, from the drive."""
        lane = self._lanes[plan.reception.id]
        by_store: defaultdict[StoreName, list[Incoming]] = defaultdict(list)
        for each in plan.transfers:
            by_store[each.store].append(each)
        whole: list[Incoming] = []
        bad: list[tuple[Incoming, str, str]] = []
        obstacle: Unavailable | None = None
        for name, transfers in by_store.items():
            for transfer, poured in zip(transfers, await self._pour(name, transfers, lane), strict=True):
                if poured is None:
                    whole.append(transfer)
                elif isinstance(poured, Flaw):
                    bad.append((transfer, poured.damage.value, _told(poured)))
                elif isinstance(poured, Unavailable):
                    obstacle = poured
                else:
                    # Nothing is wrong with the drive.
                    bad.append((transfer, poured.code, poured.message))
        guard.step("copied but not recorded")
        return Copied(whole=whole, bad=bad, obstacle=obstacle)

    async def _pour(self, name: StoreName, transfers: Sequence[Incoming], lane: _Lane) -> Sequence[Poured]:
        try:
            store = self.site.stores.lookup(name)
            await store.stage([each.token for each in transfers])
            items = [_pouring(each, lane.entries[each.uuid]) for each in transfers]
            return await store.pour(items, source=lane.case, lane=lane.case.lane)
        except Unavailable as error:
            return [error] * len(transfers)
        except NotFound as error:
            return [StoreUnavailable(error.message, remedy="Configure the store again.")] * len(transfers)

    async def record(self, tx: Transaction, plan: Copying, result: Copied) -> None:
        """What is whole is staged; what is bad fails, and its sender is told; the rest is tried again."""
        await tx.incoming.advance([each.id for each in result.whole], to=TransferState.STAGED)
        failed = await tx.claims.fail([Failure(id=each.id, code=code, reason=why) for each, code, why in result.bad])
        bad = [_bad(each, code, why) for each, code, why in result.bad if each.id in failed]
        await receiving.tell_bad(tx, plan.reception, bad)
        if result.whole or result.bad:
            await self._went_on(tx, plan.reception)

    async def carry_out(self, plan: Copying) -> Copied:
        """Act and record; then wake ingest, and clear what is bad."""
        result = await super().carry_out(plan)
        self.site.meters.being_received.pop(plan.reception.id, None)
        guard.step("STAGED")
        if result.whole:
            self.site.bells.ring("ingest")
        if result.bad:
            self.site.bells.ring("deliver")
            await intake.clear(self.site, [each for each, _, _ in result.bad])
        return result

    async def plan(self, tx: Transaction) -> Copying | None:
        """Nothing is claimed here: each lane has a reception, and is the only one that reads it."""
        return None

    async def _went_on(self, tx: Transaction, reception: Reception) -> None:
        await tx.receptions.went_on(reception.id)
        if reception.reason is not None:
            await tx.alerts.acknowledge([receiving.waits_cause(reception)])

    async def _wait(self, reception: Reception, lane: _Lane, error: LibrarianError, *, is_absent: bool = False) -> None:
        lane.failures += 1
        lane.case.look_anew(lane.case.path)
        # One that hangs is not asked so often: each time may cost a thread.
        is_absent = is_absent and lane.case.lane.silence is None
        delay = SEEK_EVERY if is_absent else min(retry_delay(lane.failures), LONGEST_WAIT)
        async with self.site.catalog.begin() as tx:
            await tx.receptions.wait(reception.id, reason=error.message, until=utc_now() + delay)
            if error.message != reception.reason:
                log.warning(
                    "Cannot go on with drive %s: %s",
                    reception.drive,
                    error,
                    extra={"event": "drive-waits", "code": error.code},
                )
                await tx.alerts.raise_alert(
                    receiving.waits_cause(reception),
                    message=f"Receiving the drive {reception.drive} of {reception.origin} waits: {error.message}",
                    remedy=error.remedy,
                )
        self.site.bells.ring_in(delay, self.name)

    async def _end(self, reception: Reception) -> bool:
        async with self.site.catalog.begin() as tx:
            if await tx.receptions.end(reception.id, state=ReceptionState.READ):
                await tx.alerts.acknowledge([receiving.waits_cause(reception)])
                await tx.events.tell(
                    [
                        Happening(
                            subject=accepting.subject_of(reception),
                            what="read whole",
                            who=self.name,
                            why=f"the drive {reception.drive} is needed here no longer",
                        )
                    ]
                )
        guard.step("drive read")
        log.info("Read drive %s", reception.drive, extra={"event": "drive-read", "reception": reception.uuid})
        return True


def _head_of(reception: Reception) -> Head:
    return Head.model_validate_json(reception.head)


def _bounded(waiting: Sequence[Incoming]) -> tuple[Incoming, ...]:
    before = accumulate((each.size for each in waiting), initial=0)
    return tuple(each for each, size in zip(waiting, before, strict=False) if size < COPY_BYTES)


def _pouring(transfer: Incoming, entry: Entry) -> Pouring:
    assert transfer.checksum is not None  # noqa: S101 - the manifest promises one
    return Pouring(
        token=transfer.token,
        name=transfer.name,
        kind=transfer.kind,
        size=transfer.size,
        checksum=transfer.checksum,
        members=manifest.members_of(entry),
    )


def _told(flaw: Flaw) -> str:
    return flaw.reason if flaw.member is None else f"{flaw.member}: {flaw.reason}"


def _bad(transfer: Incoming, code: str, why: str) -> receiving.BadEntry:
    return receiving.BadEntry(
        uuid=transfer.uuid,
        name=transfer.name,
        size=transfer.size,
        checksum=transfer.checksum,
        code=code,
        reason=why,
    )
