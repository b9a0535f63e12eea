"""Ground: the open directories on which one trip works, checked to be those of the right store."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from librarian.errors import StoreUnavailable
from librarian.stores import faults, places

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from librarian.errors import LibrarianError
    from librarian.stores.base import StoreSpec
    from librarian.stores.lane import Trip


class Vanished(StoreUnavailable):
    """What was opened is not mounted any more."""


@dataclass(frozen=True, kw_only=True)
class Footing:
    """What opening a store found: which directories they are, and what their file system can do."""

    uuid: str
    #: See ``root_key_of`` and ``staging_key_of``: another file system mounted there is noticed at once.
    root_key: tuple[int, int]
    staging_key: tuple[int, int]
    #: The uid that our files get: not always our own (NFS squashes root).
    uid: int
    #: The group for ``<token>/``, None to leave it.
    gid: int | None
    has_noreplace: bool
    #: Names that differ in case alone are one there: a file system that may refuse other names, or change them.
    folds_case: bool


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A store under one trip's feet; paths are relative to ``root_fd`` and ``staging_fd``."""

    spec: StoreSpec
    footing: Footing
    trip: Trip
    root_fd: int
    staging_fd: int

    def refusal(self, error: OSError, what: str) -> LibrarianError:
        """What *error* means, met while to *what*; raises it when it is not about one item but the whole store."""
        if error.errno in faults.LOST:
            raise error
        return faults.refusal_of(error, store=self.spec.name, what=what)

    def is_ours(self, status: os.stat_result) -> bool:
        """Whether a part belongs to the server alone: its uid, one link, and nobody else may write where others come.

        A directory's links are its subdirectories'.
        """
        if status.st_uid != self.footing.uid:
            return False
        if status.st_mode & 0o170000 == 0o100000 and status.st_nlink != 1:
            return False
        return not (is_open_to_others(self.spec) and status.st_mode & places.OTHERS_WRITE)


def token_mode(spec: StoreSpec) -> int:
    """The mode of each ``<token>/``."""
    if spec.staging_mode is not None:
        return spec.staging_mode
    return 0o2770 if spec.takes_foreign_writes else 0o700


def is_open_to_others(spec: StoreSpec) -> bool:
    """Whether other users can bring bytes into staging."""
    return spec.takes_foreign_writes or bool(token_mode(spec) & places.OTHERS_WRITE)


def root_key_of(fd: int) -> tuple[int, int]:
    """What tells one root from another while it is mounted."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def staging_key_of(spec: StoreSpec, fd: int) -> tuple[int, int]:
    """The same of a staging area; below the root, which has a key, its file system is enough.

    FAT numbers anew what nobody has used for a while, its root aside.
    """
    device, inode = root_key_of(fd)
    return (device, 0) if spec.staging.is_relative_to(spec.root) else (device, inode)


@contextmanager
def stand(spec: StoreSpec, footing: Footing, trip: Trip) -> Iterator[Ground]:
    """Open the store's directories for one trip.

    They are opened anew for each, so that nothing keeps a drive from being unmounted, and compared with what ``open``
    found, so that an unmounted mount point is never filled.

    Raises
    ------
    Vanished
        Another file system stands there now, or nothing that answers.
    OSError
    """
    root_fd = _open_directory(spec, spec.root)
    try:
        _require_same(spec, spec.root, root_key_of(root_fd), footing.root_key)
        staging_fd = _open_directory(spec, spec.staging)
        try:
            _require_same(spec, spec.staging, staging_key_of(spec, staging_fd), footing.staging_key)
            yield Ground(spec=spec, footing=footing, trip=trip, root_fd=root_fd, staging_fd=staging_fd)
        finally:
            os.close(staging_fd)
    finally:
        os.close(root_fd)


def _open_directory(spec: StoreSpec, path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in faults.GONE:
            raise
        raise _vanished(spec, path) from error


def _require_same(spec: StoreSpec, path: Path, found: tuple[int, int], known: tuple[int, int]) -> None:
    if found != known:
        raise _vanished(spec, path)


def _vanished(spec: StoreSpec, path: Path) -> Vanished:
    return Vanished(
        f"store '{spec.name}' is not mounted any more: '{path}' is not the directory that was opened",
        remedy="Mount it again; the store is taken back by itself.",
        details={"store": str(spec.name)},
    )
