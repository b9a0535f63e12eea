"""Examining a place that is to become a drive: what stands there, and what its file system can keep."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from librarian import mounts
from librarian.errors import Conflict, StoreUnavailable
from librarian.names import PART_BYTES, StoreName
from librarian.stores import identity, parts, places, syscalls

if TYPE_CHECKING:
    from pathlib import Path

    from librarian.stores.identity import Identity

#: Characters that some file systems do not keep in names.
_ODD: Final = ':?*"<>|\\'
#: FAT32 keeps no file as large as this.
_LARGE_BYTES: Final = 2**32
#: What a place is called that may be no drive of ours.
_NOBODY: Final = StoreName("drive")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found at a place that may become a drive."""

    size: int
    filesystem: str
    serial: str | None
    #: Something is mounted there; else it is a folder of another file system.
    is_mount: bool
    identity: Identity | None
    #: What its file system cannot do, in sentences.
    remarks: tuple[str, ...]


def examine(root: Path, name: StoreName) -> Findings:
    """Look at the place *root* that is to become the drive *name*; what was made for that is removed again.

    Raises
    ------
    Conflict
        It holds what is not ours, or lies in another drive or store.
    StoreUnavailable
        It cannot be opened or written.
    OSError
    """
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreUnavailable(
            f"'{root}' cannot be opened: {error.strerror}", remedy="Mount the drive, and give the folder where it is."
        ) from error
    try:
        known = identity.read(fd, name)
        if known is None:
            _require_own_place(root)
            _require_empty(root, fd)
        status = os.fstatvfs(fd)
        mount, top = mounts.mount_of(root), mounts.mount_at(root)
        return Findings(
            size=status.f_blocks * status.f_frsize,
            filesystem=mount.filesystem if mount else "unknown",
            serial=mounts.serial_of(mount.device) if mount else None,
            is_mount=top is not None,
            identity=known,
            remarks=_probe(root, fd),
        )
    finally:
        os.close(fd)


def found(root: Path, known: Identity) -> None:
    """Make the place *root* the drive *known*, durably. A repeat does nothing."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        identity.write(fd, known)
    finally:
        os.close(fd)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A place where something says that it is a drive."""

    path: Path
    identity: Identity
    #: (st_dev, st_ino): two mounts of one drive are one drive.
    key: tuple[int, int]
    #: A manifest stands on it.
    is_sealed: bool


def claim_at(root: Path) -> Claim | None:
    """Who stands at *root*: None when nobody does, or nobody who can be understood."""
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        known = identity.read(fd, _NOBODY)
        status = os.fstat(fd)
        if known is None:
            return None
        return Claim(path=root, identity=known, key=(status.st_dev, status.st_ino), is_sealed=_has(fd, places.MANIFEST))
    except (OSError, StoreUnavailable):
        return None
    finally:
        os.close(fd)


def open_drive(root: Path, uuid: str) -> tuple[int, Identity]:
    """Open the top of the drive *uuid*, which must stand at *root*; the descriptor is the caller's.

    Raises
    ------
    StoreUnavailable
        Something else stands there, or nothing.
    OSError
    """
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        known = identity.read(fd, _NOBODY)
        if known is None or known.uuid != uuid:
            raise StoreUnavailable(f"the drive is not at '{root}' any more", remedy="Plug it in again.")
    except BaseException:
        os.close(fd)
        raise
    return fd, known


def _require_empty(root: Path, fd: int) -> None:
    stray = identity.stray_in(fd)
    if stray is not None:
        raise Conflict(
            f"'{root}' is not empty: it holds {stray!r}",
            remedy="Nothing there was touched. If it is the right drive and nobody needs what is on it, format it.",
        )


def _require_own_place(root: Path) -> None:
    """What is loaded onto the outer one could else get the names of what stands in the inner one."""
    for above in root.resolve().parents:
        if os.path.lexists(above / places.IDENTITY):
            raise Conflict(
                f"'{root}' lies in the drive or store at '{above}'",
                remedy="Give the drive a place of its own, which is in no other.",
            )


def _has(fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _probe(root: Path, fd: int) -> tuple[str, ...]:
    folder = root / f"{places.PROBE_PREFIX}-{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise StoreUnavailable(
            f"'{root}' cannot be written: {error.strerror}",
            remedy="Mount the drive for writing, and let the server's user write at its top.",
        ) from error
    try:
        _sweep(fd, but=folder.name)
        remarks = [*_case(folder), *_names(folder), *_size(folder), *_directory_fsync(fd)]
        return tuple(remarks)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(fd: int, *, but: str) -> None:
    """Remove what earlier looks have left that were cut off."""
    with os.scandir(fd) as entries:
        left = [each.name for each in entries if each.name.startswith(places.PROBE_PREFIX) and each.name != but]
    for name in left:
        parts.remove_tree(name, at=fd, beat=lambda: None)


def _case(folder: Path) -> list[str]:
    (folder / "case").touch()
    if (folder / "CASE").exists():
        return ["it does not tell 'a' from 'A': of two names that differ in this alone it takes the first"]
    return []


def _names(folder: Path) -> list[str]:
    remarks = []
    refused = "".join(character for character in _ODD if not _keeps(folder, f"a{character}b"))
    if refused:
        remarks.append(f"it keeps no names with {' '.join(refused)}")
    if not all(_keeps(folder, name) for name in ("dot.", "space ")):
        remarks.append("it keeps no names that end in a dot or a space")
    composed, apart = (unicodedata.normalize(form, "ü") for form in ("NFC", "NFD"))
    if not (_keeps(folder, composed) and _keeps(folder, apart)):
        remarks.append("it changes accented letters in names")
    if not _keeps(folder, "ü" * (PART_BYTES // 2)):
        remarks.append(f"it keeps no names of {PART_BYTES} bytes")
    return remarks


def _keeps(folder: Path, name: str) -> bool:
    try:
        (folder / name).touch()
        return any(entry.name == name for entry in folder.iterdir())
    except OSError:
        return False


def _size(folder: Path) -> list[str]:
    with (folder / "large").open("wb") as file:
        try:
            syscalls.require_size(file.fileno(), _LARGE_BYTES)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            return ["it keeps no file of 4 GiB or more"]
    return []


def _directory_fsync(fd: int) -> list[str]:
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        return ["it cannot make a directory durable by itself: after a power cut, verify the drive"]
    return []
