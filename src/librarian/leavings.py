"""Leavings: what stands on a drive that is to be wiped, and is known nowhere else.

A catalog that came back from a backup has forgotten what was loaded since; people put things on drives as well.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from librarian.errors import BadName
from librarian.names import FileName
from librarian.states import Kind
from librarian.stores import wiping
from librarian.stores.drive import beating
from librarian.turns import in_turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.drives import DriveRecord
    from librarian.site import Site
    from librarian.stores.wiping import Entry

#: That are looked up at once.
_NAMES: Final = 4000
_EXAMPLES: Final = 5


@dataclass(kw_only=True)
class Leavings:
    """What was found."""

    is_empty: bool = True
    #: Files that are known nowhere else, those of an unknown book one by one.
    unknown_files: int = 0
    #: Some of their names.
    examples: list[str] = field(default_factory=list)

    def add(self, path: str) -> None:
        """Count what stands at *path*."""
        self.unknown_files += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(os.fsencode(path).decode(errors="backslashreplace"))


async def on_drive(site: Site, drive: DriveRecord, *, is_present_round: bool) -> Leavings:
    """Look through *drive*, level by level, and not into what is known.

    *is_present_round*: the drive is in the round that the catalog knows of, so that what this knows of the drive holds.

    Raises
    ------
    StoreUnavailable
        It does not answer, or stands there no more.
    LibrarianError
    """
    left, root = Leavings(), Path(drive.path)
    folders = [""]
    while folders:
        found = await beating(drive.name, partial(wiping.entries, root, drive.uuid, folders), what="look through")
        left.is_empty = left.is_empty and not found
        folders = []
        for first in range(0, len(found), _NAMES):
            folders += await _judge(site, drive, found[first : first + _NAMES], left, with_own=is_present_round)
    return left


async def _judge(
    site: Site, drive: DriveRecord, entries: Sequence[Entry], left: Leavings, *, with_own: bool
) -> list[str]:
    """Count what is unknown of *entries*; the folders that are to be looked into."""
    names = [name for name in await in_turns(_name_of, entries) if name is not None]
    async with site.catalog.read() as tx:
        known = await tx.clearing.accounted_for(drive, names, with_own=with_own)
    folders = []
    for entry in entries:
        kind = known.get(FileName.trusted(entry.path))
        if kind is (Kind.BOOK if entry.is_directory else Kind.FILE):
            continue
        if entry.is_directory:
            folders.append(entry.path)
        else:
            left.add(entry.path)
    return folders


def _name_of(entry: Entry) -> FileName | None:
    try:
        return FileName(entry.path)
    except BadName:
        return None
