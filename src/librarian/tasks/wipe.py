"""Wipe: empties drives for their next round."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from librarian import adopting, guard
from librarian.catalog.records import Happening
from librarian.errors import Conflict, LibrarianError, RestoredCatalog
from librarian.notifying import drive_subject
from librarian.states import DriveState
from librarian.stores import wiping
from librarian.stores.drive import beating
from librarian.stores.identity import Identity
from librarian.tasks.base import Cadence, Task

if TYPE_CHECKING:
    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName
    from librarian.site import Site
    from librarian.timing import Budget

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Emptying:
    """A drive that is to be wiped, and the generation that its next round begins with."""

    drive: DriveRecord
    generation: int


class Wipe(Task[Emptying, None]):
    """Wipes drives: one that is not plugged in, or cannot be written, holds up no other."""

    name: ClassVar[str] = "wipe"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.cadence = Cadence(interval=timedelta(seconds=5))

    async def run_pass(self, budget: Budget) -> int:
        """Wipe each that is plugged in."""
        async with self.site.catalog.read() as tx:
            if (await tx.site.get()).restored_at is not None:
                # What stood to be wiped as the backup was taken may carry something else by now.
                return 0
            wiping_now = [drive for drive in await tx.drives.all() if drive.state is DriveState.WIPING]
        rounds = 0
        for drive in wiping_now:
            if not drive.is_plugged:
                continue
            # Beyond that of any manifest that was ever written onto it.
            generation = await self.site.ownership.step()
            try:
                await self.carry_out(Emptying(drive=drive, generation=generation))
            except LibrarianError as error:
                log.warning("Cannot wipe drive %s: %s", drive.name, error, extra={"event": "wiping-waits"})
                if isinstance(error, (Conflict, RestoredCatalog)):
                    await self._alert(drive, error)
                continue
            guard.step("round begun")
            rounds += 1
            self.site.bells.ring("plug")
        return rounds

    async def _alert(self, drive: DriveRecord, error: LibrarianError) -> None:
        async with self.site.catalog.begin() as tx:
            await tx.alerts.raise_alert(
                unwiped_cause(drive.name),
                message=f"The drive {drive.name} is not wiped, as was ordered: {error.message}",
                remedy=error.remedy,
            )

    async def plan(self, tx: Transaction) -> Emptying | None:
        """Nothing is claimed: each drive has a pass of its own."""
        return None

    async def act(self, plan: Emptying) -> None:
        """Remove everything, and write the identity of the next round."""
        await adopting.refuse_unknown(self.site, plan.drive)
        known = Identity(uuid=plan.drive.uuid, generation=plan.generation, round=plan.drive.round + 1)
        root = Path(plan.drive.path)
        await beating(plan.drive.name, lambda beat: wiping.wipe(root, known, beat=beat), what="wipe")

    async def record(self, tx: Transaction, plan: Emptying, result: None) -> None:
        """Begin the next round."""
        if await tx.drives.begin_round(plan.drive.id, generation=plan.generation, who=plan.drive.who):
            await tx.clearing.empty(plan.drive)
            await tx.misfits.forget(plan.drive.store_id)
            await tx.stores.set_open(plan.drive.name, is_open=True)
            await tx.alerts.acknowledge([unwiped_cause(plan.drive.name)])
            told = f"round {plan.drive.round + 1} begins"
            await tx.events.tell(
                [Happening(subject=drive_subject(plan.drive.name), what="wiped", who=plan.drive.who, why=told)]
            )


def unwiped_cause(drive: StoreName) -> str:
    """Of the alert about *drive*, which holds what the catalog has forgotten."""
    return f"cannot-wipe:{drive}"
