"""The ``local`` engine: copies into the receiver's staging over a file system that both sites mount."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import stat
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

from librarian.errors import NoRoom, PeerUnavailable
from librarian.guard import forbid_io_in_transaction
from librarian.states import Kind
from librarian.transfers.tasks import THREADS, InProcessEngine, Running, side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from librarian.transfers.base import Item, Job

#: Copied by one thread before it says how far it is.
SLICE_BYTES: Final = 64 * 1024**2
#: Small items that one trip to a thread copies.
GROUP_ITEMS: Final = 64
GROUP_BYTES: Final = 16 * 1024**2
#: ``linux/fs.h``: share the blocks of the source with the target.
FICLONE: Final = 0x40049409
#: What copy_file_range and FICLONE say where they cannot work; read and write do. EIO leaves open which side failed.
_UNABLE: Final = frozenset(
    {
        errno.EXDEV,
        errno.EINVAL,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.ENOTTY,
        errno.EBADF,
        errno.EPERM,
        errno.ETXTBSY,
        errno.EIO,
    }
)
#: What the receiver's file system says when it may take the same bytes later.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_PASSING: Final = _FULL | {errno.EIO, errno.EROFS, errno.ESTALE}


class _Unreadable(Exception):
    """A source cannot be read: trouble of the sender's, and of one item alone."""


class _Stopped(Exception):
    """Nobody waits for this copy any more."""


class LocalEngine(InProcessEngine):
    """Copies files and books with reflinks or copy_file_range where possible, resuming what is there."""

    name: ClassVar[str] = "local"

    def __init__(
        self, *, on_change: Callable[[], None] = lambda: None, longest_pause: timedelta = timedelta(minutes=1)
    ) -> None:
        super().__init__(on_change=on_change, longest_pause=longest_pause)

    async def move(self, running: Running) -> None:
        """Copy every item that has not failed; what stands there in full size is left as it is."""
        forbid_io_in_transaction("copy")
        running.bytes_done = 0
        groups = iter(list(_grouped(running.left)))
        loop = asyncio.get_running_loop()

        async def work() -> None:
            for group in groups:
                outcome = await running.in_thread(_copy_group, running.job, group, _Teller(loop, running))
                for item, reason in outcome:
                    running.fail(item, reason)

        await side_by_side([work() for _ in range(THREADS)], name="copy")


@dataclass(frozen=True)
class _Teller:
    """Lets a copying thread say how far it is, and learn how fast to go on, and whether to go on at all."""

    loop: asyncio.AbstractEventLoop
    running: Running

    @property
    def slice_bytes(self) -> int:
        """What is copied before more is asked."""
        return min(self.running.pace.part_bytes or SLICE_BYTES, SLICE_BYTES)

    def __call__(self, size: int) -> None:
        self.loop.call_soon_threadsafe(self.running.moved, size)

    def wait_for(self, size: int) -> None:
        """Wait until *size* bytes may go.

        Raises
        ------
        _Stopped
            None may: the transfer was stopped.
        """
        if self.running.is_over.wait(self.running.pace.book(size)):
            raise _Stopped


def _grouped(items: list[Item]) -> Iterator[list[Item]]:
    group: list[Item] = []
    size = 0
    for item in items:
        if group and (size + item.size > GROUP_BYTES or len(group) >= GROUP_ITEMS):
            yield group
            group, size = [], 0
        group.append(item)
        size += item.size
    if group:
        yield group


def _copy_group(job: Job, items: list[Item], tell: _Teller) -> list[tuple[Item, str]]:
    """Copy *items*; returns those that cannot be copied, with the reason."""
    staging = Path(job.staging)
    if not staging.is_dir():
        raise PeerUnavailable(
            f"the staging {staging} of {job.peer} is not there",
            remedy="Mount it, or accept the peer's entry points anew.",
        )
    failed: list[tuple[Item, str]] = []
    for item in items:
        if item.source is None:
            failed.append((item, "no healthy copy of it is left at the sender"))
            continue
        try:
            _copy_item(item, item.source, staging / item.token / "payload", tell)
        except _Unreadable as error:
            failed.append((item, str(error)))
        except FileNotFoundError as error:
            failed.append((item, f"it is not there: {error.filename}"))
        except OSError as error:
            if error.errno in _PASSING:
                kind = NoRoom if error.errno in _FULL else PeerUnavailable
                raise kind(
                    f"cannot copy into the staging of {job.peer}: {error.strerror}",
                    remedy="Free space there, or repair the mount; the copy goes on by itself.",
                ) from error
            failed.append((item, f"cannot copy it: {error.strerror}"))
    return failed


def _copy_item(item: Item, source: Path, target: Path, tell: _Teller) -> None:
    if item.kind is Kind.FILE:
        _copy_file(source, target, tell)
        return
    target.mkdir(exist_ok=True)
    for directory, names, files in os.walk(source, onerror=_refuse_to_skip):
        there = target / Path(directory).relative_to(source)
        for name in names:
            (there / name).mkdir(exist_ok=True)
        for name in files:
            _copy_file(Path(directory, name), there / name, tell)


def _refuse_to_skip(error: OSError) -> NoReturn:
    raise _unreadable(error) from error


def _unreadable(error: OSError) -> _Unreadable:
    return _Unreadable(f"cannot read it at the sender: {error.strerror}: {error.filename or 'its content'}")


def _copy_file(source: Path, target: Path, tell: _Teller) -> None:
    try:
        read = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(error) from error
    try:
        size = os.fstat(read).st_size
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        write = os.open(target, flags, 0o666)
        try:
            there = os.fstat(write)
            if not stat.S_ISREG(there.st_mode):
                raise OSError(errno.EINVAL, "the target is not a regular file", str(target))
            _fill(read, write, at=min(there.st_size, size), size=size, tell=tell)
            if there.st_size > size:
                os.ftruncate(write, size)
        finally:
            os.close(write)
    finally:
        os.close(read)


def _fill(read: int, write: int, *, at: int, size: int, tell: _Teller) -> None:
    """Bring the bytes from *at* to *size*. Where the file system can, blocks are shared instead of copied."""
    if at:
        tell(at)
    if at == 0 and size and _clone(read, write):
        tell(size)
        return
    can_copy_inside = True
    while at < size:
        count = min(tell.slice_bytes, size - at)
        tell.wait_for(count)
        done = 0
        if can_copy_inside:
            try:
                done = os.copy_file_range(read, write, count, at, at)
            except OSError as error:
                if error.errno not in _UNABLE:
                    raise
                can_copy_inside = False
        if done == 0:
            try:
                content = os.pread(read, min(count, 4 * 1024**2), at)
            except OSError as error:
                raise _unreadable(error) from error
            if not content:
                raise _Unreadable(f"it ends after {at:,} of {size:,} bytes at the sender")
            done = os.pwrite(write, content, at)
        at += done
        tell(done)


def _clone(read: int, write: int) -> bool:
    try:
        fcntl.ioctl(write, FICLONE, read)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
        return False
    return True
