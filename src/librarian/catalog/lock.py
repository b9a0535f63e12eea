"""The lock that makes one process the owner of a catalog."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

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
        """Raise DatabaseUnavailable or OwnedElsewhere unless the lock is certainly still held."""

    @abstractmethod
    async def release(self) -> None:
        """Give it up. A repeat does nothing."""


def owner_lock(url: str, *, password: str | None = None) -> OwnerLock:
    """The lock for the catalog at *url*."""
    if url.startswith("sqlite"):
        return FileLock(Path(url.partition(":///")[2]))
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
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 4096, 0).decode("utf-8", "replace")
            os.close(descriptor)
            raise _held_by(_describe(holder)) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(_self_description()).encode(), 0)
        self._held = descriptor

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
        """See ``OwnerLock.take``."""
        with translated():
            connection = await self._engine.connect()
            try:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                # The connection sits idle for its whole life, and tells who we are.
                await connection.execute(
                    text("SELECT set_config('application_name', :me, false)"), {"me": _application_name()}
                )
                if await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ADVISORY_KEY}):
                    self._connection = connection
                    return
                holder = await connection.scalar(
                    text(
                        "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                        " WHERE l.locktype = 'advisory' AND l.granted AND l.database ="
                        " (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.objsubid = 1"
                    )
                )
            finally:
                if self._connection is None:
                    await connection.close()
            raise _held_by(str(holder or "an unknown process"))

    async def confirm(self) -> None:
        """See ``OwnerLock.confirm``: the lock lives as long as this connection does."""
        if self._connection is None:
            raise DatabaseUnavailable("the connection that holds the catalog is gone")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                with translated():
                    await self._connection.execute(text("SELECT 1"))
        except TimeoutError as error:
            raise DatabaseUnavailable(f"no answer from the catalog's database in {ANSWER_SECONDS} s") from error

    async def release(self) -> None:
        """See ``OwnerLock.release``."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        await self._engine.dispose()


def boot_id() -> str:
    """Tells this boot of this machine from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def file_system_of(folder: Path) -> str:
    """The type of the file system that *folder* is on, as the kernel names it."""
    best, kind = "", ""
    here = str(folder.resolve())
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, source = line.partition(" - ")
        point = fields.split()[4].encode().decode("unicode_escape")
        inside = here == point or here.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, source.split()[0]
    return kind


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
