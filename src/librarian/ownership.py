"""Ownership: one process per catalog, told from every earlier one by its generation; and knowing a restored backup.

The generation is committed in the catalog first and stamped into every writable store afterwards. A store that is
ahead of its catalog therefore proves that the catalog was restored from a backup: from then on a new epoch is
spoken to peers, and no byte is removed until an operator has acknowledged it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from librarian.catalog.records import Happening
from librarian.errors import DatabaseUnavailable, LibrarianError, OwnedElsewhere, RestoredCatalog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.database import Catalog
    from librarian.catalog.lock import OwnerLock
    from librarian.catalog.records import SiteRecord
    from librarian.names import SiteName, StoreName
    from librarian.stores.base import Store
    from librarian.stores.registry import Stores

log = logging.getLogger(__name__)

#: How often the lock is confirmed, and for how long it may stay unconfirmed, in seconds.
CONFIRM_SECONDS: Final = 3.0
UNCONFIRMED_SECONDS: Final = 15.0
#: How often the generation grows while the process lives, in seconds.
GENERATION_SECONDS: Final = 3600.0
#: The cause of the alert about a restored backup.
RESTORED: Final = "site:restored"


class Ownership:
    """The process as the owner of its catalog and stores."""

    def __init__(self, catalog: Catalog, lock: OwnerLock, stores: Stores) -> None:
        self._catalog = catalog
        self._lock = lock
        self._stores = stores

    async def begin(self, name: SiteName) -> SiteRecord:
        """Count this start, open every store, and stamp the generation into those that can be written.

        Raises
        ------
        OwnedElsewhere
            The catalog belongs to a site of another name.
        DatabaseUnavailable
        """
        async with self._catalog.begin() as tx:
            site = await tx.site.find() or await tx.site.found(name)
            if site.name != name:
                raise OwnedElsewhere(
                    f"this catalog belongs to the site '{site.name}', not to '{name}'",
                    remedy="Correct 'name' or 'database' in the settings; a site keeps its name.",
                )
            generation = await tx.site.next_generation()
        self._catalog.generations = (generation,)
        await self._open_stores(generation)
        async with self._catalog.read() as tx:
            return await tx.site.get()

    async def step(self) -> int:
        """Let the generation grow by one, and stamp it. A repeat grows it again, which is harmless."""
        before = self._catalog.generations[-1]
        # Writes that begin while we step may see either.
        self._catalog.generations = (before, before + 1)
        async with self._catalog.begin() as tx:
            generation = await tx.site.next_generation()
        self._catalog.generations = (generation,)
        await self._stamp(self._stores.writable(), generation)
        return generation

    async def watch(self) -> None:
        """Confirm the lock for ever, and step hourly.

        Raises
        ------
        OwnedElsewhere
            The lock is lost, or could not be confirmed for too long: this process must stop writing at once.
        """
        confirmed_at = stepped_at = time.monotonic()
        while True:
            await asyncio.sleep(CONFIRM_SECONDS)
            try:
                await self._lock.confirm()
                confirmed_at = time.monotonic()
                if confirmed_at - stepped_at >= GENERATION_SECONDS:
                    await self.step()
                    stepped_at = confirmed_at
            except DatabaseUnavailable as error:
                silent = time.monotonic() - confirmed_at
                log.warning("Cannot confirm that this process owns its catalog: %s", error)
                if silent >= UNCONFIRMED_SECONDS:
                    raise OwnedElsewhere(
                        f"ownership could not be confirmed for {silent:.0f} s",
                        remedy="The process starts anew and waits for its database.",
                    ) from error

    async def _open_stores(self, generation: int) -> None:
        known = await self._known()
        answers = await self._stores.open_all(known, generation=generation)
        ahead = [answer for answer in answers.values() if isinstance(answer, RestoredCatalog)]
        if ahead:
            generation = await self._note_restored(ahead)
            answers = await self._stores.open_all(known, generation=generation)
        new = [
            (store, answer)
            for store in self._stores
            if isinstance(answer := answers[store.name], str) and store.name not in known
        ]
        if new:
            async with self._catalog.begin() as tx:
                for store, uuid in new:
                    await tx.stores.register(store.name, uuid=uuid, kind="local")
                await tx.events.tell(
                    [Happening(subject=f"store:{store.name}", what="registered", who="site") for store, _ in new]
                )
        await self._stamp(self._stores.writable(), generation)

    async def _known(self) -> dict[StoreName, str]:
        async with self._catalog.read() as tx:
            return {store.name: store.uuid for store in await tx.stores.all()}

    async def _note_restored(self, ahead: Sequence[RestoredCatalog]) -> int:
        seen = [seen for error in ahead if isinstance(seen := error.details.get("store_generation"), int)]
        why = "; ".join(error.message for error in ahead)
        log.error("This catalog was restored from a backup: %s", why, extra={"event": "restored"})
        # The catalog's own number is behind, so that the check of writes must not stop us from catching up.
        self._catalog.generations = ()
        async with self._catalog.begin() as tx:
            await tx.site.mark_restored(why, at_least=max(seen, default=0))
            generation = await tx.site.next_generation()
            await tx.events.tell([Happening(subject="site", what="found to be a restored backup", who="site", why=why)])
            await tx.alerts.raise_alert(
                RESTORED,
                message=f"This catalog was restored from a backup: {why}. No bytes are removed for now.",
                remedy="Check that this is meant, then run 'python -m librarian.admin restored acknowledge'.",
            )
        self._catalog.generations = (generation,)
        return generation

    async def _stamp(self, stores: Sequence[Store], generation: int) -> None:
        for store in stores:
            try:
                await store.stamp(generation)
            except LibrarianError as error:
                # A store that cannot be stamped is behind its catalog, which is the harmless direction.
                log.warning("Cannot stamp store %s: %s", store.name, error)
