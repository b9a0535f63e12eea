"""Parts: walking, reading and removing trees through descriptors, so that no link is followed out of them."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from librarian.errors import BadName, UnsupportedMember
from librarian.names import MemberPath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: To look into a directory, never through a link.
DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: To read a file; O_NONBLOCK because a FIFO that took its place must not hold the reader for ever.
READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: Levels of directories that are walked; each costs an open descriptor.
DEPTH: Final = 200

_SPECIAL: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}


class Part(NamedTuple):
    """An entry of a tree: ``name`` in the directory ``parent_fd``, ``path`` from the tree's top."""

    parent_fd: int
    name: str
    path: str
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Whether there may be parts below it."""
        return stat.S_ISDIR(self.status.st_mode)


def status_of(path: str, *, at: int) -> os.stat_result | None:
    """What *path* (below the directory *at*) is, following no link in its last part; None when it is not there."""
    try:
        return os.stat(path, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return None


def require_supported(mode: int, path: str) -> None:
    """Raise UnsupportedMember unless *mode* is that of a directory or a regular file."""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return
    what = _SPECIAL.get(stat.S_IFMT(mode), "a special file")
    raise UnsupportedMember(
        f"{path or 'the payload'!r} is {what}", remedy="Send directories and regular files alone; resolve links first."
    )


def member_path(path: str) -> MemberPath:
    """*path* as the name of a member; raises UnsupportedMember where the rules for names refuse it."""
    try:
        return MemberPath(path)
    except BadName as error:
        raise UnsupportedMember(error.message, remedy=error.remedy) from error


def walk(top_fd: int) -> Iterator[Part]:
    """Every part below the directory *top_fd*, a directory before what is in it.

    A part's ``parent_fd`` is open only until the walk goes on.

    Raises
    ------
    UnsupportedMember
        Deeper than 200 levels.
    OSError
        A directory cannot be read.
    """
    fds = [top_fd]
    levels = [_entries(top_fd, "")]
    try:
        while levels:
            part = next(levels[-1], None)
            if part is None:
                levels.pop()
                fd = fds.pop()
                if fd != top_fd:
                    os.close(fd)
                continue
            yield part
            if part.is_directory:
                if len(fds) > DEPTH:
                    raise UnsupportedMember(f"{part.path[:80]!r} is nested deeper than {DEPTH} levels")
                fds.append(os.open(part.name, DIRECTORY, dir_fd=part.parent_fd))
                levels.append(_entries(fds[-1], part.path + "/"))
    finally:
        for fd in fds:
            if fd != top_fd:
                os.close(fd)


def _entries(fd: int, prefix: str) -> Iterator[Part]:
    with os.scandir(fd) as entries:
        for entry in entries:
            yield Part(fd, entry.name, prefix + entry.name, entry.stat(follow_symlinks=False))


def open_below(name: str, *, at: int, closing: bool = False) -> int:
    """Open the directory *name* below *at*, through no link; *closing* closes *at* in any case."""
    try:
        return os.open(name, DIRECTORY, dir_fd=at)
    finally:
        if closing:
            os.close(at)


def open_inside(path: str, flags: int, *, at: int) -> int:
    """Open *path*, of several parts, below *at* with *flags*: part by part, so that no link leads out."""
    *above, leaf = path.split("/")
    fd = os.dup(at)
    for part in above:
        fd = open_below(part, at=fd, closing=True)
    try:
        return os.open(leaf, flags, dir_fd=fd)
    finally:
        os.close(fd)


def is_empty_directory(path: str, *, at: int) -> bool:
    """Whether the directory *path* has no entries."""
    fd = os.open(path, DIRECTORY, dir_fd=at)
    try:
        with os.scandir(fd) as entries:
            return next(entries, None) is None
    finally:
        os.close(fd)


def fsync_at(path: str, *, at: int) -> None:
    """Make a file's content, or a directory's entries, durable."""
    fd = os.open(path, READ, dir_fd=at)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_tree(path: str, *, at: int, beat: Callable[[], None]) -> bool:
    """Remove *path* and all below it; False when something could not be removed (it belongs to others).

    What is not there counts as removed.
    """
    remover = _Remover(at, beat)
    is_removed = remover.remove(path, at=at)
    while remover.lifted:
        is_removed = remover.remove(remover.lifted.pop(), at=at) and is_removed
    return is_removed


class _Remover:
    """Removes trees of any depth: what lies too deep is lifted to the top, and its turn comes later."""

    def __init__(self, top_fd: int, beat: Callable[[], None]) -> None:
        self._top_fd = top_fd
        self._beat = beat
        self.lifted: list[str] = []

    def remove(self, path: str, *, at: int, depth: int = 0) -> bool:
        self._beat()
        try:
            os.unlink(path, dir_fd=at)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):
                return _pass_if_denied(error)
        else:
            return True
        try:
            return self._lift(path, at=at) if depth > DEPTH else self._remove_directory(path, at=at, depth=depth)
        except OSError as error:
            return _pass_if_denied(error)

    def _lift(self, path: str, *, at: int) -> bool:
        name = f".librarian-deep-{secrets.token_hex(8)}"
        os.rename(path, name, src_dir_fd=at, dst_dir_fd=self._top_fd)
        self.lifted.append(name)
        return True

    def _remove_directory(self, path: str, *, at: int, depth: int) -> bool:
        fd = os.open(path, DIRECTORY, dir_fd=at)
        try:
            status = os.fstat(fd)
            if status.st_uid == os.geteuid() and status.st_mode & 0o300 != 0o300:
                # A book that was about to be published is read-only already.
                os.fchmod(fd, 0o700)
            with os.scandir(fd) as entries:
                names = [entry.name for entry in entries]
            # A list, because all are to be tried: what can go, goes.
            removed = [self.remove(name, at=fd, depth=depth + 1) for name in names]
        finally:
            os.close(fd)
        if not all(removed):
            return False
        os.rmdir(path, dir_fd=at)
        return True


def _pass_if_denied(error: OSError) -> bool:
    if error.errno in (errno.EACCES, errno.EPERM, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY):
        return False
    raise error
