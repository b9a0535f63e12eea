"""Clear: forgets the copies on drives that were released or lost; what was not confirmed is due again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from librarian import guard, replication
from librarian.catalog.records import Tally
from librarian.names import FileId
from librarian.releasing import CLEARED
from librarian.replication import Assertion
from librarian.states import DriveState, Presence
from librarian.tasks.base import Cadence, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.clearing import Resting
    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName
    from librarian.site import Site
    from librarian.timing import Budget

#: Copies in one transaction.
FILES: Final = 2000


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Copies on one drive that are to be forgotten."""

    drive: DriveRecord
    copies: Sequence[Resting]


class Clear(Task[Portion, None]):
    """Forgets copies, portion by portion; each is one transaction, and nothing is forgotten twice."""

    name: ClassVar[str] = "clear"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.cadence = Cadence(interval=timedelta(seconds=30))
        #: Up to where each drive was looked through in this pass.
        self._after: dict[StoreName, FileId] = {}

    async def run_pass(self, budget: Budget) -> int:
        """Look through the drives from their first files on."""
        self._after.clear()
        return await super().run_pass(budget)

    async def plan(self, tx: Transaction) -> Portion | None:
        """The next copies on a drive that was released or lost."""
        for drive in await tx.drives.all():
            if drive.state in CLEARED and drive.files > 0:
                after = self._after.get(drive.name, FileId(0))
                copies = await tx.clearing.left_on(drive, after=after, limit=FILES)
                if copies:
                    self._after[drive.name] = copies[-1].file_id
                    return Portion(drive=drive, copies=copies)
        return None

    async def carry_out(self, plan: Portion) -> None:
        """Wake whoever sends and loads what is due again, and tells of what is gone."""
        await super().carry_out(plan)
        guard.step("copies forgotten")
        for bell in ("load", "send", "deliver"):
            self.site.bells.ring(bell)

    async def act(self, plan: Portion) -> None:
        """Nothing on any disk is touched."""

    async def record(self, tx: Transaction, plan: Portion, result: None) -> None:
        """Forget them, end what they were to pay, and let that be due again."""
        drive, files = plan.drive, [copy.file_id for copy in plan.copies]
        was_lost = drive.state is DriveState.LOST
        await tx.clearing.forget(drive, files, presence=Presence.MISSING if was_lost else Presence.REMOVED)
        code, reason = ("drive_lost", "lost") if was_lost else ("drive_released", "released")
        why = f"the drive {drive.name} was {reason}"
        await tx.clearing.call_off(drive, files, code=code, reason=why)
        if was_lost:
            await replication.copies_lost(tx, drive.name, plan.copies)
        else:
            # Given up on purpose: what a peer is to get is due again, what was to rest here is not.
            await tx.loading.unload(files)
        await tx.told.lock(files)
        left = await tx.instances.left_of(files)
        last = [copy for copy in plan.copies if copy.file_id not in left]
        code = Presence.MISSING if was_lost else replication.WITHDRAWN
        await replication.tell_gone(tx, {copy.file_id: _loss(copy, drive.name, code, why) for copy in last})
        await tx.tallies.add_many({f"store:{drive.name}": _total(plan.copies), "held": _total(last)})


def _loss(copy: Resting, store: StoreName, code: str, reason: str) -> Assertion:
    """What peers hear that were told of *copy*, the last one here."""
    return Assertion(
        name=copy.name, size=copy.size, checksum=copy.checksum, store=store, code=code, reason=f"{reason}, with it"
    )


def _total(copies: Sequence[Resting]) -> Tally:
    return Tally(files=-len(copies), bytes=-sum(copy.size for copy in copies))
