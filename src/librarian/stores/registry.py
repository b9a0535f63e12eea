"""Stores: the stores of a site, by name."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from librarian.errors import Conflict, LibrarianError, NotFound, RestoredCatalog

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from librarian.names import StoreName
    from librarian.stores.base import Store

log = logging.getLogger(__name__)


class Stores:
    """The stores of a site: those of the settings in their order, then its drives, which come and go."""

    def __init__(self, stores: Iterable[Store]) -> None:
        self._stores: dict[str, Store] = {store.name: store for store in stores}
        self._fixed = frozenset(self._stores)

    def __iter__(self) -> Iterator[Store]:
        return iter(self._stores.values())

    def __len__(self) -> int:
        return len(self._stores)

    def __contains__(self, name: object) -> bool:
        return name in self._stores

    def lookup(self, name: StoreName | str) -> Store:
        """The store called *name*.

        Raises
        ------
        NotFound
            No such store is configured here.
        """
        store = self._stores.get(name)
        if store is None:
            raise NotFound(
                f"no store is called '{name}' here",
                remedy=f"Use one of: {', '.join(self._stores) or 'none is configured'}.",
            )
        return store

    def all(self) -> tuple[Store, ...]:
        """Every store, those with a problem too."""
        return tuple(self)

    def writable(self) -> tuple[Store, ...]:
        """The stores without a problem."""
        return tuple(store for store in self if store.problem is None)

    def fixed(self) -> tuple[Store, ...]:
        """The stores of the settings, those with a problem too."""
        return tuple(store for store in self if store.name in self._fixed)

    def drives(self) -> tuple[Store, ...]:
        """The drives, those that are not plugged in too."""
        return tuple(store for store in self if store.name not in self._fixed)

    async def put(self, drive: Store) -> None:
        """Add *drive*, or let it take the place of the one of its name, which is closed.

        Raises
        ------
        Conflict
            A store of the settings has that name.
        """
        if drive.name in self._fixed:
            raise Conflict(f"the store '{drive.name}' is no drive", remedy="Give the drive another name.")
        before = self._stores.get(drive.name)
        self._stores[drive.name] = drive
        if before is not None:
            await before.close()

    async def remove(self, name: StoreName) -> None:
        """Forget the drive called *name*. A repeat does nothing."""
        if name in self._stores and name not in self._fixed:
            await self._stores.pop(name).close()

    async def open_all(
        self, known: Mapping[StoreName, str], *, generation: int
    ) -> dict[StoreName, str | LibrarianError]:
        """Open every store of the settings at once; *known* holds the UUIDs of those that the catalog has seen.

        Returns
        -------
        The UUID of each store, or why it is unavailable; one that is does not keep the others.
        """

        async def open_one(store: Store) -> str | LibrarianError:
            try:
                return await store.open(expected_uuid=known.get(store.name), generation=generation)
            except LibrarianError as refusal:
                log.error("Cannot open store %s: %s", store.name, refusal, extra={"event": "store-unavailable"})
                return refusal

        stores = self.fixed()
        answers = await asyncio.gather(*(open_one(store) for store in stores))
        return {store.name: answer for store, answer in zip(stores, answers, strict=True)}

    async def probe(self) -> dict[StoreName, str | RestoredCatalog | None]:
        """Look at every store of the settings, and take back those whose problem is gone.

        Returns
        -------
        The problem of each store, None where all is well; RestoredCatalog where the store is ahead of the catalog.
        """

        async def probe_one(store: Store) -> str | RestoredCatalog | None:
            before = store.problem
            try:
                after = await store.probe()
            except RestoredCatalog as ahead:
                return ahead
            if before is None and after is not None:
                log.error("Lost store %s: %s", store.name, after, extra={"event": "store-lost"})
            elif before is not None and after is None:
                log.info("Took back store %s", store.name, extra={"event": "store-back"})
            return after

        stores = self.fixed()
        answers = await asyncio.gather(*(probe_one(store) for store in stores))
        return {store.name: answer for store, answer in zip(stores, answers, strict=True)}

    async def close(self) -> None:
        """Close every store."""
        for store in self:
            await store.close()
