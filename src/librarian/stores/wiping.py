"""Wiping a drive for its next round: its manifest first, so that nobody takes what is left for the whole."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from librarian import guard, mounts
from librarian.errors import StoreUnavailable
from librarian.names import LOST_AND_FOUND
from librarian.stores import examining, identity, parts, places

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: What stays: who the drive is, and what belongs to fsck.
_STAYS: Final = frozenset({places.IDENTITY, LOST_AND_FOUND})


def wipe(root: Path, known: identity.Identity, *, beat: Callable[[], None]) -> None:
    """Remove everything from the drive at *root*, which keeps its uuid and gets the generation of *known*, durably.

    A repeat goes on.

    Raises
    ------
    StoreUnavailable
        Another drive stands there, or something else is mounted in it, or a part cannot be removed.
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
