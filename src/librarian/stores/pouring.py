"""Pouring: copying what a drive carries into staging, and comparing what is read with what was promised."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from librarian import checksum, guard
from librarian.errors import NoRoom, StoreUnavailable, Unavailable
from librarian.states import Damage, Kind
from librarian.stores import parts, places, syscalls
from librarian.stores.parcels import Flaw
from librarian.writeback import Writeback

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from librarian.checksum import MemberDigest
    from librarian.names import MemberPath
    from librarian.stores.ground import Ground
    from librarian.stores.parcels import Poured, Pouring, Source

_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: What is not there, or is something else.
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO})
#: What a medium answers that cannot give back what it was given.
_UNREADABLE: Final = frozenset({errno.EIO, errno.ENODATA, errno.EBADMSG, errno.EUCLEAN, errno.EILSEQ, errno.EREMOTEIO})
#: Least that is read past the page cache.
_BLOCK: Final = 4096


def pour(here: Ground, items: Sequence[Pouring], *, source: Source, drive_fd: int) -> list[Poured]:
    """Copy *items* from the drive whose root is *drive_fd*; see ``Store.pour``."""
    answers: list[Poured] = []
    buffer = memoryview(bytearray(checksum.BUFFER_BYTES))
    for at, item in enumerate(items):
        if at == len(items) // 2:
            guard.step("half copied")
        here.trip.beat()
        answers.append(_pour_one(here, item, source, drive_fd, buffer))
        if isinstance(answers[-1], Unavailable):
            answers += [answers[-1]] * (len(items) - len(answers))
            break
    return answers


def _pour_one(here: Ground, item: Pouring, source: Source, drive_fd: int, buffer: memoryview) -> Poured:
    target = places.staged(item.token)
    parts.remove_tree(target, at=here.staging_fd, beat=here.trip.beat)
    copier = _Copier(here=here, source=source, drive_fd=drive_fd, item=item, buffer=buffer)
    try:
        copier.copy()
    except _Bad as bad:
        return bad.flaw
    except _Gone as gone:
        return gone.refusal
    except OSError as error:
        refusal = here.refusal(error, f"copy '{item.name}' from a drive")
        if not isinstance(refusal, Unavailable):
            # Such a name can never stand here; no flaw of the drive, and nobody else's trouble.
            return Flaw(damage=Damage.UNREADABLE, member=None, reason=refusal.message)
        if isinstance(refusal, NoRoom):
            parts.remove_tree(target, at=here.staging_fd, beat=here.trip.beat)
        return refusal
    return None


class _Bad(Exception):
    """The drive does not hold what was promised."""

    def __init__(self, damage: Damage, member: MemberPath | None, reason: str) -> None:
        super().__init__(reason)
        self.flaw = Flaw(damage=damage, member=member, reason=reason)


class _Gone(Exception):
    """The drive cannot be read at all now."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.refusal = StoreUnavailable(
            f"the drive cannot be read: {reason}", remedy="Plug it in again; receiving goes on by itself."
        )


