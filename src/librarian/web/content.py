"""Downloads: a file or member with ranges, a whole book as a tar stream; memory stays flat whatever the size."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from aiohttp import web

from librarian.errors import BadRequest, LibrarianError, NotFound, RangeUnsatisfiable, StoreUnavailable
from librarian.states import Intent, Kind, Presence
from librarian.web.files import READERS, members_by_path, named_file, unknown
from librarian.web.route import Answer, Call, Route
from librarian.web.tarring import Entry, tar_pieces
from librarian.wire.files import ContentQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from librarian.catalog.records import File, InstanceRecord
    from librarian.checksum import MemberDigest
    from librarian.names import FileName, MemberPath
    from librarian.site import Site
    from librarian.stores.base import Store

#: Bytes read in one trip to a thread. Larger ones gain nothing, smaller ones cost trips.
CHUNK: Final = 1024**2
_RANGE: Final = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A file of the catalog and the store to read it from; ``members`` of a book only."""

    file: File
    store: Store
    members: tuple[MemberDigest, ...]


async def download(call: Call[None, ContentQuery]) -> Answer | web.StreamResponse:
    """Give a file's bytes, one member's with ``?member=``, or a whole book as tar."""
    source = await _find(call)
    if source.file.kind is Kind.BOOK and call.query.member is None:
        return await _send_tar(call.request, source)
    if source.file.kind is Kind.FILE:
        if call.query.member is not None:
            raise NotFound(f"{source.file.name!r} is a file, not a book", remedy="Leave out 'member'.")
        return await _send_bytes(call.request, source, None, size=source.file.size, digest=source.file.checksum)
    member = _member_of(source, call.query.member or "")
    return await _send_bytes(
        call.request,
        source,
        member.path,
        size=member.size,
        digest=f"{source.file.checksum.algorithm}:{member.hex}",
    )


async def _find(call: Call[None, ContentQuery]) -> _Source:
    name = named_file(call.request)
    async with call.site.catalog.read() as tx:
        file = (await tx.files.named([name])).get(name)
        if file is None:
            raise unknown(name)
        instances = await tx.instances.of_files([file.id])
        listing = await tx.files.listing_of(file.id) if file.kind is Kind.BOOK else None
    store = choose_store(call.site, name, instances)
    members = () if listing is None else tuple(await asyncio.to_thread(members_by_path, listing.packed))
    return _Source(file=file, store=store, members=members)


def choose_store(site: Site, name: FileName, instances: tuple[InstanceRecord, ...]) -> Store:
    """A store that answers and holds a good copy; one that is to be kept rather than one being withdrawn.

    Raises
    ------
    NotFound
        No good copy is here.
    StoreUnavailable
        Good copies are here, but on stores that cannot be read now.
    """
    drives = {store.name for store in site.stores.drives()}
    good = sorted(
        (each for each in instances if each.presence is Presence.PRESENT),
        # A drive is to be loaded and carried, not to be read from while others can.
        key=lambda each: (each.intent is not Intent.KEEP, each.store in drives),
    )
    if not good:
        raise NotFound(
            f"no good copy of {name!r} is at this site",
            remedy="Describe the file: it says which peers hold a copy.",
        )
    stores = {store.name: store for store in site.stores.all()}
    reasons = []
    for each in good:
        store = stores.get(each.store)
        problem = "is not configured" if store is None else store.problem
        if store is not None and problem is None:
            return store
        reasons.append(f"{each.store} {problem}")
    raise StoreUnavailable(
        f"{name!r} cannot be read now: {'; '.join(reasons)}", remedy="Ask again when the store is back."
    )


def _member_of(source: _Source, path: str) -> MemberDigest:
    for member in source.members:
        if member.path == path and member.hex is not None:
            return member
    raise NotFound(f"{source.file.name!r} has no member {path!r}", remedy="List them: GET /api/v1/members/<name>.")


def _open_for_reading(store: Store, name: FileName, member: MemberPath | None) -> int:
    """A descriptor of a published payload; blocks on the disk.

    Raises
    ------
    NotFound, StoreUnavailable
    """
    path: Path = store.published_member(name, member)
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise NotFound(f"{path} is not there", remedy="The copy is lost: another must take its place.") from error
    except OSError as error:
        raise StoreUnavailable(f"cannot open {path}: {error.strerror}", remedy="Check the store's mount.") from error


@dataclass(frozen=True, kw_only=True)
class _Span:
    """Bytes ``start`` up to ``end`` (excluded) of ``size``."""

    start: int
    end: int
    size: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        return self.start == 0 and self.end == self.size


def wanted_span(header: str | None, size: int) -> _Span:
    """What a ``Range`` header asks for; several ranges, other units and nonsense mean the whole (RFC 9110, 14.2).

    Raises
    ------
    RangeUnsatisfiable
        It begins behind the end.
    """
    whole = _Span(start=0, end=size, size=size)
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return whole
    first, last = match.groups()
    if not first:
        if int(last) == 0:
            raise _no_such_range(size)
        return _Span(start=max(0, size - int(last)), end=size, size=size)
    if last and int(last) < int(first):
        return whole
    if int(first) >= size:
        raise _no_such_range(size)
    return _Span(start=int(first), end=min(size, int(last) + 1) if last else size, size=size)


