"""Identity: the file in a store's root that tells one store from another, and from an empty mount point."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from librarian.errors import RestoredCatalog, StoreUnavailable
from librarian.names import LOST_AND_FOUND, RESERVED_PREFIX
from librarian.stores import parts, places

if TYPE_CHECKING:
    from librarian.names import StoreName

_VERSION: Final = 1
#: A file that is longer was not written by librarian.
_BYTES_AT_MOST: Final = 4096
#: The highest generation: far above what any catalog reaches, and within what it can hold.
_LATEST: Final = 2**62
#: The highest round: far above what any drive reaches, and within what a catalog can hold.
_LAST_ROUND: Final = 2**30
#: What a fresh file system brings along.
_FRESH: Final = frozenset({LOST_AND_FOUND})


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who a store is, and the highest generation of a catalog that owned it."""

    uuid: str
    generation: int
    #: Of a drive: which of its journeys this is, from 1. 0: it is no drive.
    round: int = 0

    @classmethod
    def mint(cls, generation: int) -> Identity:
        """A new identity."""
        return cls(uuid=str(uuid.uuid4()), generation=generation)


def read(root_fd: int, store: StoreName) -> Identity | None:
    """The identity in the root *root_fd*, None when there is none.

    Raises
    ------
    StoreUnavailable
        The file is there but says nothing that can be understood.
    """
    try:
        fd = os.open(places.IDENTITY, parts.READ, dir_fd=root_fd)
    except FileNotFoundError:
        return None
    try:
        text = os.read(fd, _BYTES_AT_MOST)
    finally:
        os.close(fd)
    try:
        known = json.loads(text)
        if known["version"] != _VERSION:
            raise ValueError(f"version {known['version']}")
        generation = int(known["generation"])
        if not 0 <= generation <= _LATEST:
            raise ValueError(f"generation {generation}")
        round_ = int(known.get("round", 0))
        if not 0 <= round_ <= _LAST_ROUND:
            raise ValueError(f"round {round_}")
        return Identity(uuid=str(uuid.UUID(known["uuid"])), generation=generation, round=round_)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise StoreUnavailable(
            f"the identity file of store '{store}' cannot be read: {error}",
            remedy=f"Restore '{places.IDENTITY}' in its root from a backup, or use the version that wrote it.",
        ) from error


def write(root_fd: int, identity: Identity) -> None:
    """Write *identity* durably: after a power cut either the old one stands, or the new one."""
    text = json.dumps({"version": _VERSION, **asdict(identity)}) + "\n"
    fresh = f"{places.IDENTITY}.new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=root_fd)
    try:
        # Whatever the umask is: others look who it is, too.
        os.fchmod(fd, 0o644)
        os.write(fd, text.encode())
        # Content before name: otherwise a power cut can leave an empty file under the final name.
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(fresh, places.IDENTITY, src_dir_fd=root_fd, dst_dir_fd=root_fd)
    os.fsync(root_fd)


def check(found: Identity | None, *, expected_uuid: str, generation: int, store: StoreName) -> Identity:
    """The identity *found*, when it is the one expected.

    Raises
    ------
    StoreUnavailable
        There is none (nothing is mounted there), or another store is.
    RestoredCatalog
        It was stamped with a higher generation than the catalog's.
    """
    if found is None:
        raise StoreUnavailable(
            f"the root of store '{store}' has no '{places.IDENTITY}': it is not mounted, or was emptied",
            remedy="Mount it; the store is taken back by itself.",
        )
    if found.uuid != expected_uuid:
        raise StoreUnavailable(
            f"another store stands where '{store}' should be: {found.uuid} instead of {expected_uuid}",
            remedy="Mount the right file system there, or correct the store's root in the settings.",
        )
    if found.generation > generation:
        raise RestoredCatalog(
            f"store '{store}' has seen generation {found.generation}, the catalog is at {generation}",
            remedy="The catalog was restored from a backup: run 'python -m librarian.admin restored acknowledge'.",
            details={"store": str(store), "store_generation": found.generation, "generation": generation},
        )
    return found


def is_stray(name: str) -> bool:
    """Whether something called *name* at the top is neither ours nor what a fresh file system brings along."""
    return not (name in _FRESH or name.startswith(RESERVED_PREFIX))


def stray_in(root_fd: int) -> str | None:
    """The name of anything at the top but what a fresh file system or librarian put there."""
    with os.scandir(root_fd) as entries:
        return next((each.name for each in entries if is_stray(each.name)), None)


def require_empty(root_fd: int, store: StoreName) -> None:
    """Raise StoreUnavailable when there is a stray at the top."""
    stray = stray_in(root_fd)
    if stray is not None:
        raise StoreUnavailable(
            f"the root of the new store '{store}' is not empty: it holds {stray!r}",
            remedy="Give a new store an empty directory; upload what is already there.",
        )
