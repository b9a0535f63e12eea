"""Transactions over SQLite or PostgreSQL: ``async with catalog.begin() as tx`` is the only way to the database."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, Self, cast

import asyncpg
from sqlalchemy import event, make_url
from sqlalchemy.exc import DBAPIError, PendingRollbackError, ResourceClosedError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import create_async_engine

from librarian.catalog.sqlite_driver import NotTheOwner, OneTripDriver, heed_later
from librarian.catalog.transaction import Transaction
from librarian.errors import CatalogDamaged, DatabaseUnavailable, OwnedElsewhere
from librarian.guard import transaction_open

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType

    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

    from librarian.catalog.sqlite_driver import OneTripConnection

#: Reads and writes that wait longer than this for a lock or an answer are given up, in milliseconds.
STATEMENT_MS: Final = 60_000
LOCK_MS: Final = 20_000
IDLE_IN_TRANSACTION_MS: Final = 30_000


#: What says nothing about the statement, only that the database cannot serve it now.
_AWAY: Final = (
    asyncpg.PostgresConnectionError,
    # It is stopped, starting, or gave up a statement that took too long.
    asyncpg.exceptions.OperatorInterventionError,
    # Its disk, memory or connections are used up.
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    # Two transactions were in each other's way, and it chose ours.
    asyncpg.exceptions.TransactionRollbackError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    # It became a standby while we were connected.
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    # A password that was changed under a running site.
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InterfaceError,
    # Of SQLAlchemy: every connection is in use, or died in the middle of a transaction.
    PoolTimeout,
    PendingRollbackError,
    ResourceClosedError,
    OSError,
    TimeoutError,
)


#: What says that the database's own files are broken: no repeat helps.
_DAMAGED: Final = (asyncpg.DataCorruptedError, asyncpg.IndexCorruptedError)
_DAMAGED_SQLITE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

#: Any number does, as long as nobody else uses it: openings of names queue behind it on PostgreSQL.
NAMES_LOCK: Final = 0x6C69_6272_6E61_6D65

#: Whose catalog it is: asked in every transaction that may write.
_GENERATION: Final = "SELECT generation FROM site WHERE id = 1"
#: The same, and the lock on names: what follows sees what the holder before has committed.
_GENERATION_LOCKING: Final = f"SELECT ({_GENERATION}), pg_advisory_xact_lock({NAMES_LOCK})"


def _prepare_sqlite(dbapi: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # The driver's own mode begins transactions late and loses updates silently; we say BEGIN ourselves.
    dbapi.isolation_level = None
    cursor = dbapi.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={LOCK_MS}",
        "cache_size=-16000",
        "temp_store=MEMORY",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    driver = cast("OneTripConnection", connection.connection.dbapi_connection)
    driver.begin(reads_only=bool(options.get("reads_only")), is_ours=options.get("is_ours"))


def make_engine(url: str, *, password: str | None = None) -> AsyncEngine:
    """An engine with our isolation, durability and timeouts, for ``sqlite+aiosqlite`` or ``postgresql+asyncpg``."""
    parsed = make_url(url)
    if password is not None:
        parsed = parsed.set(password=password)
    if parsed.get_backend_name() == "sqlite":
        engine = create_async_engine(parsed, module=OneTripDriver(), pool_size=6, max_overflow=0)
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        heed_later(engine)
        return engine
    return create_async_engine(
        parsed,
        pool_size=8,
        max_overflow=0,
        pool_timeout=20,
        pool_pre_ping=False,
        connect_args={
            "timeout": 10,
            "server_settings": {
                "application_name": "librarian",
                "statement_timeout": str(STATEMENT_MS),
                "lock_timeout": str(LOCK_MS),
                "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
                "jit": "off",
                # What is asked is a small part of what is there, and in memory or on a solid disk: with the default
                # of 4, the whole of a table is read for what an index finds in a fraction of the time.
                "random_page_cost": "1.1",
            },
        },
    )


def translate(error: BaseException) -> Exception:
    """The one place where a driver's exception becomes ours; anything that is not about reach is given back."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _DAMAGED) or _is_damaged_sqlite(cause):
            return CatalogDamaged(
                f"the catalog's database is damaged: {_first_line(cause)}",
                remedy="Stop the server, keep the database as it is, and restore a backup.",
            )
        if isinstance(cause, _AWAY):
            return _away(error)
        if isinstance(cause, NotTheOwner):
            return OwnedElsewhere(str(cause), remedy="Another librarian owns this catalog; this one stops writing.")
        if isinstance(cause, sqlite3.OperationalError) and any(
            word in str(cause) for word in ("locked", "disk", "open", "readonly", "full")
        ):
            return _away(error)
        cause = cause.__cause__ or (cause.orig if isinstance(cause, DBAPIError) else None)
    return error if isinstance(error, Exception) else _away(error)


