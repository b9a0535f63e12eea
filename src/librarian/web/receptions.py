"""Receptions: receive the drives of other sites, and tell what became of what they carry."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from librarian import accepting, receiving
from librarian.errors import (
    BadRequest,
    Conflict,
    ManifestDamaged,
    NotFound,
    ProtocolMismatch,
    StoreUnavailable,
    WrongState,
)
from librarian.names import ReceptionId, TransferId
from librarian.states import ReceptionState, Role, TransferState
from librarian.web.route import Answer, Call, Route
from librarian.wire.cursors import read_cursor, write_cursor
from librarian.wire.manifest import Head
from librarian.wire.receptions import (
    BadEntry,
    BadEntryPage,
    ReceiveDrive,
    ReceptionDescription,
    ReceptionPage,
    ReceptionQuery,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.receptions import Reception, Share
    from librarian.site import Site

_ADMIN: Final = frozenset({Role.ADMIN})
_BAD: Final = frozenset({TransferState.FAILED, TransferState.CANCELLED})
_ENDED: Final = _BAD | {TransferState.COMPLETED}
_UNREAD: Final = frozenset({TransferState.INITIATED, TransferState.ONGOING})


async def _describe(site: Site, receptions: Sequence[Reception]) -> list[ReceptionDescription]:
    async with site.catalog.read() as tx:
        shares = await tx.receptions.shares([each.id for each in receptions])
    return [
        _description(site, each, [share for share in shares if share.reception_id == each.id]) for each in receptions
    ]


def _description(site: Site, reception: Reception, shares: Sequence[Share]) -> ReceptionDescription:
    head = Head.model_validate_json(reception.head)
    files: Counter[TransferState] = Counter()
    size: Counter[TransferState] = Counter()
    for share in shares:
        files[share.state] += share.files
        size[share.state] += share.bytes
    read = sum(count for state, count in size.items() if state not in _UNREAD)
    ended = sum(files[state] for state in _ENDED)
    return ReceptionDescription(
        uuid=reception.uuid,
        drive=reception.drive,
        origin=reception.origin,
        to=head.to,
        tells=reception.peer_id is not None,
        state=reception.state,
        path=reception.path,
        reason=reception.reason,
        files=head.files,
        bytes=head.bytes,
        read_bytes=min(read + site.meters.being_received.get(reception.id, 0), head.bytes),
        held_files=files[TransferState.COMPLETED],
        held_bytes=size[TransferState.COMPLETED],
        known_files=sum(share.files for share in shares if share.code == receiving.HELD_ALREADY),
        bad_files=sum(files[state] for state in _BAD),
        bad_bytes=sum(size[state] for state in _BAD),
        is_done=reception.state is not ReceptionState.RECEIVING and ended == sum(files.values()),
        created_at=reception.created_at,
        progressed_at=reception.progressed_at,
    )


async def receive_drive(call: Call[ReceiveDrive, None]) -> Answer:
    """Begin to receive a drive, or go on; the server reads it by itself from then on."""
    body = call.body
    order = accepting.Order(path=Path(body.path), trust=body.trust, although_for=body.although_for)
    reception = await accepting.accept(call.site, call.caller, order)
    return Answer(body=(await _describe(call.site, [reception]))[0])


async def list_receptions(call: Call[None, ReceptionQuery]) -> Answer:
    """Drives that are received here, or were, the newest first."""
    query = call.query
    before: ReceptionId | None = None
    if query.cursor is not None:
        (last,) = read_cursor("receptions", query.cursor, (int,))
        before = ReceptionId(int(last))
    async with call.site.catalog.read() as tx:
        page = await tx.receptions.page(before=before, limit=query.limit)
    cursor = write_cursor("receptions", [page[-1].id]) if len(page) == query.limit else None
    return Answer(body=ReceptionPage(receptions=await _describe(call.site, page), next_cursor=cursor))


async def show_reception(call: Call[None, None]) -> Answer:
    """One reception: by the uuid of its manifest, or the newest of the drive of that name."""
    reception = await accepting.find(call.site, call.request.match_info["name"])
    return Answer(body=(await _describe(call.site, [reception]))[0])


async def list_bad(call: Call[None, ReceptionQuery]) -> Answer:
    """The entries of a reception that could not be taken, with member and reason."""
    query = call.query
    reception = await accepting.find(call.site, call.request.match_info["name"])
    question = f"bad entries of {reception.uuid}"
    after = TransferId(0)
    if query.cursor is not None:
        (last,) = read_cursor(question, query.cursor, (int,))
        after = TransferId(int(last))
    async with call.site.catalog.read() as tx:
        found = await tx.receptions.bad_entries(reception.id, after=after, limit=query.limit)
    entries = [
        BadEntry(name=each.name, size=each.size, code=each.code, reason=each.reason)
        for each in map(receiving.bad_entry, found)
    ]
    cursor = write_cursor(question, [found[-1].id]) if len(found) == query.limit else None
    return Answer(body=BadEntryPage(entries=entries, next_cursor=cursor))


async def cancel_reception(call: Call[None, None]) -> Answer:
    """Read nothing more from a drive; what was not read yet fails, and its sender is told. A repeat does nothing."""
    reception = await accepting.find(call.site, call.request.match_info["name"])
    await accepting.give_up(call.site, call.caller, reception)
    ended = await accepting.find(call.site, reception.uuid)
    return Answer(body=(await _describe(call.site, [ended]))[0])


_TAG: Final = "drives"
ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/api/v1/receptions",
        handler=receive_drive,
        summary="Receive the drive of another site that is mounted at a place",
        roles=_ADMIN,
        body=ReceiveDrive,
        answer=ReceptionDescription,
        refusals=(NotFound, BadRequest, ProtocolMismatch, Conflict, ManifestDamaged, StoreUnavailable),
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/receptions",
        handler=list_receptions,
        summary="Drives of other sites that are received here, or were",
        roles=_ADMIN,
        query=ReceptionQuery,
        answer=ReceptionPage,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/receptions/{name}",
        handler=show_reception,
        summary="One reception, by the uuid of its manifest or the name of its drive",
        roles=_ADMIN,
        answer=ReceptionDescription,
        refusals=(NotFound,),
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/receptions/{name}/bad",
        handler=list_bad,
        summary="Entries of a drive that could not be taken",
        roles=_ADMIN,
        query=ReceptionQuery,
        answer=BadEntryPage,
        refusals=(NotFound,),
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/receptions/{name}/cancel",
        handler=cancel_reception,
        summary="Read nothing more from a drive of another site",
        roles=_ADMIN,
        answer=ReceptionDescription,
        refusals=(NotFound, WrongState),
        tag=_TAG,
    ),
)
