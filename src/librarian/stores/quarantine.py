"""Quarantine: what nobody asked for is set aside and waits, never removed at once."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from librarian.stores import base, parts, places
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from librarian.names import Token
    from librarian.stores.base import Stray
    from librarian.stores.ground import Ground

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
