"""The one composition root: what a running site consists of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from librarian.bells import Bells, Nudges
from librarian.pulse import Pulses
from librarian.writers import Writers

if TYPE_CHECKING:
    from librarian.auth import Doorkeeper
    from librarian.catalog.database import Catalog
    from librarian.checksum_pool import ChecksumPool
    from librarian.health import Health
    from librarian.names import SiteName
    from librarian.peers import Neighbours
    from librarian.settings import Settings
    from librarian.stores.registry import Stores
    from librarian.transfers.base import TransferEngine


@dataclass(kw_only=True)
class Site:
    """One librarian with all it owns. Passed to every task and every request."""

    name: SiteName
    settings: Settings
    catalog: Catalog
    stores: Stores
    pool: ChecksumPool
    doorkeeper: Doorkeeper
    health: Health
    neighbours: Neighbours
    engines: dict[str, TransferEngine]
    bells: Bells = field(default_factory=Bells)
    nudges: Nudges = field(default_factory=Nudges)
    pulses: Pulses = field(default_factory=Pulses)
    writers: Writers = field(default_factory=Writers)
