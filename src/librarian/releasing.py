"""Releasing drives, and giving them up for lost. ``tasks/clear.py`` and ``tasks/wipe.py`` do what takes long."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from librarian import adopting, drives, guard, leavings
from librarian.catalog.records import Happening
from librarian.errors import Conflict, StoreUnavailable, WrongState
from librarian.notifying import drive_subject, tell_of_drive
from librarian.quantities import counted
from librarian.states import DRIVE_MOVES, DriveState, sources_of
from librarian.stores import examining
from librarian.stores.drive import at_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.clearing import Stakes
    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.transaction import Transaction
    from librarian.leavings import Leavings
    from librarian.names import StoreName
    from librarian.site import Site
    from librarian.stores.examining import Claim

#: Their copies are to be forgotten.
CLEARED: Final = (DriveState.RELEASED, DriveState.LOST)


async def stakes_of(tx: Transaction, drive: DriveRecord) -> Stakes:
    """What is on *drive*, and what of that would be missed."""
    return await tx.clearing.stakes(drive, await tx.manifests.of(drive))


async def release(site: Site, name: StoreName, *, lose: int, who: str) -> None:
    """Let the drive *name* be wiped. *lose* is how many unconfirmed files the operator means to give up with it.

    A repeat changes nothing.

    Raises
    ------
    NotFound, WrongState
    Conflict
        Another number of files is not confirmed.
    """
    async with site.catalog.begin() as tx:
        drive = await tx.drives.get(name)
        if drive.state is DriveState.RELEASED:
            return
        _refuse_state(drive, DriveState.RELEASED)
        stakes = await stakes_of(tx, drive)
        if stakes.unconfirmed_files != lose:
            missing = counted(stakes.unconfirmed_files, "is not confirmed", "are not confirmed")
            raise Conflict(
                f"of {counted(stakes.files)} on the drive '{name}' {missing}; {_last_of(stakes)}",
                remedy=f"Wait for its peer; or, to give them up, say --lose {stakes.unconfirmed_files}.",
                details={"unconfirmed_files": stakes.unconfirmed_files, "last_files": stakes.last_files},
            )
        await tx.drives.advance(drive.id, to=DriveState.RELEASED, who=who)
        await tx.stores.set_open(name, is_open=False)
        await tx.alerts.acknowledge(drives.loading_causes(name))
        await tx.loading.abandon(drive.store_id, reason=f"the drive '{name}' is {DriveState.RELEASED}")
        why = f"with {counted(lose, 'file that is', 'files that are')} not confirmed" if lose else "nothing is given up"
        await tell_of_drive(tx, name, "released", round_=drive.round, who=who, why=why)
    guard.step("released")
    await site.stores.remove(name)
    site.bells.ring("clear")


async def lose(site: Site, name: StoreName, *, who: str) -> None:
    """Give the drive *name* up for lost: what is not confirmed is due again. A repeat changes nothing.

    Raises
    ------
    NotFound, WrongState
    """
    async with site.catalog.begin() as tx:
        drive = await tx.drives.get(name)
        if drive.state is DriveState.LOST:
            return
        _refuse_state(drive, DriveState.LOST)
        stakes = await stakes_of(tx, drive)
        await tx.drives.advance(drive.id, to=DriveState.LOST, who=who)
        await tx.stores.set_open(name, is_open=False)
        await tx.alerts.acknowledge(drives.loading_causes(name))
        await tx.loading.abandon(drive.store_id, reason=f"the drive '{name}' is {DriveState.LOST}")
        why = f"with {counted(stakes.unconfirmed_files)} unconfirmed"
        await tell_of_drive(tx, name, "lost", round_=drive.round, who=who, why=why)
    await site.stores.remove(name)
    site.bells.ring("clear")


async def reuse(site: Site, name: StoreName, *, lose: int, who: str, dry_run: bool = False) -> None:
    """Wipe the drive *name*, which was released, and begin its next round. A repeat changes nothing.

    *lose* is how many files the operator means to give up that stand on it and are known nowhere else. What was
    given up when it was released does not count. *dry_run*: only tell whether that can be.

    Raises
    ------
    NotFound, WrongState
    StoreUnavailable
        It is not plugged in, cannot be written, or something else is where it was.
    Conflict
        The catalog was restored from a backup, and nobody has acknowledged that; or the drive bears a manifest that
        the catalog does not know; or another number of files is known nowhere else.
    """
    async with site.catalog.read() as tx:
        drive = await tx.drives.get(name)
    is_wiping = drive.state is DriveState.WIPING
    if not is_wiping:
        _refuse_kept(drive)
    claim = await _claim_of(site, drive)
    if is_wiping and (claim is None or claim.identity.round <= drive.round):
        return
    if claim is None:
        raise StoreUnavailable(
            f"what is at '{drive.path}' is not the drive '{name}', or a copy of it", remedy="Plug in the drive itself."
        )
    if not await at_place(name, lambda: os.access(drive.path, os.W_OK), what="look at"):
        raise StoreUnavailable(
            f"the drive '{name}' at '{drive.path}' cannot be written", remedy="Mount it for writing, and ask again."
        )
    await adopting.refuse_unknown(site, drive)
    round_ = claim.identity.round
    left = await leavings.on_drive(site, drive, is_present_round=round_ <= drive.round)
    _refuse_leavings(drive, left, lose=lose)
    if dry_run:
        return
    async with site.catalog.begin() as tx:
        # What the catalog had forgotten was looked at. An empty drive needs no further round.
        if (number := round_ - left.is_empty) > drive.round:
            await tx.drives.in_round(drive.id, number=number)
        if not await tx.drives.advance(drive.id, to=DriveState.WIPING, who=who) and not is_wiping:
            _refuse_kept(await tx.drives.get(name))
        await tx.events.tell([Happening(subject=drive_subject(name), what="wiping", who=who)])
    guard.step("wiping begun")
    site.bells.ring("wipe")


async def _claim_of(site: Site, drive: DriveRecord) -> Claim | None:
    """What stands where *drive* was seen last; None where that is not this drive, as it was then.

    Raises
    ------
    Conflict
        The catalog was restored from a backup, and nobody has acknowledged that.
    StoreUnavailable
    """
    async with site.catalog.read() as tx:
        own = await tx.site.get()
    if own.restored_at is not None:
        raise Conflict(
            "this catalog was restored from a backup, and may not know what is on its drives",
            remedy="Look at 'alert list' and 'drive status', then run 'restored acknowledge'.",
        )
    claim = await at_place(drive.name, lambda: examining.claim_at(Path(drive.path)), what="look at")
    is_it = claim is not None and (claim.identity.uuid, claim.identity.generation) == (drive.uuid, drive.generation)
    return claim if is_it else None


def _refuse_kept(drive: DriveRecord) -> None:
    """Raise WrongState or StoreUnavailable unless *drive* may be wiped now."""
    if drive.state is not DriveState.RELEASED:
        raise WrongState(
            f"the drive '{drive.name}' is {drive.state}, and is not wiped",
            remedy="Release it first: see 'drive release --dry-run'.",
        )
    if drive.files > 0:
        raise WrongState(
            f"the drive '{drive.name}' still counts {counted(drive.files, 'copy', 'copies')}",
            remedy="Ask again in a moment.",
        )
    if not drive.is_plugged:
        raise StoreUnavailable(f"the drive '{drive.name}' is not plugged in", remedy="Plug it in.")


def _refuse_leavings(drive: DriveRecord, left: Leavings, *, lose: int) -> None:
    if left.unknown_files != lose:
        raise Conflict(
            f"of {counted(left.unknown_files)} on the drive '{drive.name}' no other copy is known"
            f"{_listed(left.examples, of=left.unknown_files)}",
            remedy="Upload what is wanted of them from the drive, under the same names; to give them up, say "
            f"--lose {left.unknown_files}.",
            details={"unknown_files": left.unknown_files},
        )


def _refuse_state(drive: DriveRecord, to: DriveState) -> None:
    if drive.state not in sources_of(DRIVE_MOVES, to):
        raise WrongState(
            f"the drive '{drive.name}' is {drive.state}, and cannot be {to} now",
            remedy="See 'drive show'. One that cannot be sealed to the end is given up with 'drive lost'.",
        )


def _last_of(stakes: Stakes) -> str:
    if not stakes.last_files:
        return "of each another copy is known"
    return f"of {stakes.last_files:,} of them no other copy is known{_listed(stakes.examples, of=stakes.last_files)}"


def _listed(examples: Sequence[str], *, of: int) -> str:
    if not examples:
        return ""
    more = ", …" if of > len(examples) else ""
    return f" ({', '.join(examples)}{more})"
