"""Drives: making them, and having them among the stores of the site while they are plugged in."""

from __future__ import annotations

import logging
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from librarian import guard, manifest, replication
from librarian.catalog.drives import NewDrive
from librarian.catalog.records import Happening
from librarian.errors import BadRequest, Conflict, LibrarianError, RestoredCatalog
from librarian.notifying import drive_subject
from librarian.states import CARRYING, DriveState
from librarian.stores import examining, places
from librarian.stores.drive import ABSENT, DriveStore, at_place, spec_of
from librarian.stores.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName
    from librarian.site import Site
    from librarian.stores.examining import Claim, Findings
    from librarian.wire.manifest import Head

log = logging.getLogger(__name__)

#: Bytes may still be written to them.
WRITABLE: Final = frozenset({DriveState.LOADING, DriveState.FULL, DriveState.SEALING})
SEALED: Final = "it is sealed"
BEING_SEALED: Final = "its manifest is being written"
#: A drive of the catalog that bears a manifest that the catalog does not know.
UNKNOWN_MANIFEST: Final = "it bears a manifest already"
_AS_IT_SHOULD_BE: Final = (SEALED, BEING_SEALED)
LATER_ROUND: Final = "it is in a later round than the catalog knows of"


def full_cause(drive: StoreName) -> str:
    """Of the alert about *drive*, onto which nothing more goes."""
    return f"drive-full:{drive}"


def no_room_cause(store: StoreName) -> str:
    """Of the alert about *store*, onto which nothing goes of what is due."""
    return f"no-room:{store}"


def misfit_cause(store: StoreName) -> str:
    """Of the alert about *store*, which cannot keep what is due."""
    return f"misfits:{store}"


