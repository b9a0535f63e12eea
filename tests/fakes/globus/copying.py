"""Copying as Globus does it: skipping what is equal, comparing afterwards, and telling errors by their codes."""

import errno
import fcntl
import filecmp
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FICLONE = 0x40049409


@dataclass(frozen=True)
class Pair:
    """One file or directory on its way, with its paths as collections see them."""

    source: Path
    target: Path
    source_path: str
    target_path: str
    is_directory: bool = False


class Fault(Exception):
    """One item cannot be moved now."""

    def __init__(self, code: str, path: str, *, is_source: bool) -> None:
        super().__init__(f"{code}: {path}")
        self.code = code
        self.path = path
        self.is_source = is_source


def members_of(pair: Pair) -> Iterator[Pair]:
    """What *pair* consists of: itself, or everything in the directory, which comes first."""
    if not pair.is_directory:
        if pair.source.is_dir():
            raise Fault("IS_A_DIRECTORY", pair.source_path, is_source=True)
        yield pair
        return
    if not pair.source.exists():
        raise Fault("FILE_NOT_FOUND", pair.source_path, is_source=True)
    for folder, names, files in os.walk(pair.source):
        inside = Path(folder).relative_to(pair.source)
        yield _below(pair, inside, is_directory=True)
        for name in files:
            yield _below(pair, inside / name, is_directory=False)
        names.sort()


def _below(pair: Pair, inside: Path, *, is_directory: bool) -> Pair:
    suffix = "" if inside == Path() else f"/{inside}"
    return Pair(
        pair.source / inside,
        pair.target / inside,
        f"{pair.source_path.rstrip('/')}{suffix}",
        f"{pair.target_path.rstrip('/')}{suffix}",
        is_directory,
    )


def bring(pair: Pair, *, is_synced: bool, is_verified: bool, keeps_times: bool) -> int | None:
    """Copy one member; the bytes that were moved, None when nothing had to be. Raises Fault."""
    if pair.is_directory:
        _make(pair.target, pair)
        return None
    try:
        read = pair.source.stat()
    except OSError as error:
        raise _source_fault(error, pair) from error
    _make(pair.target.parent, pair)
    if is_synced and _is_equal(pair):
        return None
    try:
        _copy(pair)
        if keeps_times:
            os.utime(pair.target, ns=(read.st_atime_ns, read.st_mtime_ns))
    except OSError as error:
        is_source = error.filename == str(pair.source) or error.errno == errno.EIO
        raise (_source_fault if is_source else _target_fault)(error, pair) from error
    if is_verified and not filecmp.cmp(pair.source, pair.target, shallow=False):
        raise Fault("VERIFY_CHECKSUM", pair.target_path, is_source=False)
    return read.st_size


def _make(folder: Path, pair: Pair) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _target_fault(error, pair) from error


def _is_equal(pair: Pair) -> bool:
    try:
        if pair.target.stat().st_size != pair.source.stat().st_size:
            return False
        return filecmp.cmp(pair.source, pair.target, shallow=False)
    except OSError:
        return False


def _copy(pair: Pair) -> None:
    with pair.source.open("rb") as read, pair.target.open("wb") as write:
        try:
            fcntl.ioctl(write, FICLONE, read.fileno())
        except OSError:
            shutil.copyfileobj(read, write, 1024**2)


def _source_fault(error: OSError, pair: Pair) -> Fault:
    codes = {errno.ENOENT: "FILE_NOT_FOUND", errno.EACCES: "PERMISSION_DENIED"}
    return Fault(codes.get(error.errno or 0, "FILE_ACCESS"), pair.source_path, is_source=True)


def _target_fault(error: OSError, pair: Pair) -> Fault:
    codes = {
        errno.ENOSPC: "NO_SPACE_LEFT",
        errno.EDQUOT: "QUOTA_EXCEEDED",
        errno.EACCES: "PERMISSION_DENIED",
        errno.EISDIR: "IS_A_DIRECTORY",
        errno.ENOTDIR: "NOT_A_DIRECTORY",
        errno.ENAMETOOLONG: "INVALID_PATH_NAME",
    }
    return Fault(codes.get(error.errno or 0, "ENDPOINT_ERROR"), pair.target_path, is_source=False)
