"""Drives: stores that are carried by hand."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from librarian import drives
from librarian.errors import (
    BadName,
    BadRequest,
    Conflict,
    LibrarianError,
    NotFound,
    RestoredCatalog,
    StoreUnavailable,
)
from librarian.names import StoreName
from librarian.notifying import drive_subject
from librarian.patience import unless_slow
from librarian.states import Role
from librarian.stores import examining
from librarian.stores.drive import at_place
from librarian.web.route import Answer, Body, Call, Query, Route
from librarian.wire.drives import (
    AttachDrive,
    DriveDescription,
    DriveEvent,
    DriveList,
    DriveMade,
    DriveStory,
    InitDrive,
    ManifestSummary,
)

if TYPE_CHECKING:
    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.manifests import ManifestRecord
    from librarian.catalog.transaction import Transaction
    from librarian.site import Site

#: A drive that does not tell its capacity for this long is described without.
PATIENCE: Final = timedelta(seconds=3)
_ADMIN: Final = frozenset({Role.ADMIN})
_READER: Final = frozenset({Role.READER})


async def describe(site: Site, drive: DriveRecord, manifest: ManifestRecord | None) -> DriveDescription:
    """*drive* as it is told; one that hangs delays the answer by a few seconds."""
    store = site.stores.lookup(drive.name) if drive.name in site.stores else None
    problem, free = drives.trouble_with(site, drive), None
    if store is not None and store.problem is None:
        try:
            free = (await unless_slow(store.capacity(), patience=PATIENCE)).free_bytes
        except TimeoutError:
            problem = f"it does not answer for {PATIENCE.total_seconds():g} s"
        except LibrarianError as error:
            problem = error.message
    return DriveDescription(
        name=drive.name,
        uuid=drive.uuid,
        state=drive.state,
        since=drive.since,
        who=drive.who,
        round=drive.round,
        is_plugged=drive.is_plugged,
        path=drive.path,
        seen_at=drive.seen_at,
        serial=drive.serial,
        filesystem=drive.filesystem,
        size=drive.size,
        full_at=drive.full_at,
        free_bytes=free,
        files=drive.files,
        bytes=drive.bytes,
        problem=problem,
        manifest=None if manifest is None else _summary(manifest),
    )


def _summary(manifest: ManifestRecord) -> ManifestSummary:
    return ManifestSummary(
        uuid=manifest.uuid,
        to=manifest.peer,
        sealed_at=manifest.sealed_at,
        sealed_by=manifest.sealed_by,
        is_complete=manifest.seal is not None,
        files=manifest.files,
        bytes=manifest.bytes,
        confirmed_files=manifest.confirmed_files,
        confirmed_bytes=manifest.confirmed_bytes,
        failed_files=manifest.failed_files,
        failed_bytes=manifest.failed_bytes,
    )


async def existing(tx: Transaction, call: Call[Body, Query]) -> DriveRecord:
    """The drive that the path names; raises NotFound."""
    try:
        return await tx.drives.get(StoreName(call.request.match_info["name"]))
    except BadName as error:
        raise NotFound(
            f"no drive has such a name: {error.message}", remedy="See 'drive list' for the names."
        ) from error


async def described(site: Site, name: StoreName) -> DriveDescription:
    """The drive called *name* as it is now."""
    async with site.catalog.read() as tx:
        drive = await tx.drives.get(name)
        manifest = await tx.manifests.of(drive)
    return await describe(site, drive, manifest)


async def list_drives(call: Call[None, None]) -> Answer:
    """Every drive there ever was, by name."""
    async with call.site.catalog.read() as tx:
        known, manifests = await tx.drives.all(), await tx.manifests.present()
    told = await asyncio.gather(*(describe(call.site, each, manifests.get(each.id)) for each in known))
    return Answer(body=DriveList(drives=list(told)))


async def show_drive(call: Call[None, None]) -> Answer:
    """One drive, with its history."""
    async with call.site.catalog.read() as tx:
        drive = await existing(tx, call)
        manifest = await tx.manifests.of(drive)
        story = await tx.events.story_of(drive_subject(drive.name))
    told = [DriveEvent(at=each.at, what=each.what, who=each.who, why=each.why) for each in story if each.at]
    return Answer(body=DriveStory(drive=await describe(call.site, drive, manifest), story=told))


async def init_drive(call: Call[InitDrive, None]) -> Answer:
    """Make a drive of an empty place. A repeat for a drive that is made changes nothing."""
    wanted = drives.Wanted(
        name=StoreName(call.body.name),
        path=Path(call.body.path),
        full_at=call.body.full_at,
        is_folder=call.body.is_folder,
        who=call.caller.name,
    )
    remarks = await drives.initiate(call.site, wanted)
    made = await described(call.site, wanted.name)
    return Answer(body=DriveMade(drive=made, remarks=list(remarks)), status=201)


async def attach_drive(call: Call[AttachDrive, None]) -> Answer:
    """Tell where a drive is that cannot be found by itself. A repeat changes nothing."""
    path = Path(call.body.path)
    async with call.site.catalog.read() as tx:
        drive = await existing(tx, call)
    claim = await at_place(drive.name, lambda: examining.claim_at(path), what="look at")
    if claim is None or claim.identity.uuid != drive.uuid:
        raise BadRequest(
            f"the drive '{drive.name}' is not at '{path}'", remedy="Mount it, and give the folder where its top is."
        )
    if drive.is_plugged and drive.path != str(path):
        raise Conflict(
            f"the drive '{drive.name}' is plugged in at '{drive.path}' already", remedy="Unplug it there first."
        )
    if claim.identity.generation < drive.generation:
        raise Conflict(
            f"what is at '{path}' is a copy of the drive '{drive.name}', or an older state of it",
            remedy="Plug in the drive itself.",
        )
    # In a round that the catalog has forgotten it is there all the same, and may be given up; its alert tells.
    with contextlib.suppress(RestoredCatalog):
        await drives.plug_in(call.site, drive, claim)
    return Answer(body=await described(call.site, drive.name))


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/api/v1/drives",
        handler=list_drives,
        summary="Every drive, where it stands and what is on it",
        roles=_READER,
        answer=DriveList,
        tag="drives",
    ),
    Route(
        method="POST",
        path="/api/v1/drives",
        handler=init_drive,
        summary="Make a drive of an empty place",
        roles=_ADMIN,
        body=InitDrive,
        answer=DriveMade,
        statuses=(201,),
        refusals=(Conflict, StoreUnavailable),
        tag="drives",
    ),
    Route(
        method="GET",
        path="/api/v1/drives/{name}",
        handler=show_drive,
        summary="One drive, with its history",
        roles=_READER,
        answer=DriveStory,
        refusals=(NotFound,),
        tag="drives",
    ),
    Route(
        method="POST",
        path="/api/v1/drives/{name}/attach",
        handler=attach_drive,
        summary="Tell where a drive is",
        roles=_ADMIN,
        body=AttachDrive,
        answer=DriveDescription,
        refusals=(NotFound, Conflict, StoreUnavailable),
        tag="drives",
    ),
)