@dataclass(kw_only=True)
class _Copier:
    """One payload on its way from the drive to staging."""

    here: Ground
    source: Source
    drive_fd: int
    item: Pouring
    buffer: memoryview
    #: Folders of a book that were made.
    _made: set[str] = field(default_factory=set)

    def copy(self) -> None:
        item, target = self.item, places.staged(self.item.token)
        if item.kind is Kind.FILE:
            with self._opened(item.name, None) as reading:
                self._copy_file(reading, target, None, size=item.size, digest=item.checksum.hex)
            return
        os.mkdir(target, places.PARENT_MODE, dir_fd=self.here.staging_fd)
        top_fd = os.open(target, parts.DIRECTORY, dir_fd=self.here.staging_fd)
        try:
            for member in item.members:
                self._copy_member(member, top_fd)
        finally:
            os.close(top_fd)

    def _copy_member(self, member: MemberDigest, top_fd: int) -> None:
        self.here.trip.beat()
        folder, _, _ = member.path.rpartition("/") if member.hex is not None else (member.path, "", "")
        if folder not in self._made:
            _make_folders(folder, top_fd)
            self._made.add(folder)
        if member.hex is None:
            return
        with self._opened(f"{self.item.name}/{member.path}", member.path) as reading:
            self._copy_file(reading, member.path, member.path, size=member.size, digest=member.hex, target_fd=top_fd)

    @contextmanager
    def _opened(self, path: str, member: MemberPath | None) -> Iterator[int]:
        """Open *path* below the drive's root, part by part: nothing on a drive leads out of it."""
        with self._of_the_drive(member):
            reading = parts.open_inside(path, parts.READ, at=self.drive_fd)
        try:
            if not stat.S_ISREG(os.fstat(reading).st_mode):
                raise _Bad(Damage.MISSING, member, "something else than a file stands there on the drive")
            yield reading
        finally:
            os.close(reading)

    @contextmanager
    def _of_the_drive(self, member: MemberPath | None) -> Iterator[None]:
        """What an error within means: one that reading the drive has raised."""
        try:
            yield
        except OSError as error:
            text = error.strerror or str(error)
            if error.errno in _ABSENT:
                raise _Bad(Damage.MISSING, member, f"it is not on the drive ({text})") from error
            if error.errno in _UNREADABLE and _answers(self.drive_fd):
                raise _Bad(Damage.UNREADABLE, member, f"the drive does not give it back ({text})") from error
            raise _Gone(text) from error

    def _copy_file(
        self,
        reading: int,
        target: str,
        member: MemberPath | None,
        *,
        size: int,
        digest: str,
        target_fd: int | None = None,
    ) -> None:
        at = self.here.staging_fd if target_fd is None else target_fd
        if (found := os.fstat(reading).st_size) != size:
            raise _Bad(Damage.DIFFERS, member, f"it has {found:,} bytes on the drive, and {size:,} were promised")
        writing = os.open(target, _CREATE, 0o600, dir_fd=at)
        try:
            # What differs is read once more, past the cache: a cable may have spoilt it, and not the drive.
            if self._pass(reading, writing, member) != digest:
                os.ftruncate(writing, 0)
                os.posix_fadvise(reading, 0, 0, os.POSIX_FADV_DONTNEED)
                if (found_hex := self._pass(reading, writing, member)) != digest:
                    raise _Bad(
                        Damage.DIFFERS, member, f"it has the digest {found_hex} on the drive, and {digest} was promised"
                    )
        finally:
            os.close(writing)

    def _pass(self, reading: int, writing: int, member: MemberPath | None) -> str:
        """Copy all of *reading*, or share it; the digest of the bytes."""
        hasher = checksum.Hasher(self.item.checksum.algorithm)
        is_shared = syscalls.reflink(reading, writing)
        writeback = Writeback(writing)
        done = 0
        while True:
            with self._of_the_drive(member):
                count = os.preadv(reading, [self.buffer], done)
            if not count:
                return hasher.hexdigest()
            self.here.trip.beat()
            piece = self.buffer[:count]
            hasher.update(piece)
            self.source.read(count)
            if not is_shared:
                _write(writing, piece, done)
                writeback.reached(done + count)
            done += count


def _write(writing: int, piece: memoryview, at: int) -> None:
    while piece:
        written = os.pwrite(writing, piece, at)
        piece, at = piece[written:], at + written


def _make_folders(path: str, top_fd: int) -> None:
    made = ""
    for part in filter(None, path.split("/")):
        made = f"{made}/{part}" if made else part
        with suppress(FileExistsError):
            os.mkdir(made, places.PARENT_MODE, dir_fd=top_fd)


def _answers(drive_fd: int) -> bool:
    """Whether the medium still answers: one bad place on it is not its end, though the cache hides that.

    A file system that cannot be read past the cache is believed to answer.
    """
    try:
        fd = os.open(places.IDENTITY, parts.READ | os.O_DIRECT, dir_fd=drive_fd)
    except OSError as error:
        return error.errno == errno.EINVAL
    try:
        with mmap.mmap(-1, _BLOCK) as block:
            os.preadv(fd, [block], 0)
    except OSError as error:
        return error.errno == errno.EINVAL
    finally:
        os.close(fd)
    return True
