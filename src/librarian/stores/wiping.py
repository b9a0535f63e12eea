"""Wiping a drive for its next round: its manifest first, so that nobody takes what is left for the whole."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from librarian import guard, mounts
from librarian.errors import RestoredCatalog, StoreUnavailable
from librarian.names import LOST_AND_FOUND
from librarian.stores import examining, identity, parts, places

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

#: What stays: who the drive is, and what belongs to fsck.
_STAYS: Final = frozenset({places.IDENTITY, LOST_AND_FOUND})


def wipe(root: Path, known: identity.Identity, *, beat: Callable[[], None]) -> None:
    """Remove everything from the drive at *root*, which keeps its uuid and is as *known* says from then on, durably.

    A repeat goes on.

    Raises
    ------
    StoreUnavailable
        Another drive stands there, or something else is mounted in it, or a part cannot be removed.
    RestoredCatalog
        It has begun that round already, and holds something.
    OSError
    """
    inside = [mount.path for mount in mounts.all_mounts() if root in mount.path.parents]
    if inside:
        raise StoreUnavailable(f"'{inside[0]}' is mounted in the drive", remedy="Unmount it: it would be wiped, too.")
    fd, found = examining.open_drive(root, known.uuid)
    try:
        if found.generation > known.generation:
            raise StoreUnavailable(
                f"the drive at '{root}' bears generation {found.generation}, beyond {known.generation}",
                remedy="It is ahead of this catalog, which was restored from a backup: acknowledge that first.",
            )
        if found.round > known.round or (found.round == known.round and identity.stray_in(fd) is not None):
            raise RestoredCatalog(
                f"the drive at '{root}' is in its round {found.round} already, which this catalog has forgotten",
                remedy="Give the order once more, 'drive init --reuse': it says what is on the drive.",
            )
        with contextlib.suppress(FileNotFoundError):
            os.unlink(places.MANIFEST, dir_fd=fd)
            os.fsync(fd)
        guard.step("manifest removed")
        with os.scandir(fd) as entries:
            names = [entry.name for entry in entries if entry.name not in _STAYS]
        left = [name for name in names if not parts.remove_tree(name, at=fd, beat=beat)]
        if left:
            raise StoreUnavailable(f"'{left[0]}' cannot be removed from '{root}'", remedy="Remove it by hand.")
        os.fsync(fd)
        guard.step("drive wiped")
        identity.write(fd, known)
    finally:
        os.close(fd)


class Entry(NamedTuple):
    """What stands on a drive, by its path from the drive's top; below a directory there may be more."""

    path: str
    is_directory: bool


def entries(root: Path, uuid: str, folders: Sequence[str], beat: Callable[[], None]) -> list[Entry]:
    """What would be lost if the drive *uuid* at *root* were wiped, in each of *folders* ('' is its top), none deeper.

    What is ours alone is left out.

    Raises
    ------
    StoreUnavailable
        Another drive stands there.
    OSError
    """
    found: list[Entry] = []
    fd, _ = examining.open_drive(root, uuid)
    try:
        for folder in folders:
            beat()
            inner = parts.open_inside(folder or ".", parts.DIRECTORY, at=fd)
            try:
                with os.scandir(inner) as listed:
                    found += sorted(
                        Entry(f"{folder}/{each.name}".lstrip("/"), each.is_dir(follow_symlinks=False))
                        for each in listed
                        if folder or identity.is_stray(each.name)
                    )
            finally:
                os.close(inner)
    finally:
        os.close(fd)
    return found
