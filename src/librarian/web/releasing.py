"""Releasing drives, giving them up for lost, and wiping them for their next round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian import releasing
from librarian.errors import Conflict, NotFound, StoreUnavailable, WrongState
from librarian.states import Role
from librarian.web.drives import described, existing
from librarian.web.route import Answer, Body, Call, Query, Route
from librarian.wire.drives import DriveDescription, DriveStakes, LoseDrive, ReleaseDrive, ReuseDrive

if TYPE_CHECKING:
    from librarian.catalog.clearing import Stakes
    from librarian.catalog.drives import DriveRecord

_ADMIN: Final = frozenset({Role.ADMIN})


async def release_drive(call: Call[ReleaseDrive, None]) -> Answer:
    """Let a drive be wiped, or tell what that would mean. A repeat changes nothing."""
    drive, stakes = await _look(call)
    if not call.body.dry_run:
        await releasing.release(call.site, drive.name, lose=call.body.lose, who=call.caller.name)
    return await _answer(call, drive, stakes, is_dry_run=call.body.dry_run)


async def lose_drive(call: Call[LoseDrive, None]) -> Answer:
    """Give a drive up for lost, or tell what that would mean. A repeat changes nothing."""
    drive, stakes = await _look(call)
    if not call.body.dry_run:
        await releasing.lose(call.site, drive.name, who=call.caller.name)
    return await _answer(call, drive, stakes, is_dry_run=call.body.dry_run)


async def reuse_drive(call: Call[ReuseDrive, None]) -> Answer:
    """Wipe a released drive and begin its next round, by and by; or tell whether that can be."""
    async with call.site.catalog.read() as tx:
        drive = await existing(tx, call)
    body = call.body
    await releasing.reuse(call.site, drive.name, lose=body.lose, who=call.caller.name, dry_run=body.dry_run)
    return Answer(body=await described(call.site, drive.name))


async def _look(call: Call[Body, Query]) -> tuple[DriveRecord, Stakes]:
    async with call.site.catalog.read() as tx:
        drive = await existing(tx, call)
        return drive, await releasing.stakes_of(tx, drive)


async def _answer(call: Call[Body, Query], drive: DriveRecord, stakes: Stakes, *, is_dry_run: bool) -> Answer:
    async with call.site.catalog.read() as tx:
        now = await tx.drives.get(drive.name)
    told = DriveStakes(
        name=drive.name,
        state=now.state,
        is_dry_run=is_dry_run,
        files=stakes.files,
        bytes=stakes.bytes,
        unconfirmed_files=stakes.unconfirmed_files,
        unconfirmed_bytes=stakes.unconfirmed_bytes,
        last_files=stakes.last_files,
        last_bytes=stakes.last_bytes,
        examples=list(stakes.examples),
    )
    return Answer(body=told)


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/api/v1/drives/{name}/release",
        handler=release_drive,
        summary="Let a drive be wiped, or tell what that would mean",
        roles=_ADMIN,
        body=ReleaseDrive,
        answer=DriveStakes,
        refusals=(NotFound, Conflict, WrongState),
        tag="drives",
    ),
    Route(
        method="POST",
        path="/api/v1/drives/{name}/lost",
        handler=lose_drive,
        summary="Give a drive up for lost, or tell what that would mean",
        roles=_ADMIN,
        body=LoseDrive,
        answer=DriveStakes,
        refusals=(NotFound, WrongState),
        tag="drives",
    ),
    Route(
        method="POST",
        path="/api/v1/drives/{name}/reuse",
        handler=reuse_drive,
        summary="Wipe a released drive, and begin its next round",
        roles=_ADMIN,
        body=ReuseDrive,
        answer=DriveDescription,
        refusals=(NotFound, WrongState, Conflict, StoreUnavailable),
        tag="drives",
    ),
)
