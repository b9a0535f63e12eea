"""Pouring: copying what a drive carries into staging, and comparing what is read with what was promised."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from librarian import guard
from librarian.errors import BadName, NoRoom, StoreUnavailable, TooLarge, Unavailable
from librarian.states import Damage, Kind
from librarian.stores import parts, places
from librarian.stores.base import Barrier
from librarian.stores.copying import CREATE, Copier, barrier, make_durable
from librarian.stores.parcels import Flaw

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from librarian.checksum import Algorithm, MemberDigest
    from librarian.names import MemberPath
    from librarian.stores.ground import Ground
    from librarian.stores.parcels import Poured, Pouring, Source

#: What is not there, or is something else.
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO})
#: What a medium answers that cannot give back what it was given.
_UNREADABLE: Final = frozenset({errno.EIO, errno.ENODATA, errno.EBADMSG, errno.EUCLEAN, errno.EILSEQ, errno.EREMOTEIO})
#: Least that is read past the page cache.
_BLOCK: Final = 4096
#: Files that a disk is asked for before their turn comes, and the first bytes of each: one after the other, small files
#: would leave it idle between any two.
_AHEAD_FILES: Final = 64
_AHEAD_BYTES: Final = 1024**2


def pour(here: Ground, items: Sequence[Pouring], *, source: Source, drive_fd: int) -> list[Poured]:
    """Copy *items* from the drive whose root is *drive_fd*, and make them durable; see ``Store.pour``."""
    copiers: dict[Algorithm, Copier] = {}
    answers: list[Poured] = []
    ahead = _ask_ahead(items, drive_fd)
    deque(islice(ahead, _AHEAD_FILES), maxlen=0)
    for at, item in enumerate(items):
        if at == len(items) // 2:
            guard.step("half copied")
        here.trip.beat()
        algorithm = item.checksum.algorithm
        copier = copiers.setdefault(algorithm, Copier(trip=here.trip, algorithm=algorithm, on_bytes=source.read))
        answers.append(_pour_one(here, item, copier, drive_fd, ahead))
        if isinstance(answers[-1], Unavailable):
            answers += [answers[-1]] * (len(items) - len(answers))
            break
    barrier(here)
    return answers


def _ask_ahead(items: Sequence[Pouring], drive_fd: int) -> Iterator[None]:
    """Have the kernel begin to read one file more of *items* at each step."""
    for item in items:
        for path in _paths_of(item):
            # Whoever copies it says what is wrong with it.
            with suppress(OSError):
                reading = parts.open_inside(path, parts.READ, at=drive_fd)
                try:
                    os.posix_fadvise(reading, 0, _AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
                finally:
                    os.close(reading)
            yield


def _paths_of(item: Pouring) -> Iterator[str]:
    if item.kind is Kind.FILE:
        yield item.name
    yield from (f"{item.name}/{member.path}" for member in item.members if member.hex is not None)


def _pour_one(here: Ground, item: Pouring, copier: Copier, drive_fd: int, ahead: Iterator[None]) -> Poured:
    target = places.staged(item.token)
    parts.remove_tree(target, at=here.staging_fd, beat=here.trip.beat)
    try:
        _Parcel(here=here, drive_fd=drive_fd, item=item, copier=copier, ahead=ahead).copy()
        if here.spec.barrier is Barrier.FSYNC:
            make_durable(here, target)
    except _Bad as bad:
        return bad.flaw
    except _Gone as gone:
        return gone.refusal
    except OSError as error:
        refusal = here.refusal(error, f"copy '{item.name}' from a drive")
        if isinstance(refusal, NoRoom):
            parts.remove_tree(target, at=here.staging_fd, beat=here.trip.beat)
        if isinstance(refusal, Unavailable | BadName | TooLarge):
            return refusal
        # Something is wrong with the store, for which neither the drive nor its sender is to pay.
        return StoreUnavailable(refusal.message, remedy=refusal.remedy)
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
class _Parcel:
    """One payload on its way from the drive to staging."""

    here: Ground
    drive_fd: int
    item: Pouring
    copier: Copier
    ahead: Iterator[None]
    #: Folders of a book that were made.
    _made: set[str] = field(default_factory=set)

    def copy(self) -> None:
        item, target = self.item, places.staged(self.item.token)
        if item.kind is Kind.FILE:
            promised = _Promise(path=item.name, member=None, size=item.size, digest=item.checksum.hex)
            self._copy_file(promised, target, target_fd=self.here.staging_fd)
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
        path = f"{self.item.name}/{member.path}"
        promised = _Promise(path=path, member=member.path, size=member.size, digest=member.hex)
        self._copy_file(promised, member.path, target_fd=top_fd)

    def _copy_file(self, promised: _Promise, target: str, *, target_fd: int) -> None:
        next(self.ahead, None)
        self.copier.unreadable = partial(self._unreadable, promised)
        try:
            # Part by part: nothing on a drive leads out of it.
            reading = parts.open_inside(promised.path, parts.READ, at=self.drive_fd)
        except OSError as error:
            raise self._unreadable(promised, error) from error
        try:
            status = os.fstat(reading)
            if not stat.S_ISREG(status.st_mode):
                raise promised.broken(Damage.MISSING, "something else than a file stands there on the drive")
            if status.st_size != promised.size:
                found = f"it has {status.st_size:,} bytes on the drive, and {promised.size:,} were promised"
                raise promised.broken(Damage.DIFFERS, found)
            writing = os.open(target, CREATE, 0o600, dir_fd=target_fd)
            try:
                self._compare(promised, reading, writing)
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    def _compare(self, promised: _Promise, reading: int, writing: int) -> None:
        digest, _ = self.copier.copy_open(reading, writing, size=promised.size)
        if digest == promised.digest:
            return
        # Read once more, past the cache: a cable may have spoilt it, and not the drive.
        os.ftruncate(writing, 0)
        os.posix_fadvise(reading, 0, 0, os.POSIX_FADV_DONTNEED)
        for descriptor in (reading, writing):
            os.lseek(descriptor, 0, os.SEEK_SET)
        digest, _ = self.copier.copy_open(reading, writing, size=promised.size)
        if digest != promised.digest:
            found = f"it has the digest {digest} on the drive, and {promised.digest} was promised"
            raise promised.broken(Damage.DIFFERS, found)

    def _unreadable(self, promised: _Promise, error: OSError) -> Exception:
        """What an error means that reading the drive has raised."""
        text = "a symbolic link stands there" if error.errno == errno.ELOOP else error.strerror or str(error)
        if error.errno in _ABSENT:
            return promised.broken(Damage.MISSING, f"it is not on the drive ({text})")
        if error.errno in _UNREADABLE and _answers(self.drive_fd):
            return promised.broken(Damage.UNREADABLE, f"the drive does not give it back ({text})")
        return _Gone(text)


@dataclass(frozen=True, kw_only=True)
class _Promise:
    """What the manifest says of one file on the drive."""

    path: str
    member: MemberPath | None
    size: int
    digest: str

    def broken(self, damage: Damage, reason: str) -> _Bad:
        return _Bad(damage, self.member, reason)


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
