"""Faults: what the operating system's errors mean for a store, decided in one place."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from librarian.errors import (
    BadName,
    LibrarianError,
    NoRoom,
    NotFound,
    StoreUnavailable,
    TooLarge,
    UnsupportedMember,
)

if TYPE_CHECKING:
    from librarian.names import StoreName

#: A quota that is used up is a disk that is full.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
#: The store as a whole is gone or may not be written: it stays closed until a probe succeeds. Nothing is listed that
#: somebody who writes into staging could cause: ENXIO (a FIFO), ESTALE (removing a file on NFS).
LOST: Final = frozenset({errno.EROFS, errno.ENOTCONN, errno.ENODEV, errno.ESHUTDOWN})
#: What opening a root answers when its file system is gone.
GONE: Final = LOST | {errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.EIO, errno.EACCES, errno.ETIMEDOUT}
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM})
_IN_THE_WAY: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO})
#: What file systems answer to a name that they cannot keep (EINVAL: a colon on exFAT; EEXIST: of two new names the
#: second, which is the same as the first there).
UNNAMEABLE: Final = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EEXIST})
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


def refusal_of(error: OSError, *, store: StoreName, what: str) -> LibrarianError:
    """The refusal that *error* amounts to, met while store *store* was to *what* ("publish 'a/b'").

    The only place where an OSError of a store is given a meaning; raise it ``from error``.
    """
    number = error.errno or 0
    which = f" ({error.filename!r})" if number in UNNAMEABLE and error.filename else ""
    message = f"Cannot {what} on store '{store}': {error.strerror or error}{which}"
    details = {"store": str(store), "errno": errno.errorcode.get(number, str(number))}
    kind, remedy = _meaning(number, store)
    return kind(message, remedy=remedy, details=details)


def _meaning(number: int, store: StoreName) -> tuple[type[LibrarianError], str]:
    if number in _FULL:
        return NoRoom, f"Free space, inodes or quota on '{store}', or open another store."
    if number in LOST:
        return StoreUnavailable, f"Mount '{store}' again, writable; it is taken back by itself."
    if number == errno.ENOENT:
        return NotFound, "Look at what is there; it may have been removed meanwhile."
    if number in _DENIED:
        return (
            UnsupportedMember,
            "Let the server's user read what was staged (umask 027 and a common group, or an ACL), and write there.",
        )
    if number in _IN_THE_WAY:
        return UnsupportedMember, "Send directories and regular files alone; a link or a file stands in the way."
    if number in UNNAMEABLE:
        return BadName, f"Use a name that the file system of '{store}' can keep."
    if number == errno.EFBIG:
        return TooLarge, f"The file system of '{store}' cannot hold so large a file; choose another store."
    if number in _NO_DESCRIPTORS:
        return StoreUnavailable, "Raise the limit of open files (ulimit -n) and start again."
    return StoreUnavailable, f"Look at the disk and the kernel's log of the machine that holds '{store}'."
