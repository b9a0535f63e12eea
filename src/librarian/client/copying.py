"""Copying into staging on a shared file system, and measuring what is copied: every source byte is read once.

All of this blocks; it runs in threads.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Final

from librarian.checksum import Algorithm, Hasher
from librarian.client.sources import changed_source, stamp_of
from librarian.errors import BadRequest, LibrarianError, NoRoom, StoreUnavailable
from librarian.writeback import Writeback

if TYPE_CHECKING:
    from collections.abc import Callable

    from librarian.client.sources import Part

    OnBytes = Callable[[int], None]

#: Bytes per read and write, in the one buffer there is: it stays in a core's cache, so that hashing and writing read
#: no memory. Neither larger pieces nor a second thread that writes were clearly faster where it was tried.
BUFFER: Final = 256 * 1024
#: From here on a file is brought alone, and it is worth asking whether the file system can share its blocks.
LARGE: Final = 32 * 1024**2
#: ``FICLONE`` of <linux/fs.h>: share the blocks instead of copying them.
_FICLONE: Final = 0x40049409
#: What a server under another user needs to read what we bring.
_FILE_MODE: Final = 0o644
_DIRECTORY_MODE: Final = 0o755


def open_source(part: Part) -> int:
    """A descriptor of a source's file, which must be the one that was surveyed.

    Raises
    ------
    SourceChanged, BadRequest
    """
    try:
        descriptor = os.open(
            part.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if part.member else 0)
        )
    except FileNotFoundError as error:
        raise changed_source(part.path, "it is gone") from error
    except OSError as error:
        raise BadRequest(f"cannot read {part.path!r}: {error.strerror}", remedy="Check its permissions.") from error
    if stamp_of(os.fstat(descriptor)) != part.stamp:
        os.close(descriptor)
        raise changed_source(part.path, "it was written or replaced")
    return descriptor


def confirm_part(descriptor: int, part: Part) -> None:
    """Refuse a source that was written while it was read; raises SourceChanged."""
    if stamp_of(os.fstat(descriptor)) != part.stamp:
        raise changed_source(part.path, "it was written")


def copy_part(part: Part, target: str, algorithm: Algorithm, on_bytes: OnBytes) -> str:
    """Copy one file to *target* and return its digest.

    What an earlier try already wrote stays: those bytes are read and hashed, not written again. (Should they be
    wrong after all, the librarian's own measurement says so.) A repeat is harmless.

    Raises
    ------
    SourceChanged, BadRequest
        About the source.
    NoRoom, StoreUnavailable
        About the target.
    """
    source = open_source(part)
    try:
        sink = _open_target(target)
        try:
            digest = _copy(source, sink, part, algorithm, on_bytes)
        except OSError as error:
            raise staging_failure(error, target) from error
        finally:
            os.close(sink)
        confirm_part(source, part)
        return digest
    finally:
        os.close(source)


def _open_target(target: str) -> int:
    try:
        sink = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, _FILE_MODE)
    except OSError as error:
        raise staging_failure(error, target) from error
    return sink


def _copy(source: int, sink: int, part: Part, algorithm: Algorithm, on_bytes: OnBytes) -> str:
    there = os.fstat(sink)
    if not stat.S_ISREG(there.st_mode):
        raise StoreUnavailable(
            "something else stands where the bytes belong", remedy="Cancel the upload and repeat it."
        )
    if there.st_mode & 0o444 != 0o444:
        os.fchmod(sink, there.st_mode & 0o7777 | _FILE_MODE)
    done = min(there.st_size, part.size)
    if there.st_size > part.size:
        os.ftruncate(sink, part.size)
    hasher = Hasher(algorithm)
    if done == 0 and part.size >= LARGE and _shares_blocks(source, sink):
        # The clone is what the librarian will get, so the clone is what we measure.
        _read_through(sink, part.size, part, hasher, on_bytes)
        return hasher.hexdigest()
    if part.size <= BUFFER:
        _copy_small(source, sink, part, hasher, skip=done)
        on_bytes(part.size)
        return hasher.hexdigest()
    _read_through(source, done, part, hasher, on_bytes)
    os.lseek(sink, done, os.SEEK_SET)
    _copy_rest(source, sink, part, hasher, left=part.size - done, on_bytes=on_bytes)
    return hasher.hexdigest()


def _shares_blocks(source: int, sink: int) -> bool:
    try:
        fcntl.ioctl(sink, _FICLONE, source)
    except OSError:
        return False
    return True


def _copy_small(source: int, sink: int, part: Part, hasher: Hasher, *, skip: int) -> None:
    content = memoryview(bytearray(part.size))
    there = 0
    while there < part.size:
        there += fill(source, content[there:], part)
    hasher.update(content)
    if skip < part.size:
        _write_all(sink, content[skip:], skip)


def fill(source: int, buffer: memoryview, part: Part) -> int:
    """Read the next bytes of *part* into *buffer*; returns how many, never none.

    Raises
    ------
    SourceChanged
        It ends too soon.
    BadRequest
        The disk refuses to read it.
    """
    try:
        count = os.readv(source, [buffer])
    except OSError as error:
        raise BadRequest(f"cannot read {part.path!r}: {error.strerror}", remedy="Check the disk it lies on.") from error
    if not count:
        raise changed_source(part.path, "it became shorter")
    return count


def _write_all(sink: int, content: memoryview, at: int) -> None:
    while content:
        written = os.pwrite(sink, content, at)
        content = content[written:]
        at += written


def _read_through(source: int, length: int, part: Part, hasher: Hasher, on_bytes: OnBytes) -> None:
    """Hash the next *length* bytes without writing them."""
    buffer = memoryview(bytearray(min(BUFFER, length) or 1))
    while length:
        count = fill(source, buffer[: min(len(buffer), length)], part)
        hasher.update(buffer[:count])
        length -= count
        on_bytes(count)


def _copy_rest(source: int, sink: int, part: Part, hasher: Hasher, *, left: int, on_bytes: OnBytes) -> None:
    at = part.size - left
    writeback = Writeback(sink, start=at)
    buffer = memoryview(bytearray(BUFFER))
    while left:
        count = fill(source, buffer[: min(BUFFER, left)], part)
        hasher.update(buffer[:count])
        _write_all(sink, buffer[:count], at)
        at += count
        left -= count
        writeback.reached(at)
        on_bytes(count)


def staging_failure(error: OSError, target: str) -> LibrarianError:
    """What a failure to write into staging means; the source's own failures are translated where they happen."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoom(f"no room to write {target!r}: {error.strerror}", remedy="Free space, or ask the operators.")
    return StoreUnavailable(
        f"cannot write {target!r}: {error.strerror}",
        remedy="Check that you may write into the librarian's staging, or upload over HTTP.",
    )


def make_directories(top: str, directories: tuple[str, ...]) -> None:
    """Make a book's top directory and those below it (parents first), readable for the server. May be repeated."""
    for path in (top, *(f"{top}/{directory}" for directory in directories)):
        try:
            os.mkdir(path, _DIRECTORY_MODE)  # noqa: PTH102 - text paths all the way, for speed
        except FileExistsError:
            continue
        except OSError as error:
            raise staging_failure(error, path) from error
        if os.stat(path).st_mode & 0o555 != 0o555:  # noqa: PTH116
            os.chmod(path, _DIRECTORY_MODE)  # noqa: PTH101


def measure_part(part: Part, algorithm: Algorithm, on_bytes: OnBytes) -> str:
    """The digest of one file of a source, without copying it; raises SourceChanged."""
    source = open_source(part)
    try:
        hasher = Hasher(algorithm)
        _read_through(source, part.size, part, hasher, on_bytes)
        confirm_part(source, part)
        return hasher.hexdigest()
    finally:
        os.close(source)
