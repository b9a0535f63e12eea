"""Load: makes the copies that rules ask for on stores and drives of ours. What it stages, ingest verifies."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from librarian import guard, intake, outcomes, room
from librarian.catalog.incoming_rows import Failure
from librarian.catalog.loading import Setback
from librarian.catalog.records import Happening
from librarian.drives import no_room_cause
from librarian.errors import Draining, LibrarianError, NoRoom, SourceBad, Unavailable
from librarian.policies import MIB
from librarian.quantities import counted
from librarian.states import DriveState, DueState
from librarian.stores.base import Bringing
from librarian.tasks import filling, misfits
from librarian.tasks.base import Cadence, Task
from librarian.tasks.choosing import room_for
from librarian.tasks.claiming import BATCH_BYTES, BATCH_FILES, Claimer, Copy, Lading
from librarian.tasks.dealing import BEYOND
from librarian.tasks.lanes import cancel_all
from librarian.timing import retry_delay, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Set
    from datetime import datetime

    from librarian.catalog.loading import Target
    from librarian.catalog.transaction import Transaction
    from librarian.catalog.waiting import WaitingRule
    from librarian.names import StoreName, TransferId
    from librarian.room import Room
    from librarian.site import Site
    from librarian.timing import Budget

log = logging.getLogger(__name__)

#: What one trip to the threads of a store copies: small files together, large ones one by one.
SLICE_FILES: Final = 256
SLICE_BYTES: Final = 64 * MIB
#: Of bad copies on one store that are found together no more are told one by one.
MOST_TOLD: Final = 10
#: While so much is on its way to a store, nothing more is begun.
MOST_FILES: Final = 2 * BATCH_FILES
MOST_BYTES: Final = 4 * BATCH_BYTES
#: On a store on which nothing fits only what becomes due is tried for this long.
CRAMPED_FOR: Final = timedelta(minutes=1)
#: And so long nothing so large is tried on one that had less room than it said.
LOWER_FOR: Final = timedelta(minutes=10)


@dataclass(kw_only=True)
class Made:
    """What became of copies: in staging, or why not. Those that are in neither were not begun."""

    staged: list[Copy] = field(default_factory=list)
    #: In staging, but given up meanwhile.
    unwanted: list[Copy] = field(default_factory=list)
    failed: list[tuple[Copy, LibrarianError]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Ceiling:
    """The most that fits on a store, whatever it says that it has free; until then, by the monotonic clock."""

    bytes: int
    until: float


@dataclass(frozen=True, kw_only=True)
class _View:
    """What a look at the catalog and the stores found, before anything is claimed."""

    now: datetime
    waiting: Sequence[WaitingRule]
    targets: Sequence[Target]
    usable: dict[StoreName, Target]
    rooms: Sequence[Room]


class Load(Task[Lading, Made]):
    """Copies side by side onto every store that is to have copies: one lane for each, so that none waits for another.

    A store that goes away stops its lane alone: what was on its way there is due again.
    """

    name: ClassVar[str] = "load"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.cadence = Cadence(interval=timedelta(seconds=2))
        self._lanes: dict[StoreName, asyncio.Task[object]] = {}
        self._ceilings: dict[StoreName, _Ceiling] = {}
        self._turns = 0
        #: When nothing fitted on a store.
        self._cramped: dict[StoreName, datetime] = {}
        #: Drives may have become full since they were looked at.
        self._may_be_full = True
        #: The last plan settled something: there may be more to claim.
        self._has_settled = False
        #: What the next plan is made from; sampling a store is no work for a transaction.
        self._view: _View | None = None

    async def plan(self, tx: Transaction) -> Lading | None:
        """Claim for the first store that may have something."""
        claims = await self._claim(tx, self._view, most=1) if self._view is not None else []
        return claims[0] if claims else None

    async def run_pass(self, budget: Budget) -> int:
        """Keep every lane busy until nothing is left or *budget* is spent; returns how many batches were made."""
        rounds = 0
        failure: BaseException | None = None
        try:
            while True:
                if not budget.is_spent and failure is None:
                    await self._start_lanes()
                if not self._lanes:
                    break
                await self.site.bells.heard_beside(self.name, self._lanes.values())
                for store in [store for store, lane in self._lanes.items() if lane.done()]:
                    failure = self._lanes.pop(store).exception() or failure
                    rounds += 1
        finally:
            await cancel_all(self._lanes.values())
            self._lanes.clear()
        if failure is not None:
            raise failure
        return rounds

    async def _start_lanes(self) -> None:
        is_settling = True
        while is_settling:
            self._view = await self._look()
            if not (self._view.usable or self._cramped):
                return
            async with self.site.catalog.begin() as tx:
                claims = await self._claim(tx, self._view)
                is_settling = self._has_settled and not claims
        if claims:
            guard.step("row written")
        for claim in claims:
            self._lanes[claim.target] = asyncio.create_task(self.carry_out(claim), name=f"load: {claim.target}")

    async def _look(self) -> _View:
        now = utc_now()
        async with self.site.catalog.read() as tx:
            waiting = await tx.loading.rules(now)
            targets = await tx.loading.targets()
        wanted = filling.wanted(targets, waiting, with_drives=self._may_be_full)
        usable = {each.name: each for each in wanted if self._is_usable(each)}
        rooms = await room.sample_of([self.site.stores.lookup(name) for name in usable])
        return _View(now=now, waiting=waiting, targets=targets, usable=usable, rooms=rooms)

    def _is_usable(self, target: Target) -> bool:
        if not target.is_open or target.drive not in (None, DriveState.LOADING):
            return False
        return target.name in self.site.stores and self.site.stores.lookup(target.name).problem is None

    async def _claim(self, tx: Transaction, view: _View, *, most: int | None = None) -> list[Lading]:
        ledger = await room.ledger(tx, view.rooms, with_drives=True)
        now = time.monotonic()
        # What was away may be another disk by now, or wiped.
        self._ceilings = {name: c for name, c in self._ceilings.items() if c.until > now and name in view.usable}
        drives = {each.name for each in view.targets if each.drive is not None}
        readable = sorted(self.site.stores.writable(), key=lambda store: (store.name in drives, store.name))
        claimer = Claimer(
            tx=tx,
            site=self.site.name,
            now=view.now,
            waiting=view.waiting,
            targets=view.targets,
            usable=view.usable,
            readable=[store.name for store in readable],
            ledger=ledger,
            ceilings={name: ceiling.bytes for name, ceiling in self._ceilings.items()},
            # A little more: what is written down late became due earlier.
            since={name: at - CRAMPED_FOR for name, at in self._cramped.items() if at <= view.now < at + CRAMPED_FOR},
            turns=self._turns,
        )
        claims: list[Lading] = []
        full = await self._tell_past_mark(tx, view)
        for target in sorted(view.usable.values(), key=lambda each: ledger.left_on(each.name)):
            is_busy = target.name in self._lanes or _has_much_coming(target)
            if is_busy or target.name in full or len(claims) == most:
                continue
            claim = await claimer.claim_for(target)
            if claim is not None:
                claims.append(claim)
        self._turns += 1
        self._has_settled = claimer.has_settled
        await self._note_cramped(tx, view, claimer, busy=self._lanes.keys() | {claim.target for claim in claims})
        return claims

    async def _note_cramped(self, tx: Transaction, view: _View, claimer: Claimer, *, busy: Set[StoreName]) -> None:
        for name, cramped in claimer.cramped.items():
            # What is still on its way there counts twice, as promised and as written: wait and see.
            if not view.usable[name].expected.files:
                self._cramped[name] = view.now
                await filling.tell_cramped(tx, view.usable[name], cramped)
        if not claimer.has_settled:
            relieved = self._cramped.keys() - claimer.since.keys() - claimer.cramped.keys() - busy
            await tx.alerts.acknowledge([no_room_cause(name) for name in relieved])
            self._cramped = {name: at for name, at in self._cramped.items() if name not in relieved}

    async def _tell_past_mark(self, tx: Transaction, view: _View) -> set[StoreName]:
        full: set[StoreName] = set()
        self._may_be_full = False
        for each in view.rooms:
            target = view.usable[each.store]
            if target.expected.files or each.store in self._lanes:
                self._may_be_full = True
            elif each.capacity is not None and filling.is_past_mark(target, each.capacity):
                full.add(each.store)
                await filling.tell_full(tx, target, why=f"{target.full_at / 10:g} % of it are in use")
        return full

    async def act(self, plan: Lading) -> Made:
        """Copy, slice by slice; when the target is gone, the rest is not begun."""
        made = Made()
        for source, copies in _slices(plan.copies):
            try:
                answers = await self._bring(plan.target, source, copies)
            except LibrarianError as error:
                made.failed += [(copy, error) for copy in copies]
                continue
            for copy, answer in zip(copies, answers, strict=True):
                if answer is None:
                    made.staged.append(copy)
                else:
                    made.failed.append((copy, answer))
        return made

    async def _bring(self, target: StoreName, source: StoreName, copies: Sequence[Copy]) -> list[LibrarianError | None]:
        store = self.site.stores.lookup(target)
        root_fd = await self.site.stores.lookup(source).lend_root()
        try:
            return await store.bring([_bringing(copy) for copy in copies], root_fd=root_fd)
        finally:
            os.close(root_fd)

    async def record(self, tx: Transaction, plan: Lading, result: Made) -> None:
        """Hand what is there to ingest; what is not there is due again, and a bad source is none until it was read."""
        moved = await tx.loading.staged([copy.transfer for copy in result.staged])
        result.unwanted = [copy for copy in result.staged if copy.transfer.id not in moved]
        bad = [(copy, error) for copy, error in result.failed if not isinstance(error, Unavailable)]
        await tx.claims.fail(
            [Failure(id=copy.transfer.id, code=error.code, reason=error.message) for copy, error in bad]
        )
        put_off: defaultdict[tuple[str, str], list[TransferId]] = defaultdict(list)
        for copy, error in result.failed:
            if isinstance(error, Unavailable):
                put_off[error.code, error.message].append(copy.transfer.id)
        for (code, reason), transfers in put_off.items():
            await tx.incoming.cancel(transfers, code=code, reason=reason)
        await tx.loading.put_off([_setback(copy, error) for copy, error in result.failed])
        await self._blame(tx, [(copy, error) for copy, error in bad if isinstance(error, SourceBad)])
        await misfits.note(
            tx,
            plan.target,
            [(copy.due.file_id, copy.due.name, error) for copy, error in bad if isinstance(error, misfits.NEVER)],
        )
        refused = [(copy, error) for copy, error in bad if not isinstance(error, (SourceBad, *misfits.NEVER))]
        if refused:
            copy, error = refused[0]
            await tx.alerts.raise_alert(
                f"cannot-load:{plan.target}:{error.code}",
                message=f"{counted(len(refused))} cannot be copied onto {plan.target}, {copy.due.name} among them: "
                f"{error.message}",
                remedy=error.remedy,
            )

    async def _blame(self, tx: Transaction, bad: Sequence[tuple[Copy, LibrarianError]]) -> None:
        by_source: defaultdict[StoreName, list[tuple[Copy, LibrarianError]]] = defaultdict(list)
        for copy, error in bad:
            by_source[copy.source].append((copy, error))
        for source, found in by_source.items():
            await tx.suspects.mark([copy.due.file_id for copy, _ in found], store=source)
            await tx.events.tell(
                [
                    Happening(subject=copy.due.name, what=f"doubted on {source}", who=self.name, why=error.message)
                    for copy, error in found
                ]
            )
            for copy, error in found[:MOST_TOLD]:
                await tx.alerts.raise_alert(
                    outcomes.suspect_cause(copy.due.name),
                    message=f"A copy of {copy.due.name} on {source} did not read as it should: {error.message}.",
                    remedy=error.remedy,
                )
            if len(found) > MOST_TOLD:
                await tx.alerts.raise_alert(
                    f"store-doubted:{source}",
                    message=f"{len(found):,} copies on {source} did not read as they should, one after another.",
                    remedy=f"Look at the disk behind {source}, and whether the right one is mounted there.",
                )

    async def carry_out(self, plan: Lading) -> Made:
        """Act and record; then wake whoever goes on, and clear what is left of what failed."""
        made = await super().carry_out(plan)
        guard.step("STAGED")
        self._may_be_full = True
        if made.failed:
            first, why = made.failed[0]
            some = first.due.name if len(made.failed) == 1 else f"{len(made.failed):,} files, {first.due.name} first,"
            log.warning("Cannot copy %s onto %s: %s", some, plan.target, why)
        for copy, error in made.failed:
            if isinstance(error, NoRoom):
                known = self._ceilings.get(plan.target, _Ceiling(bytes=BEYOND, until=0.0))
                lower = min(known.bytes, room_for(copy.due) - 1)
                self._ceilings[plan.target] = _Ceiling(bytes=lower, until=time.monotonic() + LOWER_FOR.total_seconds())
        if made.staged:
            self.site.bells.ring(intake.INGEST_BELL)
        if any(isinstance(error, SourceBad) for _, error in made.failed):
            self.site.bells.ring("reread")
        leftover = [*made.unwanted, *(copy for copy, _ in made.failed)]
        await intake.clear(self.site, [copy.transfer for copy in leftover])
        return made

    async def give_up(self, tx: Transaction, plan: Lading, error: Exception) -> None:
        """Nothing of it is in staging for sure: all is due again."""
        reason = str(error) or type(error).__name__
        code = error.code if isinstance(error, LibrarianError) else "bug"
        await tx.incoming.cancel([copy.transfer.id for copy in plan.copies], code=code, reason=reason)
        now = utc_now()
        is_own = not isinstance(error, Draining)
        await tx.loading.put_off(
            [
                Setback(
                    owed=copy.owed,
                    state=DueState.DUE,
                    next_try_at=now + retry_delay(copy.due.attempts + 1) if is_own else now,
                    code=code,
                    reason=reason,
                    failed=is_own,
                )
                for copy in plan.copies
            ]
        )

    async def recover(self, tx: Transaction) -> None:
        """What was being copied when the process died is due again; what it left in staging is cleared by and by."""
        await tx.loading.abandon(None, reason="the server stopped while it was copied")
        # A store may stand on another file system by now.
        await tx.misfits.look_again()
        await tx.misfits.forget()


def _has_much_coming(target: Target) -> bool:
    """Ingest is to keep up, or what is on its way to a drive that is pulled out would have no bound."""
    return target.expected.files >= MOST_FILES or target.expected.bytes >= MOST_BYTES


def _bringing(copy: Copy) -> Bringing:
    due = copy.due
    return Bringing(
        token=copy.transfer.token, name=due.name, kind=due.kind, checksum=due.checksum, replaces=copy.replaces
    )


def _slices(copies: Sequence[Copy]) -> Iterator[tuple[StoreName, list[Copy]]]:
    """*copies* in portions that one trip makes, each from one source."""
    by_source: defaultdict[StoreName, list[Copy]] = defaultdict(list)
    for copy in copies:
        by_source[copy.source].append(copy)
    for source, its in by_source.items():
        portion: list[Copy] = []
        size = 0
        for copy in its:
            if portion and (len(portion) >= SLICE_FILES or size + copy.due.size > SLICE_BYTES):
                yield source, portion
                portion, size = [], 0
            portion.append(copy)
            size += copy.due.size
        yield source, portion


def _setback(copy: Copy, error: LibrarianError) -> Setback:
    now = utc_now()
    # From another source, or onto another store, at once; otherwise later each time.
    is_at_once = isinstance(error, (SourceBad, NoRoom, *misfits.NEVER))
    return Setback(
        owed=copy.owed,
        state=DueState.DUE,
        next_try_at=now if is_at_once else now + retry_delay(copy.due.attempts + 1),
        code=error.code,
        reason=error.message,
        failed=not isinstance(error, NoRoom),
    )
