"""Plug: looks which drives are plugged in, and where."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from librarian import drives
from librarian.errors import LibrarianError, RestoredCatalog
from librarian.stores.drive import Seeker
from librarian.tasks.base import Cadence, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName
    from librarian.site import Site
    from librarian.stores.examining import Claim
    from librarian.timing import Budget

log = logging.getLogger(__name__)

#: A place that does not say who stands there for this long is left for the next pass.
PATIENCE: Final = timedelta(seconds=3)
_MOUNT_IT: Final = "Mount it for writing, or look at the kernel's log; it is taken as soon as it can be used."


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """Where a drive is, and where something else says that it is this drive."""

    place: Claim | None
    others: tuple[Claim, ...]


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why a drive cannot be used as it should; None: it can."""

    name: StoreName
    is_copy: bool
    message: str | None
    remedy: str = ""

    @property
    def cause(self) -> str:
        """Of its alert."""
        return copied_cause(self.name) if self.is_copy else unusable_cause(self.name)


def copied_cause(drive: StoreName) -> str:
    """Of the alert about something that says it is *drive*, and is not."""
    return f"drive-copied:{drive}"


def unusable_cause(drive: StoreName) -> str:
    """Of the alert about *drive*, which is plugged in and cannot be used."""
    return f"drive-unusable:{drive}"


def sighted(drive: DriveRecord, claims: Sequence[Claim]) -> Sighting:
    """Which of *claims* is *drive*.

    A copy stays behind: only the drive itself gets new generations. Of two that are equal, the one that has been
    in use goes on; where none has been, nobody can tell, and none is taken.
    """
    mine = {claim.key: claim for claim in reversed(claims) if claim.identity.uuid == drive.uuid}
    # Two mounts of one drive are one: the known path is as good as any.
    mine |= {claim.key: claim for claim in claims if claim.key in mine and str(claim.path) == drive.path}
    latest = max((claim.identity.generation for claim in mine.values()), default=0)
    equals = [claim for claim in mine.values() if claim.identity.generation == latest >= drive.generation]
    if len(equals) > 1:
        equals = [claim for claim in equals if drive.is_plugged and str(claim.path) == drive.path]
    place = equals[0] if equals else None
    return Sighting(place=place, others=tuple(claim for claim in mine.values() if claim is not place))


class Plug(Task[tuple[Trouble, ...], None]):
    """Looks for every drive every few seconds; network file systems are never touched."""

    name: ClassVar[str] = "plug"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.cadence = Cadence(interval=timedelta(seconds=4))
        self._seeker = Seeker(PATIENCE)
        #: The troubles that people were told of, by cause.
        self._told: dict[str, str | None] = {}

    async def run_pass(self, budget: Budget) -> int:
        """Look once; only a change costs a transaction."""
        async with self.site.catalog.read() as tx:
            known = await tx.drives.all()
        if not known:
            return 0
        in_use = {Path(drive.path) for drive in known if drive.state in drives.WRITABLE}
        claims = await self._seeker.look((Path(drive.path) for drive in known), in_use=in_use)
        troubles: list[Trouble] = []
        for drive in known:
            troubles += await self._settle(drive, sighted(drive, claims))
        news = tuple(each for each in troubles if self._told.get(each.cause) != each.message)
        if not news:
            return 0
        await self.carry_out(news)
        self._told |= {each.cause: each.message for each in news}
        return 1

    async def _settle(self, drive: DriveRecord, sighting: Sighting) -> list[Trouble]:
        troubles = [_copied(drive, sighting)]
        if sighting.place is None:
            await drives.unplug(self.site, drive)
            return [*troubles, Trouble(name=drive.name, is_copy=False, message=None)]
        problem, remedy = None, _MOUNT_IT
        try:
            await drives.plug_in(self.site, drive, sighting.place)
        except RestoredCatalog as ahead:
            problem, remedy = ahead.message, ahead.remedy
        except LibrarianError as error:
            problem = error.message
        unusable = (
            problem and f"drive {drive.name} is plugged in at {sighting.place.path} and cannot be used: {problem}"
        )
        return [
            *troubles,
            Trouble(
                name=drive.name,
                is_copy=False,
                message=unusable,
                remedy=remedy,
            ),
        ]

    async def plan(self, tx: Transaction) -> tuple[Trouble, ...] | None:
        """Nothing is claimed: the drives themselves say what there is to tell."""
        return None

    async def act(self, plan: tuple[Trouble, ...]) -> None:
        """Everything was done by looking."""

    async def record(self, tx: Transaction, plan: tuple[Trouble, ...], result: None) -> None:
        """Alert people to what is in the way, and take back what no longer is."""
        await tx.alerts.acknowledge([each.cause for each in plan if each.message is None])
        for each in plan:
            if each.message is None:
                continue
            log.error("Trouble with a drive: %s", each.message, extra={"event": "drive-trouble"})
            if each.is_copy:
                await tx.alerts.raise_alert(copied_cause(each.name), message=each.message, remedy=each.remedy)
            else:
                await tx.alerts.raise_alert(unusable_cause(each.name), message=each.message, remedy=each.remedy)


def _copied(drive: DriveRecord, sighting: Sighting) -> Trouble:
    if not sighting.others:
        return Trouble(name=drive.name, is_copy=True, message=None)
    places = ", ".join(sorted(str(claim.path) for claim in sighting.others))
    it = (
        f"the drive itself is at {sighting.place.path}" if sighting.place else "which one is the drive, nobody can tell"
    )
    return Trouble(
        name=drive.name,
        is_copy=True,
        message=f"what is plugged in at {places} says that it is the drive {drive.name}, as a copy would; {it}",
        remedy="Unplug the copy. It is left alone.",
    )
