"""Entry points: how peers may fill the staging of our stores, and which of those that a peer offers can be used."""

from __future__ import annotations

import asyncio
import stat
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

from librarian.catalog.records import EntryPoint
from librarian.errors import BadName, LibrarianError
from librarian.names import SshAddress, SshPath, StoreName
from librarian.wire.peers import OfferedEntryPoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.settings import StoreSettings
    from librarian.stores.base import Store
    from librarian.wire.peers import OfferedSite

PROBE_PREFIX: Final = ".librarian-probe-"


def is_changed(pinned: Sequence[EntryPoint], *, offered: Sequence[EntryPoint]) -> bool:
    """Whether a peer offers anything that was not pinned.

    What it does not offer now may be a store that is away for a while: nothing goes there, and nobody need look.
    """
    return not set(offered) <= set(pinned)


async def usable(offered: OfferedSite) -> tuple[EntryPoint, ...]:
    """The entry points of *offered* that can be used from here: ``local`` only where its probe file is found."""
    found = await asyncio.to_thread(_find_probes, offered.entry_points)
    return tuple(
        EntryPoint(
            store=StoreName(point.store),
            engine=point.engine,
            # Peers exchange tokens, never hosts: bytes go where we call the peer, whatever it says, or to a
            # collection or an account that an operator pins.
            address=point.address if point.engine in ("globus", "rsync") else "",
            staging=point.staging if point.engine in ("globus", "rsync", "local") else "",
        )
        for point in found
    )


def _find_probes(points: Sequence[OfferedEntryPoint]) -> list[OfferedEntryPoint]:
    return [point for point in points if _is_usable(point)]


def _is_usable(point: OfferedEntryPoint) -> bool:
    match point.engine:
        case "local":
            return _shares_file_system(point)
        case "globus":
            return _is_in_collection(point)
        case "rsync":
            return _is_at_ssh(point)
    return True


def _is_in_collection(point: OfferedEntryPoint) -> bool:
    """Whether it is a collection and a path in it, and nothing that would lead elsewhere."""
    try:
        uuid.UUID(point.address)
    except ValueError:
        return False
    return point.staging.startswith(("/", "~/")) and ".." not in point.staging.split("/")


def _is_at_ssh(point: OfferedEntryPoint) -> bool:
    """Whether it is an account at a host and a path there, and nothing that ssh or a shell would take for more."""
    try:
        SshAddress(point.address)
        SshPath(point.staging)
    except BadName:
        return False
    return True


def _shares_file_system(point: OfferedEntryPoint) -> bool:
    is_plain = point.probe.startswith(PROBE_PREFIX) and "/" not in point.probe
    staging = Path(point.staging)
    if not is_plain or not staging.is_absolute():
        return False
    try:
        return stat.S_ISREG((staging / point.probe).lstat().st_mode)
    except (OSError, ValueError):
        return False


async def offered_by(store: Store, settings: StoreSettings | None) -> list[OfferedEntryPoint]:
    """How peers may fill the staging of *store*, which works; *settings* say where others find it.

    For ``local`` a probe file is laid in staging, by which a peer finds out whether it shares the file system.
    """
    points = [OfferedEntryPoint(store=store.name, engine="http")]
    if settings is not None and settings.globus is not None:
        address, staging = str(settings.globus.collection), settings.globus.staging
        points.append(OfferedEntryPoint(store=store.name, engine="globus", address=address, staging=staging))
    if settings is not None and settings.rsync is not None:
        address, staging = settings.rsync.address, settings.rsync.staging
        points.append(OfferedEntryPoint(store=store.name, engine="rsync", address=address, staging=staging))
    try:
        probe = await store.lay_probe()
    except LibrarianError:
        return points
    points.append(OfferedEntryPoint(store=store.name, engine="local", staging=str(store.staging), probe=probe))
    return points
