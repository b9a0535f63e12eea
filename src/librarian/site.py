"""The one composition root: what a running site consists of, and how it is opened."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from librarian import replication
from librarian.auth import Doorkeeper
from librarian.bells import Bells, News
from librarian.card import Card
from librarian.catalog import migrations
from librarian.catalog.database import Catalog
from librarian.catalog.lock import owner_lock
from librarian.checksum_pool import ChecksumPool
from librarian.errors import ConfigurationError, DatabaseUnavailable
from librarian.health import Health
from librarian.keys import SigningKey
from librarian.meters import Meters
from librarian.names import SiteName, StoreName
from librarian.notifier import Notifier
from librarian.ownership import Ownership
from librarian.peers import Neighbours
from librarian.pulse import Pulses
from librarian.states import CARRYING, VerifiedFrom
from librarian.stores.base import Barrier, StoreSpec
from librarian.stores.drive import ABSENT, DriveStore, spec_of
from librarian.stores.local import LocalStore
from librarian.stores.registry import Stores
from librarian.timing import retry_delay
from librarian.transfers.globus import GlobusEngine
from librarian.transfers.globus_account import Account, Credentials
from librarian.transfers.globus_desk import Desk
from librarian.transfers.globus_places import Collection
from librarian.transfers.http import HttpEngine
from librarian.transfers.local import LocalEngine
from librarian.transfers.rsync import RsyncEngine
from librarian.transfers.rsync_run import Ssh
from librarian.writers import Writers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from librarian.catalog.records import Incoming
    from librarian.settings import GlobusSettings, Settings, StoreSettings
    from librarian.transfers.base import TransferEngine

log = logging.getLogger(__name__)


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
    card: Card
    engines: dict[str, TransferEngine]
    ownership: Ownership
    #: None where nobody is to be told.
    notifier: Notifier | None
    bells: Bells = field(default_factory=Bells)
    #: Of incoming transfers, by uuid, once their ends are written down.
    news: News[Incoming] = field(default_factory=News)
    pulses: Pulses = field(default_factory=Pulses)
    meters: Meters = field(default_factory=Meters)
    #: What we answer to while we use an invitation: its inviter calls back.
    knocks: set[str] = field(default_factory=set)
    writers: Writers = field(default_factory=Writers)


@asynccontextmanager
async def open_site(settings: Settings) -> AsyncIterator[Site]:
    """Become the owner of the site that *settings* describe, and give it.

    Opens in this order: lock, catalog (made when it is empty), generation, stores, workers, peers. Whatever was
    opened is closed again on any way out. Waits for a database that is away.

    Raises
    ------
    OwnedElsewhere
        Another process owns the catalog.
    ConfigurationError
        The catalog is older or newer than this program, or the settings do not fit this machine.
    DatabaseUnavailable
        The database stayed away for longer than ``limits.database_wait``.
    """
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    url, password = settings.database_url, settings.database_password
    async with AsyncExitStack() as stack:
        lock = owner_lock(url, password=password)
        stack.push_async_callback(lock.release)
        await _patiently(lock.take, settings)
        await _patiently(lambda: _ready_catalog(url, password), settings)
        catalog = await stack.enter_async_context(Catalog(url, password=password))
        stores = Stores(LocalStore(store_spec(store)) for store in settings.stores)
        stack.push_async_callback(stores.close)
        ownership = Ownership(catalog, lock, stores)
        await _patiently(lambda: ownership.begin(SiteName(settings.name)), settings)
        pool = await stack.enter_async_context(ChecksumPool(settings.limits.workers))
        neighbours = Neighbours(catalog=catalog, site=SiteName(settings.name), key_file=settings.key_file)
        stack.push_async_callback(neighbours.close)
        signing_key = neighbours.secrets.encrypt(SigningKey.mint())
        async with catalog.begin() as tx:
            # With the catalog, not when it is first needed: one from a backup would not know what it has signed since.
            await tx.site.keep_signing_key(signing_key)
            await replication.sync_rules(tx, settings.rules)
            drives = await tx.drives.all()
        for drive in drives:
            if drive.state in CARRYING:
                await stores.put(DriveStore(spec_of(drive.name, Path(drive.path)), rests_because=ABSENT))
        bells = Bells()
        site = Site(
            name=SiteName(settings.name),
            settings=settings,
            catalog=catalog,
            stores=stores,
            pool=pool,
            doorkeeper=Doorkeeper(catalog, trusted_proxies=settings.trusted_proxies),
            health=Health(),
            neighbours=neighbours,
            card=Card(catalog=catalog, stores=stores, settings=settings),
            engines=_engines(settings, neighbours, bells),
            ownership=ownership,
            notifier=None if settings.slack is None else Notifier(settings.slack),
            bells=bells,
        )
        for engine in site.engines.values():
            stack.push_async_callback(engine.close)
        yield site


def _engines(settings: Settings, neighbours: Neighbours, bells: Bells) -> dict[str, TransferEngine]:
    """Every way for bytes to travel to a peer, by name."""

    def has_changed() -> None:
        bells.ring("poll")

    engines: list[TransferEngine] = [
        HttpEngine(neighbours, on_change=has_changed),
        LocalEngine(on_change=has_changed),
    ]
    if settings.globus is not None:
        engines.append(_globus_engine(settings, settings.globus, has_changed))
    if settings.rsync is not None:
        ssh = Ssh(key_file=settings.rsync.key_file, known_hosts_file=settings.rsync.known_hosts_file)
        engines.append(RsyncEngine(ssh, folder=settings.state / "rsync", on_change=has_changed))
    return {engine.name: engine for engine in engines}


def globus_desk(known: GlobusSettings) -> Desk:
    """Where Globus is asked, as who we are there."""
    return Desk(
        Account(
            Credentials(
                client_id=str(known.client_id),
                client_secret_file=known.client_secret_file,
                refresh_token_file=known.refresh_token_file,
            )
        )
    )


def _globus_engine(settings: Settings, known: GlobusSettings, has_changed: Callable[[], None]) -> GlobusEngine:
    collections = [
        Collection(
            store=StoreName(store.name),
            collection=str(store.globus.collection),
            root=PurePosixPath(store.globus.root),
            folder=store.root,
        )
        for store in settings.stores
        if store.globus is not None
    ]
    return GlobusEngine(globus_desk(known), site=settings.name, collections=collections, on_change=has_changed)


def store_spec(store: StoreSettings) -> StoreSpec:
    """A store as it is configured, for ``stores``."""
    return StoreSpec(
        name=StoreName(store.name),
        root=store.root,
        staging=store.staging,
        limit_bytes=store.limit,
        barrier=Barrier(store.barrier),
        staging_mode=None if store.staging_mode is None else int(store.staging_mode, 8),
        staging_group=store.staging_group,
        takes_foreign_writes=store.takes_foreign_writes,
        verify_from=VerifiedFrom(store.verify_from),
        answer_timeout=store.answer_timeout,
    )


async def _patiently(step: Callable[[], Awaitable[object]], settings: Settings) -> None:
    """Take a step of the start; while the database is away, wait for it, and take the step again."""
    wait = settings.limits.database_wait
    gives_up_at = None if wait is None else time.monotonic() + wait.total_seconds()
    attempts = 0
    while True:
        try:
            await step()
            return
        except DatabaseUnavailable as error:
            if gives_up_at is not None and time.monotonic() >= gives_up_at:
                raise
            attempts += 1
            pause = retry_delay(attempts).total_seconds()
            log.warning("Waiting for the catalog's database: %s", error, extra={"event": "database-away"})
            await asyncio.sleep(min(pause, 5.0))


async def _ready_catalog(url: str, password: str | None) -> None:
    at = await migrations.current(url, password=password)
    if at is None:
        await migrations.upgrade(url, password=password)
        log.info("Made an empty catalog at revision %s", migrations.head())
        return
    await migrations.refuse_newer(url, password=password)
    if at != migrations.head():
        raise ConfigurationError(
            f"the catalog is at revision {at}, this librarian works with {migrations.head()}",
            remedy="Back it up, then run 'python -m librarian.admin database migrate'.",
        )
