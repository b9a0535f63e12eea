"""Reading framed content streams: one line of tokens, then frames, each a line and the bytes it announces.

Small frames are collected and written many at once; large ones go to disk as they come. Memory stays flat, and a
slow disk slows the sender down.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from librarian.catalog.incoming_rows import Seen
from librarian.errors import BadName, BadRequest, LibrarianError, NotFound, TooLarge, WrongState
from librarian.names import MemberPath, StoreName, Token
from librarian.room import factor_of
from librarian.states import OPEN, Kind, TransferState
from librarian.web.arrivals import TIMES
from librarian.wire.clones import FRAME_HEADER_BYTES, ContentWritten, FrameHeader, FrameRefusal, FrameTokens
from librarian.wire.problems import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from librarian.catalog.records import Incoming, Peer
    from librarian.site import Site

#: Frames up to this size are collected; larger ones are written on their own.
SMALL_BYTES: Final = 1024**2
#: What is collected before it is written.
HEAP_BYTES: Final = 8 * 1024**2
HEAP_FRAMES: Final = 512
#: Progress is written down at least this often while bytes come.
NOTE_EVERY: Final = timedelta(seconds=10)
#: Longest first line: 4,096 tokens.
_TOKENS_BYTES: Final = 256 * 1024


class FrameReader:
    """Lines and bytes out of a body that comes in chunks of any size."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        #: What has come last; it is read from ``_at`` on, and never copied as a whole.
        self._chunk = b""
        self._at = 0
        self._ended = False

    async def _more(self) -> bool:
        """Have the next chunk follow what is left of this one."""
        if self._ended:
            return False
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._ended = True
            return False
        self._chunk, self._at = self._chunk[self._at :] + chunk, 0
        return True

    async def line(self, limit: int) -> bytes | None:
        """The next line without its end, or None when the body has ended.

        Raises
        ------
        BadRequest
            The line is longer than *limit*, or the body ends within it.
        """
        looked = 0
        while (end := self._chunk.find(b"\n", self._at + looked)) < 0:
            looked = len(self._chunk) - self._at
            if looked > limit:
                break
            if not await self._more():
                if not looked:
                    return None
                raise BadRequest("the content stream ends within a line", remedy="Send what is missing again.")
        if end < 0 or end - self._at > limit:
            raise BadRequest(f"a line of the content stream is longer than {limit:,} bytes", remedy="It is no frame.")
        line = self._chunk[self._at : end]
        self._at = end + 1
        return line

    async def exactly(self, size: int) -> bytes:
        """The next *size* bytes; raises BadRequest when the body ends before."""
        return b"".join([piece async for piece in self.pieces(size)])

    async def pieces(self, size: int) -> AsyncIterator[bytes]:
        """The next *size* bytes as they come; raises BadRequest when the body ends before."""
        left = size
        while left:
            if self._at == len(self._chunk) and not await self._more():
                raise _cut_off()
            piece = self._chunk[self._at : self._at + left]
            self._at += len(piece)
            left -= len(piece)
            yield piece


def _cut_off() -> BadRequest:
    return BadRequest("the content stream ends within a frame", remedy="Ask what has arrived, and send the rest.")


@dataclass(kw_only=True)
class _Heap:
    """Small frames of one store that wait to be written together."""

    frames: list[tuple[Token, MemberPath | None, bytes]] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class _Target:
    """Where one frame goes."""

    row: Incoming
    member: MemberPath | None


