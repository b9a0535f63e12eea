"""Quarantine: what nobody asked for is set aside and waits, never removed at once."""

from __future__ import annotations

import os
import secrets
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from librarian.errors import LibrarianError
from librarian.stores import base, parts, places
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from librarian.names import FileName, Token
    from librarian.stores.base import BadCopy, Stray
    from librarian.stores.ground import Ground

#: What the names of bad copies begin with.
_BAD: Final = "corrupt"
_STAMP: Final = "%Y%m%dT%H%M%SZ"
#: With the stamp in front, the longest name must still fit in a part of a path.
_NAME_BYTES: Final = 200


def survey(here: Ground, known: Collection[Token], older_than: timedelta) -> list[Stray]:
    """Entries of staging that are not *known* and did not change for *older_than*, by place."""
    before = utc_now() - older_than
    names = frozenset(known)
    strays = [
        stray
        for folder in ("", f"{places.PRIVATE}/")
        for stray in _entries(here, folder)
        if stray.place.removeprefix(folder) not in names and stray.changed_at <= before
    ]
    return sorted(strays, key=lambda stray: stray.place)


def _entries(here: Ground, folder: str) -> list[Stray]:
    found = []
    own = {places.PRIVATE, places.QUARANTINE, places.shared_probe(here.footing.uuid)}
    fd = os.open(folder or ".", parts.DIRECTORY, dir_fd=here.staging_fd)
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                here.trip.beat()
                status = parts.status_of(entry.name, at=fd)
                if status is not None and (folder or entry.name not in own):
                    changed_at = datetime.fromtimestamp(max(status.st_mtime, status.st_ctime), tz=UTC)
                    found.append(base.Stray(place=folder + entry.name, changed_at=changed_at))
    finally:
        os.close(fd)
    return found


def set_aside(here: Ground, strays: Sequence[Stray]) -> list[Stray]:
    """Move *strays* into quarantine; returns those that could not be moved. What is gone already counts as moved."""
    left = []
    stamp = utc_now().strftime(_STAMP)
    for stray in strays:
        here.trip.beat()
        flat = os.fsencode(stray.place.lstrip(".").replace("/", "-"))[:_NAME_BYTES]
        target = f"{places.QUARANTINE}/{stamp}-{os.fsdecode(flat)}"
        try:
            os.rename(stray.place, target, src_dir_fd=here.staging_fd, dst_dir_fd=here.staging_fd)
        except FileNotFoundError:
            continue
        except OSError:
            left.append(stray)
    return left


def set_bad_aside(here: Ground, copies: Sequence[BadCopy]) -> list[str | LibrarianError]:
    """Move bad copies out of the root; see ``Store.set_bad_aside``."""
    places_now: list[str | LibrarianError] = []
    for copy in copies:
        here.trip.beat()
        try:
            places_now.append(_set_bad_aside(here, copy.name))
        except OSError as error:
            places_now.append(here.refusal(error, f"set '{copy.name}' aside"))
        except LibrarianError as refusal:
            places_now.append(refusal)
    if here.spec.barrier is base.Barrier.FSYNC:
        # The one under the new name is not to be lost with the directory entry.
        with here.trip.barrier():
            parts.fsync_at(places.QUARANTINE, at=here.staging_fd)
    return places_now


def _set_bad_aside(here: Ground, name: FileName) -> str:
    for ancestor in name.ancestors:
        above = parts.status_of(ancestor, at=here.root_fd)
        if above is None or not stat.S_ISDIR(above.st_mode):
            return ""
    status = parts.status_of(name, at=here.root_fd)
    if status is None:
        return ""
    if stat.S_ISDIR(status.st_mode):
        # A directory that changes its parent must be writable, for its '..' changes.
        os.chmod(name, places.PARENT_MODE, dir_fd=here.root_fd)
    flat = os.fsencode(name.replace("/", "-"))[:_NAME_BYTES].decode(errors="ignore")
    # Without a stamp in front: these do not expire. The random part keeps two of one second apart.
    stamp = f"{utc_now().strftime(_STAMP)}-{secrets.token_hex(4)}"
    target = f"{places.QUARANTINE}/{_BAD}-{stamp}-{flat}"
    os.rename(name, target, src_dir_fd=here.root_fd, dst_dir_fd=here.staging_fd)
    return target


def expire(here: Ground, older_than: timedelta) -> list[str]:
    """Remove what was set aside more than *older_than* ago; returns the names that could not be removed."""
    before = utc_now() - older_than
    fd = os.open(places.QUARANTINE, parts.DIRECTORY, dir_fd=here.staging_fd)
    try:
        with os.scandir(fd) as entries:
            old = sorted(entry.name for entry in entries if _set_aside_at(entry.name) < before)
        return [name for name in old if not parts.remove_tree(name, at=fd, beat=here.trip.beat)]
    finally:
        os.close(fd)


def _set_aside_at(name: str) -> datetime:
    """When *name* was set aside, from its stamp; what has none was put there by a person and stays."""
    try:
        return datetime.strptime(name.partition("-")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
