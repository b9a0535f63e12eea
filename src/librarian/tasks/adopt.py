"""Adopt: takes up drives that we sealed, and that a catalog from a backup knows nothing of."""

from __future__ import annotations

import logging
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from librarian import adopting, drives, guard
from librarian.errors import LibrarianError, RestoredCatalog, Unavailable
from librarian.states import DriveState
from librarian.stores import examining
from librarian.stores.drive import at_place
from librarian.tasks.base import Cadence, Task

if TYPE_CHECKING:
    from librarian.adopting import Found
    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName
    from librarian.site import Site
    from librarian.timing import Budget
    from librarian.wire.manifest import Entry

log = logging.getLogger(__name__)

#: In one portion; the listings of books are what takes memory.
FILES: Final = 1000


class Adopt(Task[None, None]):
    """Takes up drives one by one: one that cannot be taken up is told of, left alone, and holds up no other."""

    name: ClassVar[str] = "adopt"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.cadence = Cadence(interval=timedelta(seconds=5))
        #: Those that were refused, as they were plugged in.
        self._refused: dict[StoreName, tuple[str, int]] = {}

    async def run_pass(self, budget: Budget) -> int:
        """Take up what is plugged in and was forgotten."""
        async with self.site.catalog.read() as tx:
            plugged = [drive for drive in await tx.drives.all() if drive.is_plugged]
            forgotten = [drive for drive in plugged if await self._is_forgotten(tx, drive)]
        self._refused = {drive.name: self._refused[drive.name] for drive in plugged if drive.name in self._refused}
        rounds = 0
        for drive in forgotten:
            if self._refused.get(drive.name) == (drive.path, drive.generation):
                continue
            try:
                await self._adopt(drive)
                rounds += 1
            except LibrarianError as error:
                if isinstance(error, Unavailable) or not await _is_there(drive):
                    log.warning("Cannot adopt drive %s now: %s", drive.name, error, extra={"event": "adopting-waits"})
                    continue
                await self._refuse(drive, error)
        return rounds

    async def _is_forgotten(self, tx: Transaction, drive: DriveRecord) -> bool:
        if drive.state is DriveState.SEALING:
            sealed = await tx.manifests.of(drive)
            # It was written before: what is left is to take it up.
            return sealed is not None and sealed.seal is not None
        if drive.name not in self.site.stores:
            return False
        return self.site.stores.lookup(drive.name).problem == drives.UNKNOWN_MANIFEST

    async def _adopt(self, drive: DriveRecord) -> None:
        found = await adopting.find(self.site, drive)
        ours = self.site.catalog.generations[0]
        if drive.generation > ours:
            details = {"store_generation": drive.generation, "generation": ours}
            ahead = RestoredCatalog(found.why, remedy="See 'restored acknowledge'.", details=details)
            await self.site.ownership.settle({drive.name: ahead})
        if drive.state is not DriveState.SEALING:
            await self._look_through(drive, found)
            async with self.site.catalog.begin() as tx:
                await adopting.begin(tx, drive, found)
            guard.step("adoption begun")
        await self._take_up(drive, found)
        async with self.site.catalog.begin() as tx:
            await tx.alerts.acknowledge([refused_cause(drive.name)])
        log.info("Adopted drive %s: %s", drive.name, found.why, extra={"event": "drive-adopted"})
        await drives.rest(self.site, drive, because=drives.SEALED)
        for bell in ("deliver", "load"):
            self.site.bells.ring(bell)

    async def _look_through(self, drive: DriveRecord, found: Found) -> None:
        """Before anything is written: all of it can be taken up, or nothing is."""
        after = 0
        while lines := await _page(drive, found, after):
            async with self.site.catalog.read() as tx:
                await adopting.refuse_others(tx, [entry for _, entry in lines])
            after += len(lines)

    async def _take_up(self, drive: DriveRecord, found: Found) -> None:
        while True:
            async with self.site.catalog.read() as tx:
                sealed = await tx.manifests.of(drive)
            if sealed is None or not (lines := await _page(drive, found, sealed.files)):
                return
            async with self.site.catalog.begin(opens_names=True) as tx:
                await adopting.take_up(tx, drive, sealed, found, lines)
            guard.step("portion adopted")

    async def _refuse(self, drive: DriveRecord, error: LibrarianError) -> None:
        self._refused[drive.name] = (drive.path, drive.generation)
        log.error("Cannot adopt drive %s: %s", drive.name, error, extra={"event": "drive-not-adopted"})
        async with self.site.catalog.begin() as tx:
            await tx.alerts.raise_alert(
                refused_cause(drive.name),
                message=f"The drive {drive.name} bears a manifest that the catalog does not know, and cannot be taken "
                f"up: {error.message}",
                remedy=error.remedy,
            )

    async def plan(self, tx: Transaction) -> None:
        """Nothing is claimed: the drives themselves say what there is to take up."""

    async def act(self, plan: None) -> None:
        """Everything was done by looking."""

    async def record(self, tx: Transaction, plan: None, result: None) -> None:
        """Each portion is a transaction of its own."""


def refused_cause(drive: StoreName) -> str:
    """Of the alert about *drive*, whose manifest cannot be taken up."""
    return f"cannot-adopt:{drive}"


async def _is_there(drive: DriveRecord) -> bool:
    """Whether *drive* was not pulled out meanwhile, which says nothing about its manifest."""
    try:
        claim = await at_place(drive.name, lambda: examining.claim_at(Path(drive.path)), what="look at")
    except Unavailable:
        return False
    return claim is not None and claim.identity.uuid == drive.uuid


async def _page(drive: DriveRecord, found: Found, after: int) -> list[tuple[bytes, Entry]]:
    return await at_place(
        drive.name, lambda: list(islice(found.manifest.lines(after=after), FILES)), what="read the manifest"
    )
