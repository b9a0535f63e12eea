"""A FUSE file system over a directory that behaves as FAT and exFAT do under Linux.

Names keep their case and are found in any; some characters are refused, and periods at the end are lost. Modes cannot
be changed, nor owners; there are no links; times are even seconds; a file has a largest size. It can rename without
replacing, for the kernel sees to that. What nobody uses may get another inode number: all but the root do when
``evicted`` is looked for.
"""

# ruff: noqa: PTH104, PTH112, PTH118, PTH120, PTH208

import errno
import os
import stat
import sys

from faulty_mount import Faulty, errors_passed_on
from mfusepy import FUSE, FuseOSError

REFUSED = set('"*/:<>?\\|') | {chr(code) for code in range(32)}
LONGEST = 255
TICK_NS = 2_000_000_000


def folded(name):
    return "".join(other if len(other := character.upper()) == 1 else character for character in name.rstrip("."))


class Fat(Faulty):
    def __init__(self, source, mode, largest):
        super().__init__(source)
        self._mode = mode
        self._largest = largest
        self._evictions = 0

    def _at(self, path):
        """Where *path* is kept; its last part as it is there, or as it is to be made."""
        at = self._source
        for part in filter(None, path.split("/")):
            found = [name for name in os.listdir(at) if folded(name) == folded(part)] if os.path.isdir(at) else []
            at = os.path.join(at, found[0] if found else part.rstrip("."))
        return at

    def _require_name(self, path):
        name = path.rpartition("/")[2]
        if len(name.encode("utf-16-le")) > 2 * LONGEST:
            raise FuseOSError(errno.ENAMETOOLONG)
        if REFUSED & set(name) or not name.rstrip("."):
            raise FuseOSError(errno.EINVAL)

    def getattr(self, path, fh=None):
        if path.endswith("/evicted"):
            self._evictions += 1
        found = super().getattr(path, fh)
        found |= {f"st_{which}time": found[f"st_{which}time"] // TICK_NS * TICK_NS for which in "acm"}
        if path != "/":
            found["st_ino"] += self._evictions << 40
        return found | {"st_mode": stat.S_IFMT(found["st_mode"]) | self._mode, "st_nlink": 1}

    def chmod(self, path, mode):
        if stat.S_IMODE(mode) & ~0o777:
            raise FuseOSError(errno.EPERM)

    def chown(self, path, uid, gid):
        raise FuseOSError(errno.EPERM)

    def link(self, target, source):
        raise FuseOSError(errno.EPERM)

    def symlink(self, target, source):
        raise FuseOSError(errno.EPERM)

    def mknod(self, path, mode, dev):
        raise FuseOSError(errno.EPERM)

    def mkdir(self, path, mode):
        self._require_name(path)
        super().mkdir(path, 0o755)

    def create(self, path, mode, fi=None):
        self._require_name(path)
        return super().create(path, 0o644)

    def rename(self, old, new):
        self._require_name(new)
        source, target = self._at(old), self._at(new)
        with errors_passed_on():
            if source == target:
                target = os.path.join(os.path.dirname(source), new.rpartition("/")[2].rstrip("."))
            os.rename(source, target)

    def truncate(self, path, length, fh=None):
        if length > self._largest:
            raise FuseOSError(errno.EFBIG)
        super().truncate(path, length, fh)

    def write(self, path, content, offset, fh):
        if offset + len(content) > self._largest:
            raise FuseOSError(errno.EFBIG)
        return super().write(path, content, offset, fh)


if __name__ == "__main__":
    FUSE(
        Fat(sys.argv[1], int(sys.argv[3], 8), int(sys.argv[4])),
        sys.argv[2],
        foreground=True,
        nothreads=True,
        use_ino=True,
        attr_timeout=0,
        entry_timeout=0,
        default_permissions=True,
        allow_other=True,
    )
