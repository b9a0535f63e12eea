"""Stores: the stores of a site, by name."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from librarian.errors import LibrarianError, NotFound, RestoredCatalog

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from librarian.names import StoreName
    from librarian.stores.base import Store

log = logging.getLogger(__name__)


class Stores:
    """The stores of a site, in the order of the settings."""

    def __init__(self, stores: Iterable[Store]) -> None:
        self._stores: dict[str, Store] = {store.name: store for store in stores}

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
        """The stores without a problem, in the order of the settings."""
        return tuple(store for store in self if store.problem is None)

    async def open_all(
        self, known: Mapping[StoreName, str], *, generation: int
    ) -> dict[StoreName, str | LibrarianError]:
        """Open every store at once; *known* holds the UUIDs of those that the catalog has seen.

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

        answers = await asyncio.gather(*(open_one(store) for store in self))
        return {store.name: answer for store, answer in zip(self, answers, strict=True)}

    async def probe(self) -> dict[StoreName, str | RestoredCatalog | None]:
        """Look at every store, and take back those whose problem is gone.

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

        answers = await asyncio.gather(*(probe_one(store) for store in self))
        return {store.name: answer for store, answer in zip(self, answers, strict=True)}

    async def close(self) -> None:
        """Close every store."""
        for store in self:
            await store.close()
