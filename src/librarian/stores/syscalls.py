"""The calls of Linux that Python does not offer: renameat2, syncfs, FICLONE and mincore."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from typing import Final

_RENAME_NOREPLACE: Final = 1  # linux/fs.h
_FICLONE: Final = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syncfs.argtypes = [ctypes.c_int]
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_libc.mmap.restype = ctypes.c_void_p
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
_MAP_FAILED: Final = ctypes.c_void_p(-1).value
_PROT_READ: Final = 1  # sys/mman.h
_MAP_SHARED: Final = 1
#: Mapped at once, to see what of it is in the page cache.
_LOOK_BYTES: Final = 256 * 1024**2
# musl has no renameat2; a C library without it is a file system without it.
_renameat2 = getattr(_libc, "renameat2", None)
if _renameat2 is not None:
    _renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]


def _raise_errno(path: str | None = None) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), path)


def rename_noreplace(source: str, target: str, *, source_fd: int, target_fd: int) -> None:
    """Rename *source* (below *source_fd*) to *target* (below *target_fd*) unless something stands there.

    Raises
    ------
    OSError
        EEXIST: something stands there. EINVAL or ENOSYS: the file system does not know how.
    """
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), target)
    if _renameat2(source_fd, os.fsencode(source), target_fd, os.fsencode(target), _RENAME_NOREPLACE) != 0:
        _raise_errno(target)


def syncfs(fd: int) -> None:
    """Make everything written so far to the file system of *fd* durable.

    Raises
    ------
    OSError
        Also when a write failed since *fd* was opened (Linux 5.8 and newer).
    """
    if _libc.syncfs(fd) != 0:
        _raise_errno()


def is_resident(fd: int, size: int) -> bool:
    """Whether any of the *size* bytes of *fd* is in the page cache; True where the system does not tell."""
    for offset in range(0, size, _LOOK_BYTES):
        length = min(_LOOK_BYTES, size - offset)
        address = _libc.mmap(None, length, _PROT_READ, _MAP_SHARED, fd, offset)
        if address == _MAP_FAILED:
            return True
        try:
            pages = (ctypes.c_ubyte * -(-length // mmap.PAGESIZE))()
            if _libc.mincore(address, length, pages) != 0 or bytes(pages).strip(b"\0"):
                return True
        finally:
            _libc.munmap(address, length)
    return False


def require_size(fd: int, size: int) -> None:
    """Raise OSError (EFBIG) where the file system of *fd* keeps no file of *size* bytes; nothing is written.

    Where *fd* stands changes. Linux lets nobody seek beyond the largest size (``s_maxbytes``); a file system that runs
    as a process may have one that is not known.
    """
    try:
        os.lseek(fd, size, os.SEEK_SET)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG)) from error


def reflink(source_fd: int, target_fd: int) -> bool:
    """Let *target_fd* share all of *source_fd*'s blocks; False when the file system cannot."""
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM):
            return False
        raise
    return True