def loading_causes(drive: StoreName) -> list[str]:
    """Of the alerts about loading *drive*: whoever takes it away has seen to them."""
    return [full_cause(drive), no_room_cause(drive), misfit_cause(drive)]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A drive as it is ordered."""

    name: StoreName
    path: Path
    full_at: int
    is_folder: bool
    who: str


async def initiate(site: Site, wanted: Wanted) -> tuple[str, ...]:
    """Make a drive of the empty place that is *wanted*; returns what its file system cannot do.

    The row is written first: a crash leaves a drive that was never seen, which a repeat finishes. A repeat for a
    drive that is made changes nothing.

    Raises
    ------
    BadRequest, Conflict, StoreUnavailable
    """
    _refuse_overlap(site, wanted)
    findings = await at_place(wanted.name, lambda: examining.examine(wanted.path, wanted.name), what="look at")
    if not (findings.is_mount or wanted.is_folder):
        raise BadRequest(
            f"nothing is mounted at '{wanted.path}': it is a folder of another file system",
            remedy="Mount the drive first. For a folder that takes the place of a drive, say --folder.",
        )
    sealed = await _sealed_by_us(site, wanted, findings)
    async with site.catalog.begin() as tx:
        drive = await row_of(tx, wanted, findings, sealed=sealed)
    guard.step("drive noted")
    if findings.identity is None:
        identity = Identity(uuid=drive.uuid, generation=site.catalog.generations[0], round=drive.round)
        await at_place(wanted.name, lambda: examining.found(wanted.path, identity), what="write the identity")
        guard.step("identity written")
    claim = await at_place(wanted.name, lambda: examining.claim_at(wanted.path), what="look at")
    if claim is not None:
        await plug_in(site, drive, claim)
    return findings.remarks


async def _sealed_by_us(site: Site, wanted: Wanted, findings: Findings) -> Head | None:
    """What the drive at that place says that it is, where it says that we sealed it; ``adopt`` looks whether so."""
    if findings.identity is None:
        return None

    def look() -> Head | None:
        try:
            return manifest.head_of(wanted.path / places.MANIFEST)
        except LibrarianError:
            return None

    head = await at_place(wanted.name, look, what="look at the manifest")
    async with site.catalog.read() as tx:
        own = await tx.site.get()
    is_ours = head is not None and (head.sender.uuid, head.store) == (own.uuid, findings.identity.uuid)
    return head if is_ours else None


async def row_of(tx: Transaction, wanted: Wanted, findings: Findings, *, sealed: Head | None = None) -> DriveRecord:
    """The row of the drive that is *wanted* at a place where *findings* were made; a new one where there is none.

    One that we have *sealed*, and that a catalog from a backup does not know, gets its row again.

    Raises
    ------
    Conflict
    """
    known = {drive.name: drive for drive in await tx.drives.all()}
    stands = None if findings.identity is None else findings.identity.uuid
    drive = known.get(wanted.name)
    is_forgotten = sealed is not None and drive is None and all(each.uuid != stands for each in known.values())
    if sealed is not None and is_forgotten and sealed.drive != wanted.name:
        raise Conflict(
            f"'{wanted.path}' is the drive '{sealed.drive}'", remedy="A drive keeps its name: give it that one again."
        )
    if stands is not None and not is_forgotten and (drive is None or drive.uuid != stands):
        whose = next((f"the drive '{each.name}'" for each in known.values() if each.uuid == stands), None)
        raise Conflict(
            f"'{wanted.path}' is {whose or 'of another librarian, or one that a catalog from a backup has forgotten'}",
            remedy="One of ours that was released begins anew with 'drive init --reuse'. Any other drive: upload what "
            "is wanted of it, and format it, if nobody needs the rest.",
        )
    if drive is not None:
        if stands is None and drive.generation > 0:
            raise Conflict(
                f"there is a drive '{drive.name}' already, and '{wanted.path}' is another one",
                remedy="Give it another name; a drive keeps its name for ever.",
            )
        return drive
    _refuse_alike(wanted.name, [*known, *(store.name for store in await tx.stores.all())])
    drive = await tx.drives.add(
        NewDrive(
            name=wanted.name,
            uuid=stands or str(uuid.uuid4()),
            round=1 if sealed is None else sealed.round,
            serial=findings.serial,
            filesystem=findings.filesystem,
            size=findings.size,
            full_at=wanted.full_at,
            path=str(wanted.path),
            who=wanted.who,
        )
    )
    await replication.store_appeared(tx, drive.name)
    told = f"{findings.filesystem}, {findings.size:,} bytes, serial {findings.serial or 'unknown'}"
    why = "; ".join([told, *findings.remarks])
    await tx.events.tell([Happening(subject=drive_subject(drive.name), what="made", who=wanted.who, why=why)])
    return drive


def _refuse_alike(name: StoreName, others: Sequence[str]) -> None:
    alike = next((other for other in others if other.lower() == name.lower()), None)
    if alike is not None:
        raise Conflict(
            f"there is a store '{alike}' already", remedy="Give the drive a name that nobody takes for another."
        )


def _refuse_overlap(site: Site, wanted: Wanted) -> None:
    real = os.path.realpath(wanted.path)
    for store in site.stores.fixed():
        for folder in (store.root, store.staging):
            other = os.path.realpath(folder)
            if os.path.commonpath((real, other)) in (real, other):
                raise Conflict(
                    f"'{wanted.path}' and the store '{store.name}' at '{folder}' lie in each other",
                    remedy="Give a place of its own.",
                )


async def plug_in(site: Site, drive: DriveRecord, claim: Claim) -> None:
    """*drive* is at the place of *claim*: note it, and take it among the stores. A repeat changes nothing.

    Raises
    ------
    RestoredCatalog
        It is in a round that the catalog has forgotten: it is noted, and nothing will be written to it.
    LibrarianError
        It cannot be used.
    """
    if not drive.is_plugged or (drive.path, drive.generation) != (str(claim.path), claim.identity.generation):
        async with site.catalog.begin() as tx:
            await tx.drives.plugged(drive.id, path=str(claim.path), generation=claim.identity.generation)
            if drive.state is DriveState.IN_TRANSIT:
                await tx.drives.advance(drive.id, to=DriveState.SEALED, who="site")
            if not drive.is_plugged or drive.path != str(claim.path):
                told = Happening(
                    subject=drive_subject(drive.name), what="plugged in", who="site", why=f"at {claim.path}"
                )
                await tx.events.tell([told])
    try:
        refuse_later_round(drive, claim.identity)
    except RestoredCatalog as ahead:
        await _rest_ahead(site, drive, claim, ahead)
        raise
    if drive.state not in CARRYING:
        return
    if drive.state not in WRITABLE:
        await rest(site, drive, because=SEALED)
    elif claim.is_sealed and not await _is_being_written(site, drive):
        await rest(site, drive, because=UNKNOWN_MANIFEST)
    else:
        await _wake(site, drive, claim.path)


def refuse_later_round(drive: DriveRecord, found: Identity) -> None:
    """Raise RestoredCatalog where *drive*, as it was *found*, is in a round that the catalog has forgotten.

    One that is being wiped may be ahead for a moment.
    """
    if found.round <= drive.round or drive.state is DriveState.WIPING:
        return
    raise RestoredCatalog(
        f"the drive '{drive.name}' is in its round {found.round}, and the catalog, which was restored from a backup, "
        f"knows of round {drive.round}",
        remedy="It is neither loaded, sealed nor wiped. Where it is sealed, its destination can receive it all the "
        "same. Else upload what is wanted of it; then 'drive release' and 'drive init --reuse' begin its next round, "
        "and name what is nowhere else.",
        details={"store_generation": found.generation},
    )


async def look_at_round(drive: DriveRecord) -> None:
    """Raise what ``refuse_later_round`` raises of *drive* as it is now; StoreUnavailable where it does not answer."""
    claim = await at_place(drive.name, lambda: examining.claim_at(Path(drive.path)), what="look at")
    if claim is not None and claim.identity.uuid == drive.uuid:
        refuse_later_round(drive, claim.identity)


async def _rest_ahead(site: Site, drive: DriveRecord, claim: Claim, ahead: RestoredCatalog) -> None:
    if claim.identity.generation > site.catalog.generations[0]:
        await site.ownership.settle({drive.name: ahead})
    if drive.state in CARRYING:
        await rest(site, drive, because=LATER_ROUND)


async def _is_being_written(site: Site, drive: DriveRecord) -> bool:
    """Whether what stands on *drive* is a manifest that we are about to write; else it is older, and stays."""
    async with site.catalog.read() as tx:
        sealing = await tx.manifests.of(drive)
    return drive.state is DriveState.SEALING and sealing is not None and sealing.seal is None


async def unplug(site: Site, drive: DriveRecord) -> None:
    """*drive* is nowhere to be found. A repeat changes nothing."""
    if drive.state in CARRYING:
        await rest(site, drive, because=ABSENT)
    if not drive.is_plugged:
        return
    async with site.catalog.begin() as tx:
        await tx.drives.unplugged(drive.id)
        if drive.state is DriveState.SEALED:
            await tx.drives.advance(drive.id, to=DriveState.IN_TRANSIT, who="site")
        await tx.events.tell([Happening(subject=drive_subject(drive.name), what="unplugged", who="site")])


def trouble_with(site: Site, drive: DriveRecord) -> str | None:
    """Why nothing can be written to *drive*, where that is not as its state would have it."""
    problem = site.stores.lookup(drive.name).problem if drive.name in site.stores else None
    is_at_rest = problem in _AS_IT_SHOULD_BE or (problem == ABSENT and drive.state not in WRITABLE)
    return None if is_at_rest else problem


async def rest(site: Site, drive: DriveRecord, *, because: str) -> None:
    """Have *drive* among the stores without touching it. A repeat changes nothing."""
    if drive.name in site.stores and site.stores.lookup(drive.name).problem == because:
        return
    await site.stores.put(DriveStore(spec_of(drive.name, Path(drive.path)), rests_because=because))


async def _wake(site: Site, drive: DriveRecord, root: Path) -> None:
    if drive.name in site.stores:
        store = site.stores.lookup(drive.name)
        if store.root == root and await store.probe() in (None, BEING_SEALED):
            return
    store = DriveStore(spec_of(drive.name, root))
    await site.stores.put(store)
    answer: LibrarianError | None = None
    try:
        await store.open(expected_uuid=drive.uuid, generation=site.catalog.generations[0])
    except RestoredCatalog as ahead:
        answer = ahead
    await site.ownership.settle({drive.name: answer})
    if answer is None:
        async with site.catalog.begin() as tx:
            await tx.misfits.look_again()
    for bell in ("ingest", "load", "seal"):
        site.bells.ring(bell)
