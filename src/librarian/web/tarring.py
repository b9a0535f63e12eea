"""A book as a tar stream: members in the order of their listing, nothing of the server's own in the headers.

The bytes depend on the book's name, its members and the instant it was taken in alone, so that two downloads are
equal. Pieces are read in a worker thread, one mebibyte at a time, however large or many the members are.
"""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from librarian.errors import SizeMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from datetime import datetime

#: Bytes per piece: many small members share one, a large member fills many.
PIECE: Final = 1024**2
_ZEROS: Final = bytes(tarfile.BLOCKSIZE)
_FILE_MODE: Final = 0o444
_DIRECTORY_MODE: Final = 0o555


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One member, or an empty directory; ``open`` gives a descriptor to read it from."""

    path: str
    size: int
    is_directory: bool
    open: Callable[[], int]


def tar_pieces(top: str, entries: Iterable[Entry], *, at: datetime) -> Generator[bytes]:
    """The tar stream of a book whose top directory is called *top*, in pieces of about one mebibyte.

    Blocks on the disk: run each step in a thread.

    Raises
    ------
    SizeMismatch
        A member is shorter or longer than the listing says; the stream must then be cut off.
    """
    piece = bytearray(_header(f"{top}/", 0, at=at, is_directory=True))
    for entry in entries:
        path = f"{top}/{entry.path}/" if entry.is_directory else f"{top}/{entry.path}"
        piece += _header(path, entry.size, at=at, is_directory=entry.is_directory)
        if not entry.is_directory:
            yield from _content(entry, piece)
            piece += _ZEROS[: -entry.size % tarfile.BLOCKSIZE]
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    piece += _ZEROS * 2
    yield bytes(piece)


def _header(path: str, size: int, *, at: datetime, is_directory: bool) -> bytes:
    head = tarfile.TarInfo(path)
    head.size = size
    head.mtime = int(at.timestamp())
    head.mode = _DIRECTORY_MODE if is_directory else _FILE_MODE
    head.type = tarfile.DIRTYPE if is_directory else tarfile.REGTYPE
    return head.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _content(entry: Entry, piece: bytearray) -> Iterator[bytes]:
    """Append the member's bytes to *piece*, giving it away (and emptying it) whenever it is full."""
    left = entry.size
    source = entry.open()
    try:
        while left:
            chunk = os.read(source, min(left, PIECE))
            if not chunk:
                raise _other_size(entry, found=entry.size - left)
            left -= len(chunk)
            piece += chunk
            if len(piece) >= PIECE:
                yield bytes(piece)
                piece.clear()
        if os.read(source, 1):
            raise _other_size(entry, found=entry.size + 1)
    finally:
        os.close(source)


def _other_size(entry: Entry, *, found: int) -> SizeMismatch:
    return SizeMismatch(
        f"the member {entry.path!r} has {'more' if found > entry.size else 'fewer'} bytes than its {entry.size:,}",
        remedy="The copy is damaged: another must take its place.",
    )
