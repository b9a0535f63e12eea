"""Untarring: a tar stream becomes entries of a book, and every trick that tar knows is refused.

Read are regular files and directories in the ustar, GNU and pax formats. Refused are links of both kinds, devices,
FIFOs, sparse files, absolute paths, ``..``, names that are not UTF-8, duplicates, a file where a directory belongs,
negative and contradictory sizes, headers with a wrong checksum, streams that end too soon, and bytes after the end.
Memory does not grow with the bytes, only with the number of names.

What is the book's top? ``tar -C book -c .`` names members ``./a``: the ``./`` is taken off. ``tar -c data/book`` names
them ``data/book/a`` and begins with the directory ``data/book/`` itself: a directory that comes first is the top, it is
taken off, and everything else must lie in it. A stream that begins with a file is taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from librarian.errors import BadRequest, LibrarianError, TooLarge, UnsupportedMember
from librarian.names import MemberPath
from librarian.web import tar_headers
from librarian.web.tar_headers import BLOCK, ZEROS, Header

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: A stream may be padded with so many zeros at its end; tar's blocking factor seldom makes it more than 10,240.
MOST_PADDING: Final = 16 * 1024**2
#: Names are remembered to refuse duplicates.
MOST_ENTRIES: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One member: a file of *size* bytes, or a directory. Read a file with ``Untar.content`` before going on."""

    path: MemberPath
    is_directory: bool
    size: int


class Untar:
    """The entries of a tar stream, in order: ``async for entry in untar.entries()``."""

    def __init__(self, chunks: AsyncIterator[bytes], *, limit: int) -> None:
        self._source = _Source(chunks)
        self._limit = limit
        self._received = 0
        #: Bytes of the current file that were not read yet.
        self._left = 0
        self._padding = 0
        self._names = _Names()

    async def entries(self) -> AsyncIterator[Entry]:
        """Every entry but the top itself.

        Raises
        ------
        UnsupportedMember
            An entry is something that a book cannot hold, or tries a trick.
        TooLarge
            The files have more bytes than the limit, or there are too many.
        BadRequest
            The stream is damaged, or ends too soon, or goes on after its end.
        """
        while True:
            await self._skip()
            header = await self._next_header()
            if header is None:
                await self._expect_end()
                return
            self._received += header.size
            if self._received > self._limit:
                raise TooLarge(
                    f"the members have more than the {self._limit:,} bytes that may come",
                    remedy="Open the upload with its true size.",
                    details={"limit": self._limit},
                )
            self._left, self._padding = header.size, -header.size % BLOCK
            path = self._names.place(header)
            if path is not None:
                yield Entry(path=path, is_directory=header.is_directory, size=header.size)

    async def content(self) -> AsyncIterator[bytes]:
        """The bytes of the current file, as they come."""
        while self._left:
            piece = await self._source.at_most(self._left)
            self._left -= len(piece)
            yield piece

    async def whole(self) -> bytes:
        """The current file, which must be small."""
        content = await self._source.exactly(self._left)
        self._left = 0
        return content

    async def _skip(self) -> None:
        async for _ in self.content():
            pass
        await self._source.exactly(self._padding)
        self._padding = 0

    async def _next_header(self) -> Header | None:
        """The next entry's header with its extensions applied; None at the end mark."""
        extensions = tar_headers.Extensions()
        while True:
            block = await self._source.exactly(BLOCK)
            if block == ZEROS:
                if extensions.are_any:
                    raise BadRequest("the tar stream ends after half an entry", remedy="Send it again.")
                return None
            raw = tar_headers.parse(block)
            if raw.is_extension:
                size = extensions.check(raw)
                extensions.add(raw, await self._source.exactly(size))
                await self._source.exactly(-size % BLOCK)
                continue
            return extensions.apply(raw)

    async def _expect_end(self) -> None:
        """Two blocks of zeros, then nothing but zeros."""
        if await self._source.exactly(BLOCK) != ZEROS:
            raise BadRequest("the tar stream goes on after its end", remedy="Send one archive, whole.")
        padding = 0
        while rest := await self._source.some():
            padding += len(rest)
            if padding > MOST_PADDING or rest.count(0) != len(rest):
                raise BadRequest("the tar stream has bytes after its end", remedy="Send one archive, whole.")


