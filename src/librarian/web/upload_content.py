"""The bytes of uploads over HTTP: a file whole or resumed, a book member by member or as one tar stream."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aiohttp import web

from librarian import intake
from librarian.errors import (
    BadName,
    BadRequest,
    NameBusy,
    NoRoom,
    NotFound,
    RangeUnsatisfiable,
    StoreUnavailable,
    TooLarge,
    UnsupportedMember,
    WrongState,
)
from librarian.names import MemberPath
from librarian.states import OPEN, Kind, TransferState
from librarian.web import arrivals, streams, uploads
from librarian.web.route import Answer, Call, Route
from librarian.web.tar_intake import receive_tar
from librarian.wire.uploads import Place, Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from librarian.catalog.records import Incoming
    from librarian.stores.base import Store

#: Says how many bytes are there, and how many there will be.
OFFSET_HEADER: Final = "Upload-Offset"
LENGTH_HEADER: Final = "Upload-Length"
#: A body up to this size comes in one piece: that its upload is ONGOING is not worth a transaction.
SMALL_BYTES: Final = 4 * 1024**2
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")


async def put_content(call: Call[None, Place]) -> Answer:
    """Take the bytes of a file, or a whole book as a tar stream; ``Upload-Offset`` says how many are there."""
    async with call.site.writers.hold(call.request.match_info["id"]) as pen:
        upload = await _writable(call)
        store = call.site.stores.lookup(upload.store)
        chunks = pen.write_down(streams.incoming(call.request))
        if upload.kind is Kind.BOOK:
            if _offset(call, upload.size):
                raise RangeUnsatisfiable(
                    "a tar stream cannot go on in the middle",
                    remedy="Send the stream from its beginning, or the book member by member.",
                )
            received = await _receive_book(call, store, upload, chunks)
        else:
            offset = _offset(call, upload.size)
            received = await store.write(upload.token, None, chunks, offset=offset, limit=upload.size)
    return Answer(body=uploads.describe(call, upload, received=received), headers={OFFSET_HEADER: str(received)})


async def _receive_book(call: Call[None, Place], store: Store, upload: Incoming, chunks: AsyncIterator[bytes]) -> int:
    """Take a tar stream; returns the bytes that then stand in staging."""
    call.request.app[arrivals.ARRIVALS].forget(upload)
    room = arrivals.TIMES * upload.size - await arrivals.staged(store, upload)
    await receive_tar(store, upload.token, chunks, limit=min(upload.size, max(0, room)))
    return await arrivals.staged(store, upload)


async def put_member(call: Call[None, Place]) -> Answer:
    """Take the bytes of one member of a book; ``Upload-Offset`` says how many of it are there."""
    member = MemberPath(call.request.match_info["member"])
    async with call.site.writers.hold(call.request.match_info["id"], part=member) as pen:
        upload = await _writable(call)
        _expect_book(upload)
        store = call.site.stores.lookup(upload.store)
        offset = _offset(call, upload.size)
        chunks = pen.write_down(streams.incoming(call.request))
        async with call.request.app[arrivals.ARRIVALS].counted(upload, store, chunks) as counted:
            size = await store.write(upload.token, member, counted, offset=offset, limit=upload.size)
    return Answer(body=uploads.describe(call, upload), headers={OFFSET_HEADER: str(size)})


async def head_content(call: Call[None, None]) -> web.Response:
    """Say in ``Upload-Offset`` how many bytes have arrived, and in ``Upload-Length`` how many there will be."""
    upload = await intake.describe(call.site, call.caller, call.request.match_info["id"])
    if upload.state in OPEN:
        # Not as in a description: who took "nobody can look" for "nothing is there" would send all of it again.
        return _size_answer(await arrivals.staged(call.site.stores.lookup(upload.store), upload), upload.size)
    return _size_answer(await uploads.received(call.site, upload), upload.size)


async def head_member(call: Call[None, None]) -> web.Response:
    """Say in ``Upload-Offset`` how many bytes of one member have arrived."""
    member = MemberPath(call.request.match_info["member"])
    upload = await intake.describe(call.site, call.caller, call.request.match_info["id"])
    _expect_book(upload)
    size = await call.site.stores.lookup(upload.store).staged_size(upload.token, member)
    if size is None:
        raise NotFound(f"nothing of {member!r} has arrived", remedy="Send it from its beginning.")
    return _size_answer(size, None)


def _size_answer(received: int | None, size: int | None) -> web.Response:
    headers = {} if received is None else {OFFSET_HEADER: str(received)}
    if size is not None:
        headers[LENGTH_HEADER] = str(size)
    return web.Response(status=200, headers=headers)


def _expect_book(upload: Incoming) -> None:
    if upload.kind is not Kind.BOOK:
        raise WrongState(f"{upload.name!r} is a file and has no members", remedy="Send it to its content_url.")


async def _writable(call: Call[None, Place]) -> Incoming:
    """The upload that this request may write to; the caller holds the pen, so that no commit comes in between."""
    site = call.site
    upload = await intake.describe(site, call.caller, call.request.match_info["id"])
    if upload.state not in OPEN:
        raise WrongState(
            f"the upload of {upload.name!r} is {upload.state} and takes no more bytes",
            remedy="Ask how it stands, and wait for the verdict.",
            details={"state": upload.state},
        )
    length = call.request.content_length
    is_large = length is None or length > SMALL_BYTES or upload.kind is Kind.BOOK
    if upload.state is TransferState.INITIATED and is_large:
        async with site.catalog.begin() as tx:
            if await tx.incoming.advance([upload.id], to=TransferState.ONGOING):
                return replace(upload, state=TransferState.ONGOING)
    return upload


def _offset(call: Call[None, Place], size: int) -> int:
    """Where the bytes of this request begin; *size* is the most there may be.

    Raises
    ------
    BadRequest
        ``offset`` and ``Content-Range`` contradict each other or the body.
    """
    offset, sent = call.query.offset, call.request.headers.get("Content-Range")
    if sent is None:
        return offset or 0
    matched = _CONTENT_RANGE.fullmatch(sent)
    length = call.request.content_length
    if matched is None or int(matched[2]) < int(matched[1]):
        raise BadRequest(f"Cannot read the Content-Range {sent[:80]!r}", remedy="Write 'bytes 10-19/100'.")
    first, last = int(matched[1]), int(matched[2])
    if offset not in (None, first) or length not in (None, last - first + 1):
        raise BadRequest("the Content-Range contradicts the offset or the body", remedy="Leave one of them out.")
    if matched[3] not in ("*", str(size)) and call.request.match_info.get("member") is None:
        raise BadRequest(f"the Content-Range speaks of {matched[3]} bytes in all", remedy=f"There are to be {size}.")
    return first


_REFUSALS: Final = (NotFound, WrongState, NameBusy, TooLarge, RangeUnsatisfiable, NoRoom, StoreUnavailable)
_CONTENT: Final = "/api/v1/uploads/{id}/content"
_MEMBER: Final = "/api/v1/uploads/{id}/content/{member:.+}"
ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="PUT",
        path=_CONTENT,
        handler=put_content,
        summary="Bring a file, or a book as a tar stream",
        roles=uploads.UPLOADERS,
        query=Place,
        answer=Upload,
        refusals=(*_REFUSALS, UnsupportedMember),
        streams=True,
        tag=uploads.TAG,
    ),
    Route(
        method="HEAD",
        path=_CONTENT,
        handler=head_content,
        summary="How many bytes have arrived",
        roles=uploads.UPLOADERS,
        refusals=(NotFound, StoreUnavailable),
        tag=uploads.TAG,
    ),
    Route(
        method="PUT",
        path=_MEMBER,
        handler=put_member,
        summary="Bring one member of a book",
        roles=uploads.UPLOADERS,
        query=Place,
        answer=Upload,
        refusals=(*_REFUSALS, BadName),
        streams=True,
        tag=uploads.TAG,
    ),
    Route(
        method="HEAD",
        path=_MEMBER,
        handler=head_member,
        summary="How many bytes of a member have arrived",
        roles=uploads.UPLOADERS,
        refusals=(NotFound, BadName, WrongState, StoreUnavailable),
        tag=uploads.TAG,
    ),
)
