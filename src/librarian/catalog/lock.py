"""The lock that makes one process the owner of a catalog."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from librarian import mounts
from librarian.catalog.database import make_engine, translated
from librarian.errors import ConfigurationError, DatabaseUnavailable, OwnedElsewhere

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

#: Any number will do, as long as it is always the same; these are the letters "libraria".
_ADVISORY_KEY: Final = 0x6C69627261726961
#: Locks of these file systems are not held by the kernel alone: a second host, or a lost server, breaks them.
NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "lustre", "gpfs", "cifs", "smb3", "smbfs", "afs", "ceph", "beegfs", "9p", "fuse.sshfs"}
)
ANSWER_SECONDS: Final = 5.0
#: It answers, and will not have us: waiting does not help.
_REFUSED: Final = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
_TRIES: Final = 10
_TRY_SECONDS: Final = 0.1
_KEEPALIVES: Final = (
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
)
_SET: Final = text("SELECT set_config(:key, :value, false)")
_HOLDER: Final = text(
    "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.database ="
    " (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND l.objsubid = 1 AND (l.classid::int8 << 32) | l.objid::int8 = :key"
)


class OwnerLock(ABC):
    """Held by at most one process at a time."""

    @abstractmethod
    async def take(self) -> None:
        """Become the owner.

        Raises
        ------
        OwnedElsewhere
            Another process is; the message names it.
        DatabaseUnavailable
        """

    @abstractmethod
    async def confirm(self) -> None:
        """Raise DatabaseUnavailable or OwnedElsewhere unless the lock is certainly held.

        A lock that was lost is taken again where it is free. After a refusal, whoever relies on having been the
        owner all along compares the catalog's generation.
        """

    @abstractmethod
    async def release(self) -> None:
        """Give it up. A repeat does nothing."""


def owner_lock(url: str, *, password: str | None = None) -> OwnerLock:
    """The lock for the catalog at *url*."""
    if url.startswith("sqlite"):
        # Through whichever link it is named, one catalog has one lock.
        return FileLock(Path(url.partition(":///")[2]).resolve())
    return AdvisoryLock(url, password=password)


class FileLock(OwnerLock):
    """A file beside SQLite's, locked as long as the process lives; it tells who holds it."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".owner")
        self._held: int | None = None

    async def take(self) -> None:
        """See ``OwnerLock.take``; refuses file systems on which such a lock proves nothing."""
        kind = file_system_of(self._path.parent)
        if kind in NETWORK_FILE_SYSTEMS:
            raise ConfigurationError(
                f"{self._path.parent} is on {kind}, where SQLite's locks cannot be trusted",
                remedy="Put 'state' on a local disk, or use PostgreSQL.",
            )
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            await self._lock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(_self_description()).encode(), 0)
        self._held = descriptor

    async def _lock(self, descriptor: int) -> None:
        for tries_left in reversed(range(_TRIES)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if not tries_left:
                    raise _held_by(_describe(os.pread(descriptor, 4096, 0).decode("utf-8", "replace"))) from error
                # A command that works without a server holds it for a moment.
                await asyncio.sleep(_TRY_SECONDS)
            else:
                return

    async def confirm(self) -> None:
        """See ``OwnerLock.confirm``: the kernel holds it for us, unless the file was replaced."""
        if self._held is None:
            raise OwnedElsewhere("this process does not hold its catalog", remedy="Start it again.")
        try:
            there = self._path.stat()
        except OSError as error:
            raise DatabaseUnavailable(f"cannot see {self._path}: {error.strerror}") from error
        if there.st_ino != os.fstat(self._held).st_ino:
            raise OwnedElsewhere(f"{self._path} was replaced by somebody", remedy="Find who did, and stop it.")

    async def release(self) -> None:
        """See ``OwnerLock.release``. The file stays: removing it would let two processes lock two files."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


class AdvisoryLock(OwnerLock):
    """PostgreSQL's advisory lock, held by a connection of its own."""

    def __init__(self, url: str, *, password: str | None) -> None:
        self._engine: AsyncEngine = make_engine(url, password=password)
        self._connection: AsyncConnection | None = None

    async def take(self) -> None:
        """See ``OwnerLock.take``; ConfigurationError: the database exists not, or refuses our credentials."""
        holder = ""
        for _ in range(_TRIES):
            holder = await self._try()
            if not holder:
                return
            if holder == _application_name():
                # We started anew after losing sight of the database, which has yet to notice that.
                raise DatabaseUnavailable("the database still keeps the lock for a former connection of this process")
            # A process that was killed a moment ago holds it until the database reads the end of its connection.
            await asyncio.sleep(_TRY_SECONDS)
        raise _held_by(holder)

    async def _try(self) -> str:
        """Try to take the lock; returns who holds it instead, empty when we do."""
        with translated():
            connection = await self._connect()
            try:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                # The connection sits idle for its whole life, and tells who we are; one whose other end is gone
                # without a word is given up within half a minute, instead of hours.
                for key, value in (("application_name", _application_name()), *_KEEPALIVES):
                    await connection.execute(_SET, {"key": key, "value": value})
                if await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ADVISORY_KEY}):
                    self._connection = connection
                    return ""
                return str(await connection.scalar(_HOLDER, {"key": _ADVISORY_KEY}) or "an unknown process")
            finally:
                if self._connection is None:
                    # Not back to the pool: the next try needs an answer from the database as it is then.
                    await connection.invalidate()
                    await connection.close()

    async def _connect(self) -> AsyncConnection:
        try:
            return await self._engine.connect()
        except DBAPIError as error:
            refusal = error.orig.__cause__ if error.orig is not None else None
            if not isinstance(refusal, _REFUSED):
                raise
            raise ConfigurationError(
                f"the database refuses us: {refusal}",
                remedy="Correct 'database' and 'database_password_file'; create the database and its user.",
            ) from error

    async def confirm(self) -> None:
        """See ``OwnerLock.confirm``: the lock lives as long as this connection does."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if self._connection is None:
                    await self.take()
                    return
                with translated():
                    await self._connection.execute(text("SELECT 1"))
        except DatabaseUnavailable:
            await self._drop()
            raise
        except ConfigurationError as error:
            # At work it is no mistake in the settings: a password that was changed is read anew at the next start.
            raise DatabaseUnavailable(error.message, remedy=error.remedy) from error
        except TimeoutError as error:
            await self._drop()
            raise DatabaseUnavailable(f"no answer from the catalog's database in {ANSWER_SECONDS:g} s") from error

    async def _drop(self) -> None:
        """Let go of a connection that is of no use; SQLAlchemy would silently make another, without the lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await connection.invalidate()
                await connection.close()

    async def release(self) -> None:
        """See ``OwnerLock.release``."""
        await self._drop()
        await self._engine.dispose()


def boot_id() -> str:
    """Tells this boot of this machine from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def file_system_of(folder: Path) -> str:
    """The type of the file system that *folder* is on, as the kernel names it; empty where it does not tell."""
    mount = mounts.mount_of(folder)
    return "" if mount is None else mount.filesystem


def _self_description() -> dict[str, str | int]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "boot": boot_id()}


def _application_name() -> str:
    # PostgreSQL keeps 63 bytes.
    return f"librarian {socket.gethostname()[:40]} pid {os.getpid()}"


def _describe(holder: str) -> str:
    try:
        told = json.loads(holder)
        return f"host {told['host']}, pid {told['pid']}"
    except (ValueError, KeyError, TypeError):
        return "an unknown process"


def _held_by(holder: str) -> OwnedElsewhere:
    return OwnedElsewhere(
        f"this catalog is owned by {holder}",
        remedy="Stop that process first; to reach its site from here, use --url.",
        details={"holder": holder},
    )
