"""Ownership: one process per catalog, told from every earlier one by its generation; and knowing a restored backup.

The generation is committed in the catalog first and stamped into every writable store afterwards. A store that is
ahead of its catalog, as this was found, therefore proves that the catalog was restored from a backup: from then on a
new epoch is spoken to peers, and no byte is removed until an operator has acknowledged it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from librarian import replication
from librarian.catalog.records import Happening
from librarian.errors import ConfigurationError, DatabaseUnavailable, LibrarianError, OwnedElsewhere, RestoredCatalog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from librarian.catalog.database import Catalog
    from librarian.catalog.lock import OwnerLock
    from librarian.catalog.records import SiteRecord
    from librarian.catalog.transaction import Transaction
    from librarian.names import SiteName, StoreName
    from librarian.stores.base import Store
    from librarian.stores.registry import Stores

log = logging.getLogger(__name__)

#: How often the lock is confirmed, and for how long it may stay unconfirmed, in seconds.
CONFIRM_SECONDS: Final = 3.0
UNCONFIRMED_SECONDS: Final = 15.0
#: How often the generation grows while the process lives, in seconds.
GENERATION_SECONDS: Final = 3600.0
#: By how much: a start counts one, so that a step whose fate is unknown is never taken for another's start.
STEP: Final = 2
#: The cause of the alert about a restored backup.
RESTORED: Final = "site:restored"


async def mark_restored(tx: Transaction, why: str, *, at_least: int = 0, beyond_epoch: int = 0) -> None:
    """Note that the catalog is older than what it describes, and tell people; see ``SiteIdentity.mark_restored``."""
    log.error("This catalog was restored from a backup: %s", why, extra={"event": "restored"})
    await tx.site.mark_restored(why, at_least=at_least, beyond_epoch=beyond_epoch)
    await tx.events.tell([Happening(subject="site", what="found to be a restored backup", who="site", why=why)])
    await tx.alerts.raise_alert(
        RESTORED,
        message=f"This catalog was restored from a backup: {why}. No bytes are removed for now.",
        remedy="Check that this is meant, then run 'python -m librarian.admin restored acknowledge'.",
    )


class Ownership:
    """The process as the owner of its catalog and stores."""

    def __init__(
        self,
        catalog: Catalog,
        lock: OwnerLock,
        stores: Stores,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._catalog = catalog
        self._lock = lock
        self._stores = stores
        self._clock = clock
        self._sleep = sleep
        #: The latest generation that is certainly committed: no store may bear a later one.
        self._committed = 0
        #: The stores that are registered and bear the present generation, as far as we know.
        self._settled: set[StoreName] = set()

    async def begin(self, name: SiteName) -> SiteRecord:
        """Count this start, open every store, and stamp the generation into those that can be written.

        A repeat counts another start, which is harmless.

        Raises
        ------
        OwnedElsewhere
            The catalog belongs to a site of another name, or to another process since the lock was taken.
        ConfigurationError
            A store was given another name.
        DatabaseUnavailable
        """
        # The database may have been away since the lock was taken.
        await self._lock.confirm()
        # And the answer to an earlier try may have been lost: whatever the catalog is at, it is ours.
        self._catalog.generations = ()
        async with self._catalog.begin() as tx:
            site = await tx.site.find() or await tx.site.found(name)
            if site.name != name:
                raise OwnedElsewhere(
                    f"this catalog belongs to the site '{site.name}', not to '{name}'",
                    remedy="Correct 'name' or 'database' in the settings; a site keeps its name.",
                )
            generation = await tx.site.next_generation()
        self._note_committed(generation)
        # Compared with the catalog as it was found: this very start could hide that it is older by one.
        answers = await self._stores.open_all(await self._known(), generation=site.generation)
        await self.settle({store: None if isinstance(answer, str) else answer for store, answer in answers.items()})
        async with self._catalog.read() as tx:
            return await tx.site.get()

    async def step(self) -> int:
        """Let the generation grow, and stamp it. A repeat grows it again, which is harmless."""
        generation = await self._grow()
        await self._stamp(self._stores.writable())
        return generation

    async def _grow(self) -> int:
        before = self._catalog.generations
        # Writes that begin while we step may see either; and where the answer to an earlier step was lost, nobody
        # knows which of the two the catalog is at.
        self._catalog.generations = (*before, before[-1] + STEP)
        async with self._catalog.begin() as tx:
            generation = await tx.site.next_generation(by=STEP)
        self._note_committed(generation)
        return generation

    def _note_committed(self, generation: int) -> None:
        self._catalog.generations = (generation,)
        self._committed = generation
        self._settled.clear()

    async def settle(self, answers: Mapping[StoreName, str | LibrarianError | None]) -> None:
        """Do what the state of the stores asks for: *answers* holds the problem of each, None where all is well.

        A store ahead of the catalog shows that this was restored; a store seen for the first time is registered;
        one that came back is stamped with the present generation. A repeat finds nothing left to do.

        Raises
        ------
        DatabaseUnavailable
        """
        self._settled.difference_update(store for store, answer in answers.items() if answer is not None)
        ahead = [answer for answer in answers.values() if isinstance(answer, RestoredCatalog)]
        if ahead:
            generation = await self._note_restored(ahead)
            await self._stores.open_all(await self._known(), generation=generation)
        fresh = [store for store in self._stores.writable() if store.name not in self._settled]
        if fresh:
            await self._register(fresh)
            await self._stamp(fresh)

    async def watch(self) -> None:
        """Confirm the lock for ever, and step hourly.

        Raises
        ------
        OwnedElsewhere
            The lock is lost, or could not be confirmed for too long: this process must stop writing at once.
        """
        confirmed_at = stepped_at = self._clock()
        has_failed = False
        while True:
            await self._sleep(CONFIRM_SECONDS)
            try:
                # A database may fall silent in the middle of anything.
                async with asyncio.timeout(UNCONFIRMED_SECONDS):
                    await self._lock.confirm()
                    if has_failed:
                        # The lock may have been another's meanwhile: then the catalog is beyond us, and this refuses.
                        async with self._catalog.begin():
                            pass
                    has_failed = False
                    confirmed_at = self._clock()
                    if confirmed_at - stepped_at >= GENERATION_SECONDS:
                        # Stamped when the stores are looked at next: one that hangs must not keep us from the lock.
                        await self._grow()
                        stepped_at = confirmed_at
            except (DatabaseUnavailable, TimeoutError) as error:
                has_failed = True
                self._refuse_silence(self._clock() - confirmed_at, error)

    def _refuse_silence(self, silent: float, error: Exception) -> None:
        log.warning("Cannot confirm that this process owns its catalog: %s", str(error) or "no answer")
        if silent >= UNCONFIRMED_SECONDS:
            raise OwnedElsewhere(
                f"ownership could not be confirmed for {silent:.0f} s",
                remedy="The process starts anew and waits for its database.",
            ) from error

    async def _known(self) -> dict[StoreName, str]:
        async with self._catalog.read() as tx:
            return {store.name: store.uuid for store in await tx.stores.all()}

    async def _register(self, stores: Sequence[Store]) -> None:
        known = await self._known()
        new = [store for store in stores if store.name not in known]
        if not new:
            return
        # Opening it again is how a store tells its UUID.
        uuids = [await store.open(expected_uuid=None, generation=self._committed) for store in new]
        names = {uuid: name for name, uuid in known.items()}
        for store, uuid in zip(new, uuids, strict=True):
            if uuid in names:
                raise ConfigurationError(
                    f"the store '{store.name}' is known to this catalog as '{names[uuid]}'",
                    remedy="A store keeps its name: correct it in the settings.",
                )
        async with self._catalog.begin() as tx:
            for store, uuid in zip(new, uuids, strict=True):
                await tx.stores.register(store.name, uuid=uuid, kind="local")
                await replication.store_appeared(tx, store.name)
            await tx.events.tell(
                [Happening(subject=f"store:{store.name}", what="registered", who="site") for store in new]
            )

    async def _note_restored(self, ahead: Sequence[RestoredCatalog]) -> int:
        seen = max((n for error in ahead if isinstance(n := error.details.get("store_generation"), int)), default=0)
        why = "; ".join(error.message for error in ahead)
        before = self._catalog.generations
        self._catalog.generations = (*before, max(before[-1], seen) + 1)
        async with self._catalog.begin() as tx:
            await mark_restored(tx, why, at_least=seen)
            generation = await tx.site.next_generation()
        self._note_committed(generation)
        return generation

    async def _stamp(self, stores: Sequence[Store]) -> None:
        generation = self._committed

        async def stamp(store: Store) -> None:
            try:
                await store.stamp(generation)
                if generation == self._committed:
                    self._settled.add(store.name)
            except LibrarianError as error:
                # A store that cannot be stamped is behind its catalog, which is the harmless direction.
                log.warning("Cannot stamp store %s: %s", store.name, error)

        # All at once: one that hangs keeps no other from bearing the generation.
        await asyncio.gather(*(stamp(store) for store in stores))
