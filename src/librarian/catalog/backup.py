"""Backups of the catalog, and whether one (or the catalog itself) is sound."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from sqlalchemy import make_url, text

from librarian.catalog import migrations
from librarian.catalog.database import make_engine, translate, translated
from librarian.errors import BadRequest, CatalogDamaged, Conflict, DatabaseUnavailable, NotFound
from librarian.guard import forbid_io_in_transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How the two kinds of backup begin.
_SQLITE_MAGIC: Final = b"SQLite format 3\x00"
_DUMP_MAGIC: Final = b"PGDMP"
_REVISION: Final = "SELECT version_num FROM alembic_version"
#: Questions whose answer must be zero.
_INVARIANTS: Final = {
    "copies of files that the catalog does not know": (
        "SELECT count(*) FROM instances i LEFT JOIN files f ON f.id = i.file_id WHERE f.id IS NULL"
    ),
    "files that no copy was ever recorded for": (
        "SELECT count(*) FROM files f WHERE NOT EXISTS (SELECT 1 FROM instances i WHERE i.file_id = f.id)"
        " AND NOT EXISTS (SELECT 1 FROM remote_instances r WHERE r.file_id = f.id)"
    ),
    "books without a member listing": (
        "SELECT count(*) FROM files f WHERE f.kind = 'book'"
        " AND NOT EXISTS (SELECT 1 FROM members m WHERE m.file_id = f.id)"
    ),
    "names that lie inside another file": (
        "SELECT count(*) FROM files f JOIN files g ON g.name > f.name || '/' AND g.name < f.name || '0'"
    ),
    "batches without a peer": (
        "SELECT count(*) FROM batches b LEFT JOIN peers p ON p.id = b.peer_id WHERE p.id IS NULL"
    ),
}


async def back_up(url: str, target: Path, *, password: str | None = None) -> int:
    """Write a consistent copy of the catalog at *url* to *target*, while it is in use; returns its size in bytes.

    SQLite: another SQLite file. PostgreSQL: a dump in pg_dump's custom format (restore it with pg_restore). Only the
    user may read it: it holds the accounts' password hashes.

    Raises
    ------
    Conflict
        *target* exists.
    NotFound
        There is no catalog at *url*.
    BadRequest
        *target* cannot be written.
    DatabaseUnavailable, CatalogDamaged
        The copy could not be made; nothing is left at *target*.
    """
    forbid_io_in_transaction("back up")
    with _named_when_whole(target) as partial:
        if url.startswith("sqlite"):
            await asyncio.to_thread(_copy_sqlite, _path_of(url), partial)
        else:
            await _require_catalog(url, password=password)
            await _dump_postgresql(url, partial, password=password)
        return partial.stat().st_size


async def check(url: str, *, password: str | None = None) -> tuple[str, ...]:
    """What is wrong with the catalog at *url*, in sentences; empty when it is sound. Only reads.

    Raises
    ------
    NotFound
        There is no catalog at *url*.
    DatabaseUnavailable
    """
    forbid_io_in_transaction("check")
    if url.startswith("sqlite"):
        return await asyncio.to_thread(_check_sqlite, _path_of(url))
    try:
        await _require_catalog(url, password=password)
        return await _check_postgresql(url, password=password)
    except CatalogDamaged as error:
        return (error.message,)


async def check_backup(backup: Path) -> tuple[str, ...]:
    """What is wrong with a file that ``back_up`` wrote, in sentences; empty when it is sound. Only reads.

    A dump of PostgreSQL is read from end to end; what its tables say is seen only once it is restored.

    Raises
    ------
    NotFound
        There is no such file.
    BadRequest
        It cannot be read, or is no backup.
    """
    forbid_io_in_transaction("check a backup")
    try:
        with backup.open("rb") as file:
            start = file.read(len(_SQLITE_MAGIC))
    except FileNotFoundError as error:
        raise NotFound(f"there is no {backup}", remedy="Name a backup.") from error
    except OSError as error:
        raise BadRequest(f"cannot read {backup}: {error.strerror}", remedy="Name a backup.") from error
    if start == _SQLITE_MAGIC:
        return await asyncio.to_thread(_check_sqlite, backup)
    if start.startswith(_DUMP_MAGIC):
        code, said = await _run("pg_restore", "--file=/dev/null", str(backup))
        return () if code == 0 else (f"pg_restore finds: {said}",)
    raise BadRequest(f"{backup} is no backup of a catalog", remedy="Name a file that 'database backup' wrote.")


@contextmanager
def _named_when_whole(target: Path) -> Iterator[Path]:
    """A file to write, which gets the name *target* once the block has ended well and the bytes are durable."""
    if os.path.lexists(target):
        raise _exists(target)
    try:
        # Of this backup alone, and closed to others: another one to the same target must not write into it.
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}-", suffix=".partial", dir=target.parent)
        os.close(descriptor)
        partial = Path(name)
        try:
            yield partial
            _settle(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise BadRequest(
            f"cannot write {target}: {error.strerror}", remedy="Check the folder, its permissions and room."
        ) from error


def _settle(partial: Path, target: Path) -> None:
    """Make the backup durable before it gets its name: a name promises a whole backup."""
    _sync(partial)
    try:
        # A rename would replace what somebody else wrote meanwhile.
        os.link(partial, target)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError:
        # Not every file system has links.
        partial.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exists(target: Path) -> Conflict:
    return Conflict(f"{target} exists", remedy="Name a file that does not; backups are never overwritten.")


# SQLite. Its own driver, and read only: looking must not make an empty catalog where there is none.


def _path_of(url: str) -> Path:
    return Path(url.partition(":///")[2])


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.exists():
        raise _no_catalog(path)
    try:
        with closing(sqlite3.connect(f"file:{quote(os.fspath(path))}?mode=ro", uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise translate(error) from error


def _copy_sqlite(source: Path, target: Path) -> None:
    with _reading(source) as here, closing(sqlite3.connect(target)) as there:
        _revision_of(here, source)
        try:
            here.backup(there)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def _check_sqlite(path: Path) -> tuple[str, ...]:
    try:
        with _reading(path) as connection:
            found = [line for (line,) in connection.execute("PRAGMA integrity_check(20)") if line != "ok"]
            if found:
                return tuple(f"SQLite finds: {line}" for line in found)
            strays = connection.execute("SELECT count(*) FROM pragma_foreign_key_check").fetchone()[0]
            return (
                *_of_another_version(_revision_of(connection, path)),
                *([f"{strays:,} rows that refer to others which are not there"] if strays else []),
                *_contradictions({what: connection.execute(q).fetchone()[0] for what, q in _INVARIANTS.items()}),
            )
    except CatalogDamaged as error:
        return (error.message,)


def _revision_of(connection: sqlite3.Connection, path: Path) -> str:
    try:
        row = connection.execute(_REVISION).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        row = None
    if row is None:
        raise _no_catalog(path)
    return str(row[0])


# PostgreSQL.


async def _require_catalog(url: str, *, password: str | None) -> None:
    if await migrations.current(url, password=password) is None:
        raise _no_catalog(make_url(url).database or "the database")


async def _check_postgresql(url: str, *, password: str | None) -> tuple[str, ...]:
    engine = make_engine(url, password=password)
    try:
        with translated():
            async with engine.connect() as connection:
                # Looking through all of a large catalog takes longer than any other statement may.
                await connection.execute(text("SET statement_timeout = 0"))
                revision = str(await connection.scalar(text(_REVISION)))
                counts = {what: int(await connection.scalar(text(q)) or 0) for what, q in _INVARIANTS.items()}
    finally:
        await engine.dispose()
    return (*_of_another_version(revision), *_contradictions(counts))


async def _dump_postgresql(url: str, target: Path, *, password: str | None) -> None:
    parsed = make_url(url)
    host, mode = (parsed.query.get(key) for key in ("host", "ssl"))
    connection = {
        "PGHOST": parsed.host or host,
        "PGPORT": str(parsed.port) if parsed.port else None,
        "PGUSER": parsed.username,
        "PGPASSWORD": password,
        "PGDATABASE": parsed.database,
        "PGSSLMODE": mode,
    }
    given = {key: value for key, value in connection.items() if isinstance(value, str)}
    code, said = await _run("pg_dump", "--format=custom", f"--file={target}", **given)
    if code != 0:
        raise DatabaseUnavailable(
            f"pg_dump failed: {said}", remedy="Check that the database runs, and that pg_dump is not older than it."
        )


async def _run(program: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run one of PostgreSQL's programs; its exit code, and what it said."""
    path = shutil.which(program)
    if path is None:
        raise BadRequest(
            f"{program} is not installed", remedy="Install PostgreSQL's client programs (postgresql-client)."
        )
    process = await asyncio.create_subprocess_exec(
        path, *arguments, env=os.environ | environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None  # noqa: S101 - it has ended
    return process.returncode, said.decode("utf-8", "replace").strip()[:500]


# Both.


def _no_catalog(place: Path | str) -> NotFound:
    return NotFound(
        f"there is no catalog in {place}",
        remedy="Name the right settings with --config; a catalog is made by 'database migrate' or the first start.",
    )


def _of_another_version(revision: str) -> list[str]:
    if revision == migrations.head():
        return []
    if revision in migrations.known():
        return [f"it is at revision {revision}, older than {migrations.head()}: run 'database migrate'"]
    return [f"it is at revision {revision}, which a newer librarian wrote: this one knows {migrations.head()}"]


def _contradictions(counts: dict[str, int]) -> list[str]:
    return [f"{count:,} {what}" for what, count in counts.items() if count]
