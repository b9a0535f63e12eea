"""The medium: what was written is dropped from the page cache, so that measuring it reads what the device kept."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from librarian import checksum, guard
from librarian.errors import LibrarianError
from librarian.stores import parts, syscalls
from librarian.stores.base import Barrier

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from librarian.checksum import Algorithm, Measured
    from librarian.stores.ground import Ground

#: What file systems answer that do not read past the cache.
_CANNOT: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP})


class _NotDirectly(Exception):
    """The file system does not read past its cache."""


def let_go(here: Ground, payloads: Sequence[Path]) -> list[bool]:
    """Make *payloads* durable and drop them from the page cache; see ``Store.let_go``."""
    if here.spec.barrier is Barrier.SYNCFS:
        # What is not on the medium yet stays in the cache.
        with here.trip.barrier():
            syscalls.syncfs(here.root_fd)
    return [_let_go_one(here, payload) for payload in payloads]


def _let_go_one(here: Ground, payload: Path) -> bool:
    here.trip.beat()
    try:
        fd = os.open(payload, parts.READ)
    except OSError:
        # Whoever measures it says what is wrong with it.
        return False
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            return _drop(here, fd)
        dropped = [_drop_part(here, part) for part in parts.walk(fd) if not part.is_directory]
        return all(dropped)
    except (OSError, LibrarianError):
        return False
    finally:
        os.close(fd)


def _drop_part(here: Ground, part: parts.Part) -> bool:
    fd = os.open(part.name, parts.READ, dir_fd=part.parent_fd)
    try:
        return _drop(here, fd)
    finally:
        os.close(fd)


def _drop(here: Ground, fd: int) -> bool:
    here.trip.beat()
    if here.spec.barrier is Barrier.FSYNC:
        with here.trip.barrier():
            os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return not syscalls.is_resident(fd, os.fstat(fd).st_size)


def measure(here: Ground, payload: Path, algorithm: Algorithm) -> Measured | None:
    """Measure *payload* past the page cache; see ``Store.measure_directly``."""
    with suppress(_NotDirectly), _DirectReader(algorithm, here) as reader:
        status = checksum.look_at(payload)
        guard.step("half hashed")
        if stat.S_ISREG(status.st_mode):
            digest = reader.digest(checksum.Seen.of(str(payload), status), str(payload))
            return checksum.measured_file(status.st_size, algorithm, digest)
        root = checksum.open_book(payload)
        try:
            return checksum.measured_book((reader.member(*met) for met in checksum.walk_book(root)), algorithm)
        finally:
            os.close(root)
    return None


class _DirectReader(checksum.Reader):
    """Hashes files that are read past the page cache."""

    def __init__(self, algorithm: Algorithm, here: Ground) -> None:
        super().__init__(algorithm, lambda _: here.trip.beat())
        # Direct reading asks for memory that is aligned to pages.
        self._pages = mmap.mmap(-1, checksum.BUFFER_BYTES)
        self._view = memoryview(self._pages)

    def __enter__(self) -> _DirectReader:
        return self

    def __exit__(self, *raised: object) -> None:
        self._view.release()
        self._pages.close()

    def _hash(self, file: int, left: int) -> str:
        hasher = checksum.Hasher(self._algorithm)
        try:
            direct = os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as error:
            raise (_NotDirectly() if error.errno in _CANNOT else error) from error
        try:
            while left > 0 and (count := os.readv(direct, [self._view])):
                with self._view[:count] as piece:
                    hasher.update(piece)
                left -= count
                self._on_bytes(count)
        finally:
            os.close(direct)
        return hasher.hexdigest()