class ContentIntake:
    """Writes the frames of one request into the staging of clones that *peer* may write."""

    def __init__(self, site: Site, peer: Peer, reader: FrameReader) -> None:
        self._site = site
        self._peer = peer
        self._reader = reader
        self._tokens: list[Token] = []
        self._rows: dict[Token, Incoming] = {}
        self._written: dict[Token, int] = {}
        self._heaps: dict[StoreName, _Heap] = {}
        self._writing: asyncio.Task[None] | None = None
        self._refused: list[FrameRefusal] = []
        self._frames = 0
        self._bytes = 0
        self._touched: set[Token] = set()
        self._noted_at = time.monotonic()

    async def receive(self) -> ContentWritten:
        """Read the whole stream; what was refused is in the answer, everything else is in staging."""
        self._tokens = [Token(token) for token in (await self._first_line()).tokens]
        async with self._site.catalog.read() as tx:
            rows = await tx.incoming.with_tokens(self._tokens)
        uuids = [row.uuid for row in rows if row.peer_id == self._peer.id]
        # Joined before the states are read: a notice that stages a clone waits for those who still write to it.
        async with self._site.writers.join(uuids, peer=self._peer.id) as joined:
            await self._admit(joined)
            try:
                while (line := await self._reader.line(FRAME_HEADER_BYTES)) is not None:
                    await self._frame(_header(line))
                    await self._note_now_and_then()
                await self._flush_all()
            finally:
                await self._settle()
        return ContentWritten(frames=self._frames, bytes=self._bytes, refused=self._refused)

    async def _first_line(self) -> FrameTokens:
        line = await self._reader.line(_TOKENS_BYTES)
        try:
            return FrameTokens.model_validate_json(line or b"")
        except (ValidationError, BadName) as error:
            raise BadRequest("a content stream starts with a line of tokens", remedy="Send it first.") from error

    async def _admit(self, joined: frozenset[str]) -> None:
        async with self._site.catalog.begin() as tx:
            rows = await tx.incoming.with_tokens(self._tokens)
            mine = [row for row in rows if may_be_written(self._site, row, self._peer) and row.uuid in joined]
            new = [row.id for row in mine if row.state is TransferState.INITIATED]
            await tx.incoming.advance(new, to=TransferState.ONGOING)
        self._rows = {row.token: row for row in mine}
        begun: dict[StoreName, list[Token]] = {}
        for row in mine:
            if row.state is not TransferState.INITIATED:
                begun.setdefault(row.store, []).append(row.token)
        for store, tokens in begun.items():
            self._written |= await self._site.stores.lookup(store).staged_sizes(tokens)

    async def _frame(self, header: FrameHeader) -> None:
        try:
            target = self._target(header)
        except LibrarianError as error:
            self._refuse(header, error)
            async for _ in self._reader.pieces(header.size):
                pass
            return
        self._touched.add(target.row.token)
        if header.directories is not None:
            await self._directories(header, target)
        elif header.size <= SMALL_BYTES and header.offset == 0:
            await self._collect(target, await self._reader.exactly(header.size))
        else:
            await self._stream(header, target)
        self._frames += 1
        self._bytes += header.size

    def _target(self, header: FrameHeader) -> _Target:
        """Where the frame goes; raises a LibrarianError when it may not go anywhere."""
        if header.token >= len(self._tokens):
            raise BadRequest(f"the stream names {len(self._tokens)} tokens, a frame number {header.token}")
        row = self._rows.get(self._tokens[header.token])
        if row is None:
            raise NotFound("no clone with this token waits for bytes from you", remedy="Offer it again.")
        is_book = row.kind is Kind.BOOK
        is_member = header.path is not None or header.directories is not None
        if is_book is not is_member:
            raise WrongState(f"the clone is a {row.kind.value}, the frame is not for one", remedy="Check the offer.")
        seen = self._written.get(row.token, 0)
        limit = TIMES * row.size if is_book else row.size
        if (seen + header.size if is_book else header.offset + header.size) > limit:
            raise TooLarge(
                f"more than the {row.size:,} bytes that were offered", remedy="Offer it with the size that it has."
            )
        self._written[row.token] = seen + header.size if is_book else max(seen, header.offset + header.size)
        return _Target(row=row, member=None if header.path is None else MemberPath(header.path))

    def _refuse(self, header: FrameHeader, error: LibrarianError) -> None:
        token = self._tokens[header.token] if header.token < len(self._tokens) else ""
        self._refused.append(
            FrameRefusal(
                token=token,
                path=header.path,
                problem=Problem(code=error.code, message=error.message, remedy=error.remedy),
            )
        )

    async def _directories(self, header: FrameHeader, target: _Target) -> None:
        store = self._site.stores.lookup(target.row.store)
        try:
            paths = [MemberPath(path) for path in header.directories or ()]
            await store.make_book_directories(target.row.token, paths)
        except LibrarianError as error:
            self._refuse(header, error)

    async def _collect(self, target: _Target, content: bytes) -> None:
        heap = self._heaps.setdefault(target.row.store, _Heap())
        heap.frames.append((target.row.token, target.member, content))
        heap.size += len(content)
        if heap.size >= HEAP_BYTES or len(heap.frames) >= HEAP_FRAMES:
            await self._flush(target.row.store)

    async def _flush(self, store: StoreName) -> None:
        """Start to write what was collected; at most one heap is written while the next one fills."""
        heap = self._heaps.pop(store, None)
        await self._wait_for_writing()
        if heap is not None:
            self._writing = asyncio.create_task(self._write(store, heap.frames), name="write small frames")

    async def _flush_all(self) -> None:
        for store in list(self._heaps):
            await self._flush(store)
        await self._wait_for_writing()

    async def _wait_for_writing(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    async def _write(self, store: StoreName, frames: Sequence[tuple[Token, MemberPath | None, bytes]]) -> None:
        try:
            outcomes = await self._site.stores.lookup(store).write_small(frames)
        except LibrarianError as error:
            outcomes = [error] * len(frames)
        for (token, member, _), outcome in zip(frames, outcomes, strict=True):
            if outcome is not None:
                self._refuse_member(token, member, outcome)

    def _refuse_member(self, token: Token, member: MemberPath | None, error: LibrarianError) -> None:
        problem = Problem(code=error.code, message=error.message, remedy=error.remedy)
        self._refused.append(FrameRefusal(token=token, path=member, problem=problem))

    async def _stream(self, header: FrameHeader, target: _Target) -> None:
        store = self._site.stores.lookup(target.row.store)
        pieces = self._reader.pieces(header.size)
        try:
            await store.write(
                target.row.token, target.member, pieces, offset=header.offset, limit=header.offset + header.size
            )
        except BadRequest:
            raise
        except LibrarianError as error:
            self._refuse_member(target.row.token, target.member, error)
            async for _ in pieces:
                pass

    async def _note_now_and_then(self) -> None:
        if time.monotonic() - self._noted_at > NOTE_EVERY.total_seconds():
            await self._note()

    async def _note(self) -> None:
        """Write down what has arrived: it counts as progress, and its room is no longer promised."""
        self._noted_at = time.monotonic()
        rows = [self._rows[token] for token in self._touched]
        seen = [Seen(id=row.id, reserved=self._still_needed(row)) for row in rows]
        self._touched.clear()
        async with self._site.catalog.begin() as tx:
            await tx.claims.saw(seen)

    def _still_needed(self, row: Incoming) -> int:
        factor = factor_of(self._site.stores.lookup(row.store))
        return max(0, factor * row.size - self._written.get(row.token, 0))

    async def _settle(self) -> None:
        """On every way out: nothing is written after the request, and what arrived is noted."""
        writing, self._writing = self._writing, None
        if writing is not None:
            await asyncio.wait([writing])
        await self._note()


def may_be_written(site: Site, row: Incoming, peer: Peer) -> bool:
    """Whether *row* is a clone of *peer* that takes bytes: open, and on a store that we still have."""
    return row.peer_id == peer.id and row.state in OPEN and row.store in site.stores


def _header(line: bytes) -> FrameHeader:
    try:
        return FrameHeader.model_validate_json(line)
    except ValidationError as error:
        raise BadRequest(
            "a frame of the content stream has a header that cannot be read", remedy="Send the stream again."
        ) from error


async def staged_content(site: Site, rows: Sequence[Incoming]) -> dict[Token, dict[MemberPath | None, int]]:
    """What has arrived of each of *rows*: bytes per member (None: the payload itself)."""
    by_store: dict[StoreName, list[Token]] = {}
    for row in rows:
        by_store.setdefault(row.store, []).append(row.token)
    found: dict[Token, dict[MemberPath | None, int]] = {row.token: {} for row in rows}
    for name, tokens in by_store.items():
        store = site.stores.lookup(name)
        begun = await store.staged_sizes(tokens)
        for token in begun:
            found[token] = await store.staged_members(token)
    return found
