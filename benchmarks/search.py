"""How long a search takes when the catalog holds a million files, asked over HTTP as a client does.

The files are made by the database itself, spread over 300 days and 100 uploaders. Server and client share this
process, so that the times hold everything: sending, authenticating, searching, reading the answer.

    python -m benchmarks.search [--files 1000000] [--rounds 200] [FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web
from sqlalchemy import text
from tests.postgres import Databases, running_cluster

from librarian.auth import ensure_first_admin
from librarian.catalog import migrations
from librarian.catalog.database import make_engine
from librarian.client import LibrarianClient
from librarian.settings import Settings, StoreSettings
from librarian.site import open_site
from librarian.web.app import create_app, make_runner
from librarian.wire.files import FilesQuery

if TYPE_CHECKING:
    from collections.abc import Callable

#: The most that 95 of 100 searches may take, in milliseconds.
LIMITS: Final = {"postgresql": 10.0, "sqlite": 25.0}
DAYS: Final = 300
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_FILES: Final = """
INSERT INTO files (id, name, kind, size, checksum, uploader, origin, created_at)
SELECT n,
       '2026/' || substr('00' || (1 + n / :daily / 30), -2) || '/' || substr('00' || (1 + n / :daily % 30), -2)
               || '/obs-' || substr('000000' || n, -7) || '.h5',
       CASE WHEN n % 10 = 0 THEN 'book' ELSE 'file' END,
       (n * 7919) % 1000000007,
       'xxh3:' || substr('00000000000000000000000000000000' || n, -32),
       'user-' || (n % 100), 'site-' || (n % 7), :start + n * :step
FROM numbers
"""
_SQLITE: Final = "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :files) "
_POSTGRESQL: Final = "WITH numbers(n) AS (SELECT generate_series(0, :files - 1)::bigint) "
_HELD: Final = """
INSERT INTO instances (file_id, store_id, presence, intent, verified_at, verified_from, created_at)
SELECT id, 1, 'present', 'keep', created_at, 'cache', created_at FROM files
"""


async def fill(database: str, files: int) -> float:
    """Make *files* rows, each with an instance; returns the seconds it took."""
    engine = make_engine(database)
    started = time.perf_counter()
    is_sqlite = engine.dialect.name == "sqlite"
    made = (_SQLITE + _FILES.replace("INSERT", "INSERT", 1)) if is_sqlite else _POSTGRESQL + _FILES
    if not is_sqlite:
        # PostgreSQL's substr() does not count from the end.
        made = made.replace("substr(", "right(").replace(", -2)", ", 2)").replace(", -7)", ", 7)")
        made = made.replace(", -32)", ", 32)")
    span = timedelta(days=DAYS)
    values = {
        "files": files,
        "daily": max(files // DAYS, 1),
        "start": int(START.timestamp()) * 1_000_000,
        "step": int(span.total_seconds() * 1_000_000) // files,
    }
    async with engine.begin() as connection:
        await connection.execute(text(made), values)
        await connection.execute(text(_HELD))
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text("ANALYZE"))
    await engine.dispose()
    return time.perf_counter() - started


def questions(files: int) -> dict[str, Callable[[random.Random], FilesQuery]]:
    """What is asked: name → a query, another one each time."""
    daily = max(files // DAYS, 1)

    def day(dice: random.Random) -> str:
        number = dice.randrange(DAYS)
        return f"2026/{1 + number // 30:02}/{1 + number % 30:02}"

    def exact(dice: random.Random) -> FilesQuery:
        number = dice.randrange(DAYS * daily)
        at = number // daily
        return FilesQuery(match=f"2026/{1 + at // 30:02}/{1 + at % 30:02}/obs-{number:07}.h5")

    def window(dice: random.Random) -> FilesQuery:
        since = START + timedelta(days=dice.random() * (DAYS - 1))
        return FilesQuery(since=since, until=since + timedelta(hours=6))

    return {
        "name": exact,
        "anchored glob": lambda dice: FilesQuery(match=f"{day(dice)}/*"),
        "anchored glob, tail": lambda dice: FilesQuery(match=f"{day(dice)}/obs-*{dice.randrange(10)}.h5"),
        "time window": window,
        "newest": lambda _: FilesQuery(),
        "newest of a day's names": lambda dice: FilesQuery(match=f"{day(dice)}/*", order="newest"),
        "newest of an uploader": lambda dice: FilesQuery(uploader=f"user-{dice.randrange(100)}"),
        "newest books on a store": lambda _: FilesQuery(kind="book", store="fast"),
        "largest of a size range": lambda dice: FilesQuery(min_size=1_000_000_000 - dice.randrange(1000) * 1000),
    }


#: Bounded by the scan budget, not by the limits above.
UNANCHORED: Final = "unanchored glob (one page)"


async def measure(database: str, folder: Path, *, files: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each question, in the order asked."""
    for path in (folder / "root", folder / "staging"):
        path.mkdir(parents=True)
    settings = Settings(
        name="bench",
        state=folder,
        database=database,
        stores=(StoreSettings(name="fast", root=folder / "root", staging=folder / "staging"),),
    )
    async with open_site(settings) as site:
        password = await ensure_first_admin(site.catalog, site.doorkeeper)
        print(f"  filled in {await fill(database, files):.0f} s", flush=True)
        runner = make_runner(create_app(site))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with LibrarianClient(url, user="admin", password=password) as client:
            times = await ask(client, files=files, rounds=rounds)
        await runner.cleanup()
    return times


