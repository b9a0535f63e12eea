"""Backups of the catalog, and whether one (or the running one) is sound."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from sqlalchemy import make_url, text

from librarian.catalog import migrations
from librarian.catalog.database import make_engine, translated
from librarian.errors import BadRequest, Conflict, DatabaseUnavailable
from librarian.guard import forbid_io_in_transaction

if TYPE_CHECKING:
    from pathlib import Path

#: Questions whose answer must be zero.
_INVARIANTS = {
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


async def back_up(url: str, target: Path, *, password: str | None = None) -> None:
    """Write a consistent copy of the catalog at *url* to *target*, while it is in use.

    SQLite: another SQLite file. PostgreSQL: a dump in pg_dump's custom format (restore it with pg_restore).

    Raises
    ------
    Conflict
        *target* exists.
    DatabaseUnavailable
        The copy could not be made; nothing is left at *target*.
    """
    forbid_io_in_transaction("back up")
    if await asyncio.to_thread(target.exists):
        raise Conflict(f"{target} exists", remedy="Name a file that does not; backups are never overwritten.")
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        if url.startswith("sqlite"):
            await asyncio.to_thread(_copy_sqlite, url.partition(":///")[2], str(partial))
        else:
            await _dump_postgresql(url, partial, password=password)
        await asyncio.to_thread(_settle, partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _copy_sqlite(source: str, target: str) -> None:
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as here,
            closing(sqlite3.connect(target)) as there,
        ):
            here.backup(there)
    except sqlite3.Error as error:
        raise DatabaseUnavailable(
            f"cannot copy {source}: {error}", remedy="Check that it exists, and that the target has room."
        ) from error


async def _dump_postgresql(url: str, target: Path, *, password: str | None) -> None:
    program = shutil.which("pg_dump")
    if program is None:
        raise BadRequest("pg_dump is not installed", remedy="Install PostgreSQL's client programs (postgresql-client).")
    parsed = make_url(url)
    host = parsed.host or parsed.query.get("host")
    connection = {
        "PGHOST": host if isinstance(host, str) else None,
        "PGPORT": str(parsed.port) if parsed.port else None,
        "PGUSER": parsed.username,
        "PGPASSWORD": password,
        "PGDATABASE": parsed.database,
    }
    environment = os.environ | {key: value for key, value in connection.items() if value}
    dump = await asyncio.create_subprocess_exec(
        program, "--format=custom", f"--file={target}", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, said = await dump.communicate()
    if dump.returncode != 0:
        raise DatabaseUnavailable(
            f"pg_dump failed: {said.decode('utf-8', 'replace').strip()[:500]}",
            remedy="Check that the database runs, and that pg_dump is not older than it.",
        )


def _settle(partial: Path, target: Path) -> None:
    """Make the backup durable before it gets its name: a name promises a whole backup."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.rename(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


async def check(url: str, *, password: str | None = None) -> tuple[str, ...]:
    """What is wrong with the catalog at *url*, in sentences; empty when it is sound.

    Raises
    ------
    DatabaseUnavailable
    """
    forbid_io_in_transaction("check")
    at = await migrations.current(url, password=password)
    if at is None:
        return ("the database is empty",)
    problems = []
    if at != migrations.head():
        problems.append(f"it is at revision {at}, this librarian works with {migrations.head()}")
        return tuple(problems)
    engine = make_engine(url, password=password)
    try:
        with translated():
            async with engine.connect() as connection:
                if engine.dialect.name == "sqlite":
                    said = (await connection.execute(text("PRAGMA integrity_check(20)"))).scalars().all()
                    problems += [f"SQLite finds: {line}" for line in said if line != "ok"]
                for what, question in _INVARIANTS.items():
                    count = await connection.scalar(text(question))
                    if count:
                        problems.append(f"{count:,} {what}")
    finally:
        await engine.dispose()
    return tuple(problems)
