"""Opening: finding out who a store is and what its file system can do, before anything is entrusted to it."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import stat
from typing import TYPE_CHECKING, Final

from librarian.errors import ConfigurationError, StoreUnavailable
from librarian.stores import ground, identity, parts, places, syscalls

if TYPE_CHECKING:
    from librarian.stores.base import StoreSpec
    from librarian.stores.ground import Footing
    from librarian.stores.identity import Identity

#: How file systems say that they cannot do a thing at all.
_CANNOT: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK, errno.ENOTTY})


def open_store(spec: StoreSpec, *, expected_uuid: str | None, generation: int, allow_noreplace: bool) -> Footing:
    """Check the identity and the abilities of a store, and make its staging area.

    Raises
    ------
    StoreUnavailable, RestoredCatalog, ConfigurationError, OSError
    """
    _check_paths(spec)
    if expected_uuid is None:
        spec.root.mkdir(parents=True, exist_ok=True)
    root_fd = _open_directory(spec, spec.root, what="root")
    try:
        known = _known_identity(root_fd, spec, expected_uuid=expected_uuid, generation=generation)
        _make_staging(spec)
        staging_fd = _open_directory(spec, spec.staging, what="staging area")
        try:
            uid, has_noreplace, folds_case = _probe(spec, root_fd, staging_fd)
            root_key, staging_key = ground.root_key_of(root_fd), ground.staging_key_of(spec, staging_fd)
        finally:
            os.close(staging_fd)
        if known is None:
            known = identity.Identity.mint(generation)
            identity.write(root_fd, known)
    finally:
        os.close(root_fd)
    return ground.Footing(
        uuid=known.uuid,
        root_key=root_key,
        staging_key=staging_key,
        uid=uid,
        gid=_gid(spec),
        has_noreplace=has_noreplace and allow_noreplace,
        folds_case=folds_case,
    )


def _check_paths(spec: StoreSpec) -> None:
    root, staging = os.path.abspath(spec.root), os.path.abspath(spec.staging)  # noqa: PTH100 - resolves no links
    if staging == root or (root + "/").startswith(staging + "/"):
        raise ConfigurationError(
            f"the root of store '{spec.name}' lies in its staging area", remedy="Put the two beside each other."
        )
    if staging.startswith(root + "/") and not staging[len(root) + 1 :].startswith(".librarian"):
        raise ConfigurationError(
            f"the staging area of store '{spec.name}' lies among its names",
            remedy=f"Put it beside the root, or at '{spec.root}/.librarian-staging'.",
        )


def _open_directory(spec: StoreSpec, path: os.PathLike[str], *, what: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise StoreUnavailable(
            f"the {what} of store '{spec.name}' cannot be opened: '{path}': {error.strerror}",
            remedy="Mount the store, or correct its paths and their permissions.",
        ) from error


def _known_identity(root_fd: int, spec: StoreSpec, *, expected_uuid: str | None, generation: int) -> Identity | None:
    found = identity.read(root_fd, spec.name)
    if expected_uuid is not None:
        return identity.check(found, expected_uuid=expected_uuid, generation=generation, store=spec.name)
    # An identity in an empty root is our own: a crash came between making it and recording it.
    identity.require_empty(root_fd, spec.name)
    if found is None:
        return None
    return identity.check(found, expected_uuid=found.uuid, generation=generation, store=spec.name)


def _make_staging(spec: StoreSpec) -> None:
    mode = 0o711 if ground.is_open_to_others(spec) else 0o700
    if not spec.staging.is_dir():
        spec.staging.mkdir(parents=True)
        spec.staging.chmod(mode)
    for name in (places.PRIVATE, places.QUARANTINE):
        inner = spec.staging / name
        with contextlib.suppress(FileExistsError):
            inner.mkdir(mode=0o700)
        status = inner.lstat()
        # Where nobody else brings anything it may be read: FAT has one mode for all.
        forbidden = 0o077 if ground.is_open_to_others(spec) else places.OTHERS_WRITE
        if not stat.S_ISDIR(status.st_mode) or status.st_mode & forbidden:
            raise StoreUnavailable(
                f"'{inner}' is not a directory that is the server's alone",
                remedy="Make it one (mode 0700), or mount FAT and exFAT with 'umask=022' and the server's 'uid'.",
            )


def _gid(spec: StoreSpec) -> int | None:
    if spec.staging_group is None:
        return None
    try:
        return grp.getgrnam(spec.staging_group).gr_gid
    except KeyError as error:
        raise ConfigurationError(
            f"there is no group '{spec.staging_group}' for the staging area of store '{spec.name}'",
            remedy="Create the group, or correct staging_group.",
        ) from error


def _probe(spec: StoreSpec, root_fd: int, staging_fd: int) -> tuple[int, bool, bool]:
    """Rename for real: two mounts of one device have equal st_dev and yet refuse."""
    probe = f"{places.PROBE_PREFIX}-rename"
    # One that was cut off has left its files.
    _unlink_probe(probe, root_fd, staging_fd)
    try:
        uid = _make_file(probe, at=staging_fd)
        _probe_rename(spec, probe, root_fd, staging_fd)
        folds_case = parts.status_of(probe.upper(), at=root_fd) is not None
        has_noreplace = _probe_noreplace(probe, root_fd) or _require_links(spec, probe, root_fd)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise StoreUnavailable(
                f"store '{spec.name}' cannot be written: {error.strerror}",
                remedy=f"Let the server's user write '{spec.root}' and '{spec.staging}'.",
            ) from error
        raise
    finally:
        _unlink_probe(probe, root_fd, staging_fd)
    return uid, has_noreplace, folds_case


def _unlink_probe(probe: str, *folders: int) -> None:
    for fd in folders:
        for name in (probe, f"{probe}-other"):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=fd)


def _make_file(name: str, *, at: int) -> int:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=at)
    try:
        return os.fstat(fd).st_uid
    finally:
        os.close(fd)


def _probe_rename(spec: StoreSpec, probe: str, root_fd: int, staging_fd: int) -> None:
    try:
        os.rename(probe, probe, src_dir_fd=staging_fd, dst_dir_fd=root_fd)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise StoreUnavailable(
            f"store '{spec.name}' cannot rename from '{spec.staging}' to '{spec.root}': they are different mounts",
            remedy="Put both in one mount (two bind mounts of one disk are two), such as '<mount>/root' and "
            "'<mount>/staging'.",
        ) from error


def _probe_noreplace(probe: str, root_fd: int) -> bool:
    """Whether a rename can be made to refuse an existing name; afterwards *probe* stands in any case."""
    other = f"{probe}-other"
    try:
        # To a free name first: the kernel refuses an existing one before it asks the file system, which may not know.
        syscalls.rename_noreplace(probe, other, source_fd=root_fd, target_fd=root_fd)
        _make_file(probe, at=root_fd)
        syscalls.rename_noreplace(probe, other, source_fd=root_fd, target_fd=root_fd)
    except FileExistsError:
        return True
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    # It was replaced all the same: a file system that ignores the flag cannot be trusted with it.
    os.rename(other, probe, src_dir_fd=root_fd, dst_dir_fd=root_fd)
    return False


def _require_links(spec: StoreSpec, probe: str, root_fd: int) -> bool:
    other = f"{probe}-other"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(other, dir_fd=root_fd)
    try:
        os.link(probe, other, src_dir_fd=root_fd, dst_dir_fd=root_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        raise StoreUnavailable(
            f"store '{spec.name}' can neither rename without replacing nor make hard links",
            remedy="Use a file system that can do one of the two, or a newer kernel.",
        ) from error
    return False