@contextmanager
def translated() -> Iterator[None]:
    """Raise what a driver raises inside as ours; see ``translate``."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise translate(error) from error


def _is_damaged_sqlite(error: BaseException) -> bool:
    # The low byte is the kind, the others tell more of it.
    return isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED_SQLITE


def _away(error: BaseException) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"the catalog's database does not answer: {_first_line(error)}",
        remedy="Check that the database runs and has room; the request may be repeated.",
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


class Catalog:
    """What we know. One per process; open it with ``async with``."""

    def __init__(self, url: str, *, password: str | None = None) -> None:
        self._engine = make_engine(url, password=password)
        self.url = url
        self.dialect = self._engine.dialect.name
        self._writers = asyncio.Lock() if self.dialect == "sqlite" else None
        #: Set by the owner: every write checks that nobody started after us. While the owner itself steps on,
        #: the generations before and after are both its own.
        self.generations: tuple[int, ...] = ()
        #: Statements executed so far, for benchmarks and tests.
        self.statements = 0
        event.listen(self._engine.sync_engine, "before_cursor_execute", self._count)

    def _count(self, *_: object) -> None:
        self.statements += 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection. A repeat does nothing."""
        await self._engine.dispose()

    @asynccontextmanager
    async def begin(self, *, opens_names: bool = False) -> AsyncIterator[Transaction]:
        """A transaction that may write: committed at the end, rolled back on any exception.

        One that *opens_names* queues behind every other that does: two could each find the other's ancestor free and
        both insert, which no index forbids. SQLite has one writer and needs no lock.

        Raises
        ------
        DatabaseUnavailable
            The database does not answer; nothing was changed as far as we know (a commit whose answer was lost
            may have happened: every record step can be repeated).
        OwnedElsewhere
            Another process has taken this catalog over since we started.
        """
        if self._writers is None:
            async with self._transaction(reads_only=False, opens_names=opens_names) as tx:
                yield tx
            return
        # SQLite has one writer; queueing here is fair and costs no busy waiting.
        async with self._writers, self._transaction(reads_only=False) as tx:
            yield tx

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        """A transaction that only reads; on SQLite it neither waits for the writer nor hinders it."""
        async with self._transaction(reads_only=True) as tx:
            yield tx

    @asynccontextmanager
    async def _transaction(self, *, reads_only: bool, opens_names: bool = False) -> AsyncIterator[Transaction]:
        with translated():
            connection = await self._engine.connect()
            try:
                await self._prepare(connection, reads_only=reads_only)
                async with connection.begin():
                    with transaction_open():
                        if not reads_only and (self.generations or opens_names):
                            await self._confirm_owner(connection, opens_names=opens_names)
                        yield Transaction(connection, self.dialect)
            finally:
                # A connection that is not given back is lost to the pool, so not even cancellation stops this.
                await asyncio.shield(connection.close())

    async def _prepare(self, connection: AsyncConnection, *, reads_only: bool) -> None:
        if self.dialect == "sqlite":
            is_ours = self._is_ours if self.generations and not reads_only else None
            await connection.execution_options(reads_only=reads_only, is_ours=is_ours)
        elif reads_only:
            await connection.execution_options(postgresql_readonly=True)

    def _is_ours(self, generation: int) -> bool:
        return generation in self.generations

    async def _confirm_owner(self, connection: AsyncConnection, *, opens_names: bool) -> None:
        if self.dialect == "sqlite":
            # Asked with the first statement, in the same trip.
            return
        before = self.generations
        current = (await connection.exec_driver_sql(_GENERATION_LOCKING if opens_names else _GENERATION)).scalar()
        # The owner may have stepped on while we asked: what was its own before or after is its own.
        if before and current not in before and current not in self.generations:
            raise OwnedElsewhere(
                f"this process started as generation {self.generations[-1]}, the catalog is now at {current}",
                remedy="Another librarian owns this catalog; this one stops writing.",
            )
