"""The card: what a site says about itself to those who send to it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from librarian import entry_points
from librarian.names import StoreName
from librarian.patience import unless_slow

if TYPE_CHECKING:
    from librarian.catalog.database import Catalog
    from librarian.settings import Settings
    from librarian.stores.registry import Stores
    from librarian.wire.peers import OfferedEntryPoint

#: Entry points are looked at anew after this long; it touches every store's staging.
FRESH: Final = timedelta(seconds=30)
#: A store that does not answer for this long is left out.
STORE_TIME: Final = timedelta(seconds=5)


class Card:
    """What the site says about itself, kept so that asking costs neither the database nor a disk."""

    def __init__(self, *, catalog: Catalog, stores: Stores, settings: Settings) -> None:
        self._catalog = catalog
        self._stores = stores
        self._settings = settings
        self._uuid = ""
        self._entry_points: list[OfferedEntryPoint] = []
        self._good_until = 0.0

    async def read(self) -> tuple[str, list[OfferedEntryPoint]]:
        """The site's UUID and how peers may fill its stores' staging, at most half a minute old."""
        if time.monotonic() >= self._good_until:
            await self._renew()
        return self._uuid, self._entry_points

    async def _renew(self) -> None:
        async with self._catalog.read() as tx:
            self._uuid = (await tx.site.get()).uuid
            rows = await tx.stores.all()
        known = {row.name for row in rows}
        settings = {StoreName(store.name): store for store in self._settings.stores}
        found: list[OfferedEntryPoint] = []
        for store in self._stores.fixed():
            if store.name not in known or store.problem is not None:
                continue
            try:
                offered = entry_points.offered_by(store, settings.get(store.name))
                found += await unless_slow(offered, patience=STORE_TIME)
            except TimeoutError:
                continue
        self._entry_points = found
        self._good_until = time.monotonic() + FRESH.total_seconds()