def _no_such_range(size: int) -> RangeUnsatisfiable:
    return RangeUnsatisfiable(
        f"the range begins behind the {size:,} bytes", remedy="Ask for a part of it.", details={"size": size}
    )


def _headers(etag: str, filename: str) -> dict[str, str]:
    plain = re.sub(r'[^ -~]|["\\]', "_", filename)
    return {
        "ETag": etag,
        # Immutable by the catalog's promise, but only for those who may read it.
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}",
        "X-Content-Type-Options": "nosniff",
    }


def _is_known_to_caller(request: web.Request, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")]
    return etag in tags or tags == ["*"]


async def _send_bytes(
    request: web.Request, source: _Source, member: MemberPath | None, *, size: int, digest: str
) -> web.StreamResponse:
    etag = f'"{digest}"'
    headers = _headers(etag, (member or source.file.name).rpartition("/")[2]) | {"Accept-Ranges": "bytes"}
    if _is_known_to_caller(request, etag):
        return web.Response(status=304, headers=headers)
    # "If-Range" with another tag: the caller's first part is of something else, so it gets the whole.
    is_partial = request.headers.get("If-Range", etag) == etag
    span = wanted_span(request.headers.get("Range") if is_partial else None, size)
    response = web.StreamResponse(status=200 if span.is_whole else 206, headers=headers)
    response.content_type = "application/octet-stream"
    response.content_length = span.end - span.start
    if not span.is_whole:
        response.headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{size}"
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    store = source.store
    descriptor = await store.read(partial(_open_for_reading, store, source.file.name, member))
    try:
        found = (await store.read(partial(os.fstat, descriptor))).st_size
        if found != size:
            raise StoreUnavailable(
                f"the copy of {source.file.name!r} has {found:,} bytes instead of {size:,}",
                remedy="The copy is damaged: another must take its place.",
            )
        await response.prepare(request)
        await _copy_span(response, store, descriptor, span)
    finally:
        _in_passing(partial(os.close, descriptor))
    await response.write_eof()
    return response


async def _copy_span(response: web.StreamResponse, store: Store, descriptor: int, span: _Span) -> None:
    """Write a span, reading the next chunk while the last one is on its way."""

    async def read(at: int) -> bytes:
        chunk: bytes = await store.read(partial(os.pread, descriptor, min(CHUNK, span.end - at), at))
        return chunk

    at = span.start
    reading: asyncio.Future[bytes] | None = None
    try:
        while at < span.end or reading is not None:
            chunk = await (reading or read(at))
            at += len(chunk)
            if not chunk:
                raise ConnectionAbortedError("a copy became shorter while it was sent")
            reading = None
            if at < span.end:
                reading = asyncio.ensure_future(read(at))
            await response.write(chunk)
    finally:
        if reading is not None:
            # The descriptor is closed by the caller: no thread may read from it then.
            with suppress(LibrarianError, asyncio.CancelledError):
                await asyncio.shield(reading)


def _in_passing(work: Callable[[], object]) -> None:
    """Do *work*, which no disk can make fail but a dead mount may hold up, where nobody waits for it."""
    threading.Thread(target=work, name="in passing", daemon=True).start()


async def _send_tar(request: web.Request, source: _Source) -> web.StreamResponse:
    top = source.file.name.rpartition("/")[2]
    etag = f'"{source.file.checksum}+tar"'
    headers = _headers(etag, f"{top}.tar")
    if _is_known_to_caller(request, etag):
        return web.Response(status=304, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_type = "application/x-tar"
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    pieces = tar_pieces(top, _entries(source), at=source.file.created_at)
    # The first piece comes before the headers: a store that is away can still be told in an answer.
    read = partial(source.store.read, partial(next, pieces, None))
    try:
        piece = await read()
        await response.prepare(request)
        while piece is not None:
            await response.write(piece)
            piece = await read()
    finally:
        _in_passing(partial(_close, pieces))
    await response.write_eof()
    return response


def _close(pieces: Generator[bytes]) -> None:
    # One that is still being read, on a dead mount, closes itself when it ends.
    with suppress(ValueError):
        pieces.close()


def _entries(source: _Source) -> Iterator[Entry]:
    for member in source.members:
        yield Entry(
            path=member.path,
            size=member.size,
            is_directory=member.hex is None,
            open=partial(_open_for_reading, source.store, source.file.name, member.path),
        )


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/api/v1/content/{name:.+}",
        handler=download,
        summary="Download a file, one member of a book, or a book as tar",
        roles=READERS,
        query=ContentQuery,
        statuses=(200, 206, 304),
        refusals=(NotFound, BadRequest, RangeUnsatisfiable, StoreUnavailable),
        tag="files",
    ),
)
