"""Copying: taking a private copy of what others brought, hashing the very bytes that are kept."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from librarian import checksum, guard
from librarian.errors import NotFound, SourceChanged
from librarian.states import Kind
from librarian.stores import parts, places, staging, syscalls
from librarian.stores.base import Barrier
from librarian.writeback import Writeback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from librarian.checksum import Algorithm, Measured, MemberDigest
    from librarian.names import Token
    from librarian.stores.ground import Ground
    from librarian.stores.lane import Trip

#: Of smaller files one finds out soon enough that they are too large; FAT32 keeps none of twice the size.
_LARGE: Final = 2**31
#: To write a copy, and to read what it holds.
CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def take(here: Ground, token: Token, algorithm: Algorithm) -> Measured:
    """Copy what stands under *token* to the private place; see ``Store.take``."""
    source, target = places.staged(token), places.copying(token)
    status = parts.status_of(source, at=here.staging_fd)
    if status is None:
        raise NotFound(f"nothing is staged under '{token}'", remedy="Bring the bytes first.")
    parts.require_supported(status.st_mode, "")
    staging.make_private(here, token)
    for leftover in (target, places.arriving(token), places.private(token)):
        parts.remove_tree(leftover, at=here.staging_fd, beat=here.trip.beat)
    copier = Copier(trip=here.trip, algorithm=algorithm)
    if stat.S_ISREG(status.st_mode):
        digest, size = copier.copy_file(
            source, target, source_fd=here.staging_fd, target_fd=here.staging_fd, halfway=status.st_size // 2
        )
        label = checksum.Checksum.of(algorithm, digest)
        measured = checksum.Measured(kind=Kind.FILE, size=size, checksum=label)
    else:
        measured = copier.copy_book(source, target, source_fd=here.staging_fd, target_fd=here.staging_fd)
    make_durable(here, target)
    os.rename(target, places.private(token), src_dir_fd=here.staging_fd, dst_dir_fd=here.staging_fd)
    return measured


def make_durable(here: Ground, target: str) -> None:
    """Content before name: what stands under the private name is trusted after a power cut."""
    with here.trip.barrier():
        if here.spec.barrier is Barrier.SYNCFS:
            syscalls.syncfs(here.staging_fd)
            return
        status = os.stat(target, dir_fd=here.staging_fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            top_fd = os.open(target, parts.DIRECTORY, dir_fd=here.staging_fd)
            try:
                for part in parts.walk(top_fd):
                    here.trip.beat()
                    parts.fsync_at(part.name, at=part.parent_fd)
            finally:
                os.close(top_fd)
        parts.fsync_at(target, at=here.staging_fd)


def barrier(here: Ground) -> None:
    """Make everything in staging durable that was copied, where one barrier does for all of it."""
    if here.spec.barrier is Barrier.SYNCFS:
        with here.trip.barrier():
            syscalls.syncfs(here.staging_fd)


@dataclass(kw_only=True)
class Copier:
    """Copies regular files and directories through descriptors, hashing what arrives in the copy.

    ``shares``: blocks may be shared where the file system can. ``unreadable`` makes an error of one that the source
    gave, where it is to be told from those of the copy. ``on_bytes`` hears how many more bytes were read.
    """

    trip: Trip
    algorithm: Algorithm
    shares: bool = True
    unreadable: Callable[[OSError], Exception] | None = None
    on_bytes: Callable[[int], None] | None = None
    _buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(checksum.BUFFER_BYTES)))

    def copy_file(
        self, source: str, target: str, *, source_fd: int, target_fd: int, halfway: int | None = None
    ) -> tuple[str, int]:
        """Copy one file; returns the digest and the size of the copy. *halfway* is where the step is passed.

        Raises
        ------
        SourceChanged
            Its size or time of change differs afterwards.
        """
        with self._from_source():
            reading = os.open(source, parts.READ, dir_fd=source_fd)
        try:
            before = self._status(reading)
            parts.require_supported(before.st_mode, source)
            writing = os.open(target, CREATE, 0o600, dir_fd=target_fd)
            try:
                digest, size = self.copy_open(reading, writing, size=before.st_size, halfway=halfway)
            finally:
                os.close(writing)
            after = self._status(reading)
        finally:
            os.close(reading)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != before.st_size:
            raise SourceChanged(
                f"'{os.path.basename(source)}' changed while it was copied",  # noqa: PTH119 - a relative path
                remedy="Commit the payload when nobody writes to it any more.",
            )
        return digest, size

    def copy_open(self, reading: int, writing: int, *, size: int, halfway: int | None = None) -> tuple[str, int]:
        """Copy the open file *reading* of *size* bytes from where it stands; what has grown is not copied to its end.

        Returns
        -------
        The digest and the size of the copy.
        """
        if size >= _LARGE:
            syscalls.require_size(writing, size)
            os.lseek(writing, 0, os.SEEK_SET)
        is_shared = self.shares and syscalls.reflink(reading, writing)
        # A shared copy cannot change any more, so it is the copy that is read.
        source_and_copy = (writing, None) if is_shared else (reading, writing)
        return self._read(*source_and_copy, at_most=size, halfway=halfway)

    def _read(self, reading: int, writing: int | None, *, at_most: int, halfway: int | None) -> tuple[str, int]:
        """Hash, and copy if there is whereto."""
        hasher = checksum.Hasher(self.algorithm)
        size = 0
        writeback = None if writing is None else Writeback(writing)
        while size <= at_most and (count := self._fill(reading)):
            self.trip.beat()
            piece = self._buffer[:count]
            hasher.update(piece)
            size += count
            if self.on_bytes is not None:
                self.on_bytes(count)
            while writing is not None and piece:
                piece = piece[os.write(writing, piece) :]
            if writeback is not None:
                writeback.reached(size)
            if halfway is not None and size >= halfway:
                halfway = None
                guard.step("half copied")
        return hasher.hexdigest(), size

    def _status(self, reading: int) -> os.stat_result:
        with self._from_source():
            return os.fstat(reading)

    def _fill(self, reading: int) -> int:
        with self._from_source():
            return os.readv(reading, [self._buffer])

    @contextmanager
    def _from_source(self) -> Iterator[None]:
        if self.unreadable is None:
            yield
            return
        try:
            with self.trip.abroad():
                yield
        except OSError as error:
            raise self.unreadable(error) from error

    def _walk(self, top_fd: int) -> Iterator[parts.Part]:
        walking = parts.walk(top_fd)
        while True:
            with self._from_source():
                part = next(walking, None)
            if part is None:
                return
            yield part

    def copy_book(self, source: str, target: str, *, source_fd: int, target_fd: int) -> Measured:
        """Copy a book with its empty directories, and measure the copy."""
        with self._from_source():
            from_fd = os.open(source, parts.DIRECTORY, dir_fd=source_fd)
        try:
            os.mkdir(target, places.PARENT_MODE, dir_fd=target_fd)
            to_fd = os.open(target, parts.DIRECTORY, dir_fd=target_fd)
            try:
                return checksum.measured_book(self._copy_members(from_fd, to_fd), self.algorithm)
            finally:
                os.close(to_fd)
        finally:
            os.close(from_fd)

    def _copy_members(self, from_fd: int, to_fd: int) -> list[MemberDigest]:
        halfway = sum(1 for _ in self._walk(from_fd)) // 2
        digests: list[MemberDigest] = []
        empty: dict[str, None] = {}
        for count, part in enumerate(self._walk(from_fd)):
            if count == halfway:
                guard.step("half copied")
            self.trip.beat()
            parts.require_supported(part.status.st_mode, part.path)
            path = parts.member_path(part.path)
            empty.pop(part.path.rpartition("/")[0], None)
            if part.is_directory:
                os.mkdir(path, places.PARENT_MODE, dir_fd=to_fd)
                empty[part.path] = None
                continue
            digest, size = self.copy_file(part.name, path, source_fd=part.parent_fd, target_fd=to_fd)
            digests.append(checksum.MemberDigest(path=path, size=size, hex=digest))
        # Directories that hold nothing are members too: the digest says that they are there.
        digests += [checksum.MemberDigest(path=parts.member_path(path), size=0, hex=None) for path in empty]
        return digests