async def ask(client: LibrarianClient, *, files: int, rounds: int) -> dict[str, list[float]]:
    """Ask every question *rounds* times, in turn."""
    dice = random.Random(7)
    asked = questions(files) | {UNANCHORED: lambda dice: FilesQuery(match=f"*{dice.randrange(1000):03}4*x*")}
    times: dict[str, list[float]] = {name: [] for name in asked}
    for query in asked.values():
        await client.page(query(dice))
    for _ in range(rounds):
        for name, query in asked.items():
            if name == UNANCHORED and len(times[name]) >= max(rounds // 10, 1):
                continue
            wanted = query(dice)
            started = time.perf_counter()
            await client.page(wanted)
            times[name].append((time.perf_counter() - started) * 1000)
    return times


def report(kind: str, times: dict[str, list[float]]) -> bool:
    """Print each question's p50 and p95 against the limit; returns whether all keep it."""
    limit = LIMITS[kind]
    keeps = True
    for name, spent in times.items():
        p50, p95 = statistics.median(spent), statistics.quantiles(spent, n=20)[-1]
        is_bound = name != UNANCHORED
        verdict = "" if not is_bound else f"{p95 / limit:5.2f} of {limit:g} ms"
        keeps &= not is_bound or p95 <= limit
        print(f"  {name:28} p50 {p50:7.2f} ms  p95 {p95:7.2f} ms  {verdict}", flush=True)
    return keeps


def main() -> int:
    """Run it for both databases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--database", choices=sorted(LIMITS), action="append")
    arguments = parser.parse_args()
    keeps = True
    with ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        databases = Databases(stack.enter_context(running_cluster()), folder, migrations.upgrade_blocking)
        for kind in arguments.database or sorted(LIMITS):
            print(f"{kind}, {arguments.files:,} files", flush=True)
            if kind == "postgresql":
                assert databases.cluster is not None, "needs PostgreSQL"
                url = databases.cluster.url(databases.new_postgresql())
            else:
                url = databases.new_sqlite(folder / "catalog.sqlite")
            times = asyncio.run(measure(url, folder / kind, files=arguments.files, rounds=arguments.rounds))
            keeps &= report(kind, times)
    return 0 if keeps else 1


if __name__ == "__main__":
    sys.exit(main())
