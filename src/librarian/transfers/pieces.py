"""Pieces: what of a payload still has to be sent, and how it is read. Everything here blocks: call it in a thread."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from librarian.states import Kind
from librarian.wire.clones import FRAME_HEADER_BYTES, FrameHeader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from io import RawIOBase

    from librarian.names import Token
    from librarian.transfers.base import Item

#: Bytes read at once.
CHUNK_BYTES: Final = 1024**2
#: Bytes of a large member in one frame: the receiver notes its progress between frames.
FRAME_BYTES: Final = 64 * 1024**2
#: Bytes of names of empty directories in one frame: escaped, they must still fit into its header.
DIRECTORY_BYTES: Final = FRAME_HEADER_BYTES // 4


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A file or a member from ``offset`` to its end; or, with ``directories``, a book's empty directories."""

    item: Item
    #: Where it is read.
    source: Path
    #: None for a payload that is a file.
    path: str | None
    offset: int
    size: int
    directories: tuple[str, ...] | None = None

    @property
    def left(self) -> int:
        """Bytes still to be sent."""
        return self.size - self.offset


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Bytes for the wire: headers and content, or a part of one large content."""

    data: bytes
    payload_bytes: int


class SourceFailed(Exception):
    """A source does not give the bytes that its frame had announced: the stream must be broken off."""


def missing(
    items: Sequence[Item], there: Mapping[str, Mapping[str | None, int]]
) -> tuple[list[Piece], list[tuple[Item, str]]]:
    """The pieces of *items* that are not *there* yet (bytes per member, per token), and items that cannot be read."""
    found: list[Piece] = []
    failed: list[tuple[Item, str]] = []
    for item in items:
        if item.source is None:
            failed.append((item, "no healthy copy of it is left at the sender"))
            continue
        try:
            members = list(_pieces(item, item.source))
        except OSError as error:
            failed.append((item, f"cannot read it at the sender: {error.strerror}: {error.filename}"))
            continue
        found += _without(members, there.get(item.token, {}))
    return found, failed


def _without(members: Sequence[Piece], there: Mapping[str | None, int]) -> Iterator[Piece]:
    for piece in members:
        have = there.get(piece.path, -1) if piece.directories is None else -1
        if have == piece.size:
            continue
        # More than there should be is no beginning of ours: send it anew.
        start = have if 0 < have < piece.size else 0
        yield Piece(
            item=piece.item,
            source=piece.source,
            path=piece.path,
            offset=start,
            size=piece.size,
            directories=piece.directories,
        )


def _pieces(item: Item, source: Path) -> Iterator[Piece]:
    if item.kind is Kind.FILE:
        # Published files are immutable and verified: their size is the promised one, or reading shows it.
        yield Piece(item=item, source=source, path=None, offset=0, size=item.size)
        return
    top = os.fspath(source)
    empty: list[str] = []
    members: list[Piece] = []
    for directory, names, files in os.walk(source, onerror=_raise):
        names.sort()
        # Text, not Path: a hundred thousand members are walked in a second.
        inside = directory[len(top) :].lstrip("/")
        prefix = f"{inside}/" if inside else ""
        if not names and not files and prefix:
            empty.append(inside)
        for name in sorted(files):
            path = Path(directory, name)
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file", str(path))
            members.append(Piece(item=item, source=path, path=f"{prefix}{name}", offset=0, size=found.st_size))
    for directories in _in_frames(empty):
        yield Piece(item=item, source=source, path=None, offset=0, size=0, directories=directories)
    yield from members


def _in_frames(directories: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """*directories* in parts that fit into a frame's header; at least one part, which makes the book's top."""
    part: list[str] = []
    size = 0
    for directory in directories:
        length = len(directory.encode()) + 3
        if part and size + length > DIRECTORY_BYTES:
            yield tuple(part)
            part, size = [], 0
        part.append(directory)
        size += length
    yield tuple(part)


def _raise(error: OSError) -> None:
    raise error


class Chunks:
    """Reads pieces as chunks for the wire: many small ones together, large ones in parts."""

    def __init__(self, pieces: Sequence[Piece], places: Mapping[Token, int]) -> None:
        self._pieces = iter(pieces)
        self._places = places
        self._source = self._read_all()
        self._failed: list[tuple[Item, str]] = []

    def read(self) -> Chunk | None:
        """The next chunk, or None at the end. Raises SourceFailed when a frame cannot be completed."""
        return next(self._source, None)

    def take_failures(self) -> list[tuple[Item, str]]:
        """Items that could not be read since the last call."""
        failed, self._failed = self._failed, []
        return failed

    def _read_all(self) -> Iterator[Chunk]:
        parts: list[bytes] = []
        gathered = payload = 0
        for piece in self._pieces:
            if piece.left > CHUNK_BYTES:
                if parts:
                    yield Chunk(data=b"".join(parts), payload_bytes=payload)
                    parts, gathered, payload = [], 0, 0
                yield from self._read_large(piece)
                continue
            content = self._read_small(piece)
            if content is None:
                continue
            parts += [self._header(piece, piece.offset, len(content)), content]
            payload += len(content)
            gathered += len(content) + 200
            if gathered >= CHUNK_BYTES:
                yield Chunk(data=b"".join(parts), payload_bytes=payload)
                parts, gathered, payload = [], 0, 0
        if parts:
            yield Chunk(data=b"".join(parts), payload_bytes=payload)

    def _header(self, piece: Piece, offset: int, size: int) -> bytes:
        header = FrameHeader.model_construct(
            token=self._places[piece.item.token],
            path=piece.path,
            offset=offset,
            size=size,
            directories=None if piece.directories is None else list(piece.directories),
        )
        return header.model_dump_json(exclude_none=True).encode() + b"\n"

    def _read_small(self, piece: Piece) -> bytes | None:
        if piece.directories is not None:
            return b""
        try:
            with piece.source.open("rb", buffering=0) as file:
                file.seek(piece.offset)
                content = file.read(piece.left + 1)
        except OSError as error:
            self._failed.append((piece.item, f"cannot read it at the sender: {error.strerror}: {piece.source}"))
            return None
        if len(content) != piece.left:
            self._failed.append((piece.item, f"it has not the promised {piece.size:,} bytes at the sender"))
            return None
        return content

    def _read_large(self, piece: Piece) -> Iterator[Chunk]:
        try:
            file = piece.source.open("rb", buffering=0)
        except OSError as error:
            self._failed.append((piece.item, f"cannot read it at the sender: {error.strerror}: {piece.source}"))
            return
        with file:
            file.seek(piece.offset)
            at = piece.offset
            while at < piece.size:
                end = min(at + FRAME_BYTES, piece.size)
                lead = self._header(piece, at, end - at)
                while at < end:
                    content = self._read_on(piece, file, at=at, end=end)
                    at += len(content)
                    yield Chunk(data=lead + content if lead else content, payload_bytes=len(content))
                    lead = b""

    def _read_on(self, piece: Piece, file: RawIOBase, *, at: int, end: int) -> bytes:
        """The next bytes of a frame that was announced; raises SourceFailed when they cannot be had."""
        try:
            content = file.read(min(CHUNK_BYTES, end - at))
        except OSError as error:
            self._failed.append((piece.item, f"cannot read it at the sender: {error.strerror}: {piece.source}"))
            raise SourceFailed(f"{piece.source} cannot be read") from error
        if not content:
            self._failed.append((piece.item, f"it ends after {at:,} of {piece.size:,} bytes at the sender"))
            raise SourceFailed(f"{piece.source} is shorter than it was")
        return content
