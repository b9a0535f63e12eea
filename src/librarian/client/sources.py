"""What is to be uploaded: looked at once before, and compared afterwards to know that it stood still."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from librarian.errors import BadRequest, NotFound, SourceChanged, UnsupportedMember
from librarian.names import MemberPath
from librarian.states import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What shows that a file was not touched: inode, size in bytes, both times in nanoseconds.
Stamp = tuple[int, int, int, int]


def stamp_of(seen: os.stat_result) -> Stamp:
    """What would differ if the file had been written or replaced."""
    return (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One regular file of a source; ``member`` is None when the source is that file itself."""

    path: str
    member: MemberPath | None
    size: int
    stamp: Stamp


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A file or book on the caller's disk as it stood when it was looked at.

    ``parts`` are in the order of their paths; ``directories`` are those of a book, parents first, of which
    ``empty_directories`` hold nothing.
    """

    path: str
    kind: Kind
    size: int
    parts: tuple[Part, ...]
    directories: tuple[MemberPath, ...] = ()
    empty_directories: tuple[MemberPath, ...] = ()


def survey(path: Path | str) -> Source:
    """Look at *path* without reading any content; blocks on the disk.

    A symbolic link *to* the source is followed, links within it are refused.

    Raises
    ------
    NotFound
        Nothing is there.
    UnsupportedMember
        It is, or holds, something other than directories and regular files.
    BadName
        A member's path breaks the rules for names.
    """
    text = os.fspath(path)
    try:
        seen = os.stat(text)  # noqa: PTH116 - a thousand of these a batch: pathlib costs more than the call
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"{text!r} does not exist", remedy="Check the path.") from error
    except (OSError, ValueError) as error:
        raise BadRequest(f"cannot look at {text!r}: {error}", remedy="Check the path and its permissions.") from error
    if stat.S_ISREG(seen.st_mode):
        part = Part(path=text, member=None, size=seen.st_size, stamp=stamp_of(seen))
        return Source(path=text, kind=Kind.FILE, size=seen.st_size, parts=(part,))
    if not stat.S_ISDIR(seen.st_mode):
        raise _unsupported(text)
    return _survey_book(text)


def _survey_book(root: str) -> Source:
    parts: list[Part] = []
    directories: list[MemberPath] = []
    empty: list[MemberPath] = []
    waiting: list[MemberPath | None] = [None]
    while waiting:
        here = waiting.pop()
        entries = list(_entries(root, here))
        if not entries and here is not None:
            empty.append(here)
        for member, entry in entries:
            if entry.is_symlink():
                raise _unsupported(entry.path)
            if entry.is_dir(follow_symlinks=False):
                directories.append(member)
                waiting.append(member)
            elif entry.is_file(follow_symlinks=False):
                seen = entry.stat(follow_symlinks=False)
                parts.append(Part(path=entry.path, member=member, size=seen.st_size, stamp=stamp_of(seen)))
            else:
                raise _unsupported(entry.path)
    parts.sort(key=lambda part: part.member or "")
    return Source(
        path=root,
        kind=Kind.BOOK,
        size=sum(part.size for part in parts),
        parts=tuple(parts),
        directories=tuple(sorted(directories)),
        empty_directories=tuple(sorted(empty)),
    )


def _entries(root: str, here: MemberPath | None) -> Iterator[tuple[MemberPath, os.DirEntry[str]]]:
    try:
        with os.scandir(f"{root}/{here}" if here else root) as entries:
            for entry in entries:
                yield MemberPath(f"{here}/{entry.name}" if here else entry.name), entry
    except OSError as error:
        raise BadRequest(
            f"cannot list {error.filename!r}: {error.strerror}", remedy="Check the permissions of the book."
        ) from error


def _unsupported(path: str) -> UnsupportedMember:
    return UnsupportedMember(
        f"{path!r} is neither a directory nor a regular file",
        remedy="Replace links by what they point to, and leave out sockets, pipes and devices.",
    )


def confirm_unchanged(source: Source) -> None:
    """Look again at a book's tree after its members were copied; blocks on the disk.

    Members themselves are compared while they are open, so that a file needs no second look.

    Raises
    ------
    SourceChanged
        Members were added, removed, replaced or written meanwhile.
    """
    if source.kind is Kind.FILE:
        return
    now = _survey_book(source.path)
    before, after = ({part.member: part.stamp for part in each.parts} for each in (source, now))
    if before == after and source.directories == now.directories:
        return
    changed = sorted({member or "" for member, _ in before.items() ^ after.items()})
    raise changed_source(source.path, ", ".join(changed[:5]) or "its directories")


def changed_source(path: str, what: str) -> SourceChanged:
    """That *what* of the source changed while it was read."""
    return SourceChanged(
        f"{path!r} changed while it was read: {what}", remedy="Upload it again when nobody writes to it any more."
    )
