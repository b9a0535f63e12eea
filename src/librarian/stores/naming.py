"""Naming: file systems that take two names for one, and change or refuse others, as FAT and exFAT do."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from librarian.errors import BadName
from librarian.stores import faults, parts, places, staging

if TYPE_CHECKING:
    from collections.abc import Iterable

    from librarian.names import FileName, Token
    from librarian.stores.ground import Ground

_TRIAL: Final = "trial"


def require_keepable(here: Ground, token: Token, name: FileName) -> None:
    """Raise BadName unless each part of *name* stands as it is once it is made, which is tried beside *token*."""
    if not here.footing.folds_case:
        return
    staging.make_private(here, token)
    trial = f"{places.PRIVATE}/{token}/{_TRIAL}"
    parts.remove_tree(trial, at=here.staging_fd, beat=here.trip.beat)
    os.mkdir(trial, 0o700, dir_fd=here.staging_fd)
    trial_fd = os.open(trial, parts.DIRECTORY, dir_fd=here.staging_fd)
    try:
        for part in name.split("/"):
            _try(here, part, trial_fd)
    finally:
        os.close(trial_fd)
        os.rmdir(trial, dir_fd=here.staging_fd)


def _try(here: Ground, part: str, trial_fd: int) -> None:
    try:
        os.mkdir(part, places.PARENT_MODE, dir_fd=trial_fd)
    except OSError as error:
        if error.errno not in faults.UNNAMEABLE:
            raise
        raise _unkept(here, part, "is not allowed there") from error
    is_kept = part in _names_in(trial_fd)
    os.rmdir(part, dir_fd=trial_fd)
    if not is_kept:
        raise _unkept(here, part, "would be changed")


def require_alone(here: Ground, name: str) -> None:
    """Raise BadName where something stands in the way of *name* that is called otherwise, but is the same there."""
    if not here.footing.folds_case:
        return
    fd = os.dup(here.root_fd)
    try:
        for part in name.split("/"):
            status = parts.status_of(part, at=fd)
            if status is None:
                return
            names = _names_in(fd)
            if part not in names:
                other = next((each for each in names if each.casefold() == part.casefold()), "something else")
                raise _unkept(here, part, f"is the same there as {other!r}, which stands on it already")
            if not stat.S_ISDIR(status.st_mode):
                # Whoever publishes says that nothing can stand below it.
                return
            below = os.open(part, parts.DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
    finally:
        os.close(fd)


def require_same(here: Ground, wanted: Iterable[str], place: str) -> None:
    """Raise BadName unless the book that is staged at *place* has parts of all the names *wanted*."""
    if not here.footing.folds_case:
        return
    top_fd = os.open(place, parts.DIRECTORY, dir_fd=here.staging_fd)
    try:
        standing = {part.path for part in parts.walk(top_fd)}
    finally:
        os.close(top_fd)
    lost = next((path for path in wanted if path not in standing), None)
    if lost is not None:
        raise _unkept(here, lost, "would be changed")


def _names_in(fd: int) -> set[str]:
    with os.scandir(fd) as entries:
        return {entry.name for entry in entries}


def _unkept(here: Ground, name: str, why: str) -> BadName:
    return BadName(
        f"the file system of store '{here.spec.name}' cannot keep the name {name!r}: it {why}",
        remedy="Choose another store, or another name.",
    )