class _Names:
    """Which names were there, and where the book's top is."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._directories: set[str] = set()
        self._told: set[str] = set()
        self._top: str | None = None
        self._has_begun = False

    def place(self, header: Header) -> MemberPath | None:
        """The member path of an entry, or None for the top itself."""
        text = header.name.removeprefix("./")
        if header.is_directory:
            text = text.removesuffix("/")
        is_first, self._has_begun = not self._has_begun, True
        if text in (".", ""):
            if not header.is_directory or header.name not in (".", "./"):
                raise UnsupportedMember(f"the entry {header.name!r} has no name", remedy="Send a book's members.")
            self._tell("")
            return None
        path = _member(text, header.name)
        if is_first and header.is_directory:
            self._top = path
            self._tell("")
            return None
        if self._top is not None:
            if path == self._top:
                raise _duplicate(header.name)
            if not path.startswith(f"{self._top}/"):
                raise UnsupportedMember(
                    f"the entry {header.name!r} lies outside {self._top + '/'!r}, which came first and so is the book",
                    remedy="If it is but a part of the book, send the book as 'tar -C book -c .' does.",
                )
            path = MemberPath(path[len(self._top) + 1 :])
        self._remember(path, is_directory=header.is_directory)
        return path

    def _tell(self, name: str) -> None:
        if name in self._told:
            raise _duplicate(name or "./")
        self._told.add(name)

    def _remember(self, path: MemberPath, *, is_directory: bool) -> None:
        if path in self._files or (not is_directory and path in self._directories):
            raise _duplicate(path)
        cut = path.rfind("/")
        while cut > 0 and path[:cut] not in self._directories:
            if path[:cut] in self._files:
                raise UnsupportedMember(
                    f"{path!r} lies in {path[:cut]!r}, which is a file", remedy="Send each name once."
                )
            self._directories.add(path[:cut])
            cut = path.rfind("/", 0, cut)
        if is_directory:
            self._tell(path)
            self._directories.add(path)
        else:
            self._files.add(path)
        if len(self._files) + len(self._directories) > MOST_ENTRIES:
            raise TooLarge(f"the book has more than {MOST_ENTRIES:,} members", remedy="Split it into several books.")


def _member(text: str, as_sent: str) -> MemberPath:
    if text.startswith("/"):
        raise UnsupportedMember(f"the entry {as_sent!r} is an absolute path", remedy="Send relative paths.")
    try:
        return MemberPath(text)
    except LibrarianError as error:
        raise UnsupportedMember(f"an entry cannot be a member: {error.message}", remedy=error.remedy) from error


def _duplicate(name: str) -> UnsupportedMember:
    return UnsupportedMember(f"the entry {name!r} comes twice", remedy="Send each name once.")


class _Source:
    """The stream, cut as it is asked for."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = memoryview(b"")

    async def some(self) -> bytes:
        """What comes next; empty at the end."""
        while not self._chunk:
            try:
                self._chunk = memoryview(await anext(self._chunks))
            except StopAsyncIteration:
                return b""
        piece, self._chunk = self._chunk, memoryview(b"")
        return bytes(piece)

    async def at_most(self, count: int) -> bytes:
        """Between one and *count* bytes; raises BadRequest when there are none."""
        while not self._chunk:
            try:
                self._chunk = memoryview(await anext(self._chunks))
            except StopAsyncIteration:
                raise BadRequest(
                    "the tar stream ends too soon", remedy="Send it again, whole; what arrived is overwritten."
                ) from None
        piece, self._chunk = self._chunk[:count], self._chunk[count:]
        return bytes(piece)

    async def exactly(self, count: int) -> bytes:
        """*count* bytes; raises BadRequest when there are fewer."""
        if len(self._chunk) >= count:
            piece, self._chunk = self._chunk[:count], self._chunk[count:]
            return bytes(piece)
        parts: list[bytes] = []
        while count:
            parts.append(await self.at_most(count))
            count -= len(parts[-1])
        return b"".join(parts)
