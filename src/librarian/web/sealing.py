"""Sealing: closing a drive for a peer, what travels with it on paper, and its manifest once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from librarian import manifest, sealing
from librarian.errors import Conflict, NotFound, StoreUnavailable, WrongState
from librarian.names import SiteName
from librarian.states import Role
from librarian.web.drives import described, existing
from librarian.web.route import Answer, Body, Call, Query, Route
from librarian.wire.drives import DriveSealing, PackingSlip, SealDrive, SlipLine
from librarian.wire.manifest import Head

if TYPE_CHECKING:
    from librarian.catalog.manifests import ManifestRecord
    from librarian.catalog.transaction import Transaction

_ADMIN: Final = frozenset({Role.ADMIN})
_READER: Final = frozenset({Role.READER})
_MEDIA: Final = "application/jsonl"


async def seal_drive(call: Call[SealDrive, None]) -> Answer:
    """Close a drive and begin its manifest; it is sealed by and by. A repeat changes nothing."""
    async with call.site.catalog.read() as tx:
        drive = await existing(tx, call)
    peer, is_unasked = SiteName(call.body.to), call.body.is_unasked
    others = await sealing.begin(call.site, drive.name, peer=peer, who=call.caller.name, is_unasked=is_unasked)
    return Answer(body=DriveSealing(drive=await described(call.site, drive.name), also_for=list(others)))


async def _sealed(tx: Transaction, call: Call[Body, Query]) -> ManifestRecord:
    drive = await existing(tx, call)
    known = await tx.manifests.of(drive)
    if known is None or known.seal is None:
        raise WrongState(
            f"the drive '{drive.name}' is {drive.state}, and has no manifest in its round {drive.round}",
            remedy="Seal it first.",
        )
    return known


async def packing_slip(call: Call[None, None]) -> Answer:
    """What travels with a sealed drive, on paper."""
    async with call.site.catalog.read() as tx:
        known = await _sealed(tx, call)
        contents = await tx.manifests.contents(known.id)
    head = Head.model_validate_json(known.head)
    slip = PackingSlip(
        drive=head.drive,
        serial=head.serial,
        round=head.round,
        sender=head.sender.name,
        to=head.to,
        sealed_at=head.sealed_at,
        files=head.files,
        bytes=head.bytes,
        contents=[SlipLine(prefix=prefix, files=files, bytes=size) for prefix, files, size in contents],
        manifest=head.uuid,
        fingerprint=manifest.fingerprint(head.key),
    )
    return Answer(body=slip)


async def export_manifest(call: Call[None, None]) -> web.StreamResponse:
    """The manifest of a sealed drive, as it stands on it."""
    async with call.site.catalog.read() as tx:
        known = await _sealed(tx, call)
    response = web.StreamResponse(headers={"Content-Type": _MEDIA})
    await response.prepare(call.request)
    if call.request.method != "HEAD":
        async for lines in sealing.exported(call.site, known):
            await response.write(lines)
    await response.write_eof()
    return response


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/api/v1/drives/{name}/seal",
        handler=seal_drive,
        summary="Close a drive for a peer, and write its manifest",
        roles=_ADMIN,
        body=SealDrive,
        answer=DriveSealing,
        refusals=(NotFound, Conflict, WrongState, StoreUnavailable),
        tag="drives",
    ),
    Route(
        method="GET",
        path="/api/v1/drives/{name}/slip",
        handler=packing_slip,
        summary="What travels with a sealed drive, on paper",
        roles=_READER,
        answer=PackingSlip,
        refusals=(NotFound, WrongState),
        tag="drives",
    ),
    Route(
        method="GET",
        path="/api/v1/drives/{name}/manifest",
        handler=export_manifest,
        summary="The manifest of a sealed drive, as it stands on it",
        roles=_READER,
        answer=bytes,
        media=_MEDIA,
        refusals=(NotFound, WrongState),
        tag="drives",
    ),
)
