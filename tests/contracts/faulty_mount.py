"""A FUSE file system that passes a directory on and fails where a name asks for it.

Reading a name with ``unreadable`` in it gives EIO, syncing one with ``unsyncable`` EIO, writing one with ``full``
ENOSPC. It knows no flags of rename, as many network file systems.
"""

# It hands descriptors and plain names on, and its one line of output is its signal.
# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH115, PTH118, PTH208, PTH211, T201

import contextlib
import errno
import os
import sys

from mfusepy import FUSE, FuseOSError, Operations

STATUS = ("st_gid", "st_ino", "st_mode", "st_nlink", "st_size", "st_uid")


@contextlib.contextmanager
def errors_passed_on():
    try:
        yield
    except OSError as error:
        raise FuseOSError(error.errno or errno.EIO) from error


class Faulty(Operations):
    use_ns = True

    def __init__(self, source):
        self._source = source

    def _at(self, path):
        return os.path.join(self._source, path.lstrip("/"))

    def init(self, path):
        print("mounted", flush=True)

    def getattr(self, path, fh=None):
        with errors_passed_on():
            status = os.lstat(self._at(path))
        times = {f"st_{which}time": getattr(status, f"st_{which}time_ns") for which in "acm"}
        return {key: getattr(status, key) for key in STATUS} | times

    def readdir(self, path, fh):
        with errors_passed_on():
            names = [".", "..", *os.listdir(self._at(path))]
        # With inode numbers: the C library leaves out entries whose number is 0.
        return [(name, self.getattr(os.path.join(path, name)), 0) for name in names]

    def readlink(self, path):
        with errors_passed_on():
            return os.readlink(self._at(path))

    def symlink(self, target, source):
        with errors_passed_on():
            os.symlink(source, self._at(target))

    def mknod(self, path, mode, dev):
        with errors_passed_on():
            os.mknod(self._at(path), mode, dev)

    def mkdir(self, path, mode):
        with errors_passed_on():
            os.mkdir(self._at(path), mode)

    def rmdir(self, path):
        with errors_passed_on():
            os.rmdir(self._at(path))

    def unlink(self, path):
        with errors_passed_on():
            os.unlink(self._at(path))

    def rename(self, old, new):
        with errors_passed_on():
            os.rename(self._at(old), self._at(new))

    def link(self, target, source):
        with errors_passed_on():
            os.link(self._at(source), self._at(target))

    def chmod(self, path, mode):
        with errors_passed_on():
            os.chmod(self._at(path), mode)

    def chown(self, path, uid, gid):
        with errors_passed_on():
            os.chown(self._at(path), uid, gid)

    def utimens(self, path, times=None):
        with errors_passed_on():
            os.utime(self._at(path), ns=times)

    def truncate(self, path, length, fh=None):
        with errors_passed_on():
            os.truncate(self._at(path), length)

    def statfs(self, path):
        with errors_passed_on():
            found = os.statvfs(self._at(path))
        return {key: getattr(found, key) for key in ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_frsize")}

    def create(self, path, mode, fi=None):
        with errors_passed_on():
            return os.open(self._at(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def open(self, path, flags):
        with errors_passed_on():
            return os.open(self._at(path), flags & ~os.O_NONBLOCK)

    def read(self, path, size, offset, fh):
        if "unreadable" in path:
            raise FuseOSError(errno.EIO)
        with errors_passed_on():
            return os.pread(fh, size, offset)

    def write(self, path, content, offset, fh):
        if "full" in path:
            raise FuseOSError(errno.ENOSPC)
        with errors_passed_on():
            return os.pwrite(fh, content, offset)

    def fsync(self, path, datasync, fh):
        if "unsyncable" in path:
            raise FuseOSError(errno.EIO)
        with errors_passed_on():
            os.fsync(fh)

    def release(self, path, fh):
        os.close(fh)


if __name__ == "__main__":
    FUSE(
        Faulty(sys.argv[1]), sys.argv[2], foreground=True, nothreads=True, use_ino=True, attr_timeout=0, entry_timeout=0
    )
