"""Links: what one run of rsync is to send, laid out as the receiver wants it. Everything here blocks.

rsync cannot rename what it sends, so that each payload is found under ``<token>/payload`` by a link. It is told to
follow links; none but ours may be there to follow, so every payload is looked through before.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from librarian.states import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from librarian.transfers.base import Item


@dataclass(frozen=True, kw_only=True)
class Links:
    """A folder of links, with the lists that rsync reads."""

    folder: Path
    #: Items that cannot be sent, with the reason.
    failures: tuple[tuple[Item, str], ...]

    @property
    def top(self) -> Path:
        """Holds a folder per token, and in it the link."""
        return self.folder / "links"

    @property
    def tokens(self) -> Path:
        """The list of the folders alone."""
        return self.folder / "tokens"

    @property
    def payloads(self) -> Path:
        """The list of the links."""
        return self.folder / "payloads"


def lay(folder: Path, items: Sequence[Item]) -> Links:
    """Lay links to the sources of *items* in a new *folder*; those that cannot be read are left out."""
    failures: list[tuple[Item, str]] = []
    links = Links(folder=folder, failures=())
    links.top.mkdir(mode=0o700, parents=True)
    laid: list[Item] = []
    for item in items:
        reason = _lay_one(links.top / item.token, item)
        if reason is None:
            laid.append(item)
        else:
            failures.append((item, reason))
    write_lists(links, laid)
    return Links(folder=folder, failures=tuple(failures))


def write_lists(links: Links, items: Sequence[Item]) -> None:
    """Have rsync send *items*, of those that were laid."""
    links.tokens.write_text("".join(f"{item.token}\0" for item in items))
    links.payloads.write_text("".join(f"{item.token}/payload\0" for item in items))


def clear(folder: Path) -> None:
    """Take *folder* away, with links and whatever else is in it; a repeat does nothing."""
    shutil.rmtree(folder, ignore_errors=True)


def _lay_one(place: Path, item: Item) -> str | None:
    """Lay the link to one item; returns why it cannot be sent, or None."""
    if item.source is None:
        return "no healthy copy of it is left at the sender"
    try:
        size = _size_of(os.fspath(item.source), item.kind)
    except OSError as error:
        return f"cannot read it at the sender: {error.strerror}: {error.filename}"
    if size != item.size:
        return f"it has {size:,} bytes at the sender, and not the promised {item.size:,}"
    place.mkdir()
    (place / "payload").symlink_to(item.source)
    return None


def _size_of(source: str, kind: Kind) -> int:
    """The bytes of *source*.

    Raises
    ------
    OSError
        It cannot be looked at, or holds what a payload may not hold.
    """
    found = os.lstat(source)
    if kind is Kind.FILE:
        if not stat.S_ISREG(found.st_mode):
            raise _odd(source)
        return found.st_size
    if not stat.S_ISDIR(found.st_mode):
        raise _odd(source)
    size = 0
    left = [source]
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    size += entry.stat(follow_symlinks=False).st_size
                else:
                    raise _odd(entry.path)
    return size


def _odd(path: str) -> OSError:
    return OSError(errno.EINVAL, "it is neither a regular file nor a directory", path)
