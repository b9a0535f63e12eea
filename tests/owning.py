"""A process as the owner of its catalog and stores, with a clock of its own, and nothing else of a site."""

import asyncio
import json
from pathlib import Path

from sqlalchemy import text

from librarian.catalog.database import Catalog, make_engine
from librarian.catalog.lock import owner_lock
from librarian.names import SiteName, StoreName
from librarian.ownership import Ownership
from librarian.stores.base import StoreSpec
from librarian.stores.local import LocalStore
from librarian.stores.registry import Stores

NAME = SiteName("chajnantor")
IDENTITY = ".librarian-store"


class Over(Exception):
    """The time that a test gives has passed."""


class Hours:
    """A clock that only sleepers move on; ``at`` says what happens when it gets there."""

    def __init__(self, *, ends_at: float) -> None:
        self.now = 0.0
        self.ends_at = ends_at
        self.at = {}

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        for due in [when for when in self.at if when <= self.now]:
            await asyncio.to_thread(self.at.pop(due))
        if self.now >= self.ends_at:
            raise Over


class Owner:
    """A process that owns a catalog with one store or more, as far as ownership goes."""

    def __init__(self, url: str, folder: Path, stores, hours: Hours) -> None:
        self.url = url
        self.folder = folder
        self.lock = owner_lock(url)
        self.catalog = Catalog(url)
        self.stores = Stores(
            LocalStore(StoreSpec(name=StoreName(store), root=folder / store, staging=folder / f"{store}-staging"))
            for store in stores
        )
        self.hours = hours
        self.ownership = Ownership(self.catalog, self.lock, self.stores, clock=hours, sleep=hours.sleep)

    def stamp_of(self, store: str = "fast") -> int:
        """The generation that stands in a store's root."""
        return json.loads((self.folder / store / IDENTITY).read_text())["generation"]

    async def site(self):
        async with self.catalog.read() as tx:
            return await tx.site.get()

    async def alerts(self) -> list[str]:
        async with self.catalog.read() as tx:
            return [alert.cause for alert in await tx.alerts.open_ones()]

    async def registered(self) -> list[str]:
        async with self.catalog.read() as tx:
            return sorted(row.name for row in await tx.stores.all())

    async def look(self) -> None:
        """Look at the stores once, as the probe does every few seconds."""
        await self.ownership.settle(await self.stores.probe())

    async def write(self) -> None:
        async with self.catalog.begin():
            pass

    async def set_back(self, **columns: int) -> None:
        """Make the catalog what it was when it was backed up."""
        engine = make_engine(self.url)
        async with engine.begin() as connection:
            for column, value in columns.items():
                await connection.execute(text(f"UPDATE site SET {column} = {value}"))
        await engine.dispose()
