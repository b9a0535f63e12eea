"""How long it takes to tell where twenty drives stand that hold a million files, asked over HTTP.

The files and drives are made by the database itself. Server and client share this process, so that the times hold
everything: sending, authenticating, asking the catalog, and for the page making the HTML.

    python -m benchmarks.drive_status [--files 1000000] [--rounds 50] [FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web
from sqlalchemy import text
from tests.postgres import Databases, running_cluster

from benchmarks.search import fill
from librarian import replication
from librarian.auth import ensure_first_admin
from librarian.catalog import migrations
from librarian.catalog.database import make_engine
from librarian.catalog.drives import NewDrive
from librarian.catalog.records import Tally
from librarian.names import RuleName, SiteName, StoreName
from librarian.policies import RulePolicy
from librarian.settings import Settings, StoreSettings
from librarian.site import open_site
from librarian.states import Reach
from librarian.web.app import create_app, make_runner

if TYPE_CHECKING:
    from librarian.site import Site

#: The most that 95 of 100 answers may take, in milliseconds.
LIMIT: Final = 100.0
DRIVES: Final = 20
PATHS: Final = ("/api/v1/status/drives", "/drives")
_LOADED: Final = """
INSERT INTO instances (file_id, store_id, presence, intent, verified_at, verified_from, created_at)
SELECT files.id, (SELECT min(store_id) FROM drives) + files.id % :drives, 'present', 'keep',
       files.created_at, 'medium', files.created_at FROM files
"""
_OWED: Final = """
INSERT INTO copies_due (file_id, rule_id, peer_id, size, state, next_try_at, created_at, since)
SELECT id, :rule, :peer, size, 'loaded', created_at, created_at, created_at FROM files
"""
_SEALED: Final = """
INSERT INTO manifests (uuid, drive_id, round, peer_id, head, files, bytes, confirmed_files, confirmed_bytes,
                       sealed_at, sealed_by)
SELECT stores.uuid, drives.id, 1, :peer, '{}', CAST(:each AS BIGINT), CAST(:each AS BIGINT), CAST(:each AS BIGINT) / 2,
       CAST(:each AS BIGINT) / 2, drives.since, 'ana'
FROM drives JOIN stores ON stores.id = drives.store_id
"""


async def make_drives(site: Site, *, files: int) -> None:
    """Put all files onto drives, each one sealed, half of it confirmed; one rule has them carried."""
    each = files // DRIVES
    async with site.catalog.begin() as tx:
        peer = await tx.peers.add(
            SiteName("nersc"),
            url="http://127.0.0.1:1",
            username="bench",
            secret=site.neighbours.secrets.encrypt("secret"),
            reach=Reach.PUSH,
            accepts=[""],
            entry_points=[],
        )
        policy = RulePolicy(peer="nersc", stores=("D*",))
        await replication.put_rule(tx, RuleName("carried"), policy=policy, who="bench")
        rule = await tx.rules.find("carried")
        assert rule is not None
        for number in range(DRIVES):
            new = NewDrive(
                name=StoreName(f"D{number:02}"),
                uuid=str(uuid.uuid4()),
                serial=None,
                filesystem="ext4",
                size=4 * 10**12,
                full_at=980,
                path=f"/media/D{number:02}",
                who="bench",
            )
            await tx.drives.add(new)
            await tx.tallies.add(f"store:{new.name}", files=each, bytes=each * 1000)
        await tx.arrivals.add({rule.id: Tally(files=files, bytes=files * 1000)}, at=rule.created_at)
    engine = make_engine(site.catalog.url)
    async with engine.begin() as connection:
        await connection.execute(text(_LOADED), {"drives": DRIVES})
        await connection.execute(text(_OWED), {"rule": rule.id, "peer": peer.id})
        await connection.execute(text(_SEALED), {"peer": peer.id, "each": each})
    await engine.dispose()


async def measure(database: str, folder: Path, *, files: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each answer, by path."""
    for place in (folder / "root", folder / "staging"):
        place.mkdir(parents=True)
    store = StoreSettings(name="fast", root=folder / "root", staging=folder / "staging")
    settings = Settings(name="bench", state=folder, database=database, stores=(store,))
    async with open_site(settings) as site:
        password = await ensure_first_admin(site.catalog, site.doorkeeper)
        await fill(database, files)
        await make_drives(site, files=files)
        runner = make_runner(create_app(site))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        login = {"Authorization": aiohttp.encode_basic_auth("admin", password or "")}
        times: dict[str, list[float]] = {path: [] for path in PATHS}
        async with aiohttp.ClientSession(headers=login, raise_for_status=True) as session:
            for path in PATHS * (rounds + 1):
                started = time.perf_counter()
                async with session.get(url + path) as answer:
                    told = await answer.text()
                times[path].append((time.perf_counter() - started) * 1000)
                assert f"D{DRIVES - 1:02}" in told
        await runner.cleanup()
    # The first login is hashed, and the first page compiled.
    return {path: spent[1:] for path, spent in times.items()}


def main() -> int:
    """Run it for both databases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=50)
    arguments = parser.parse_args()
    keeps = True
    with ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        databases = Databases(stack.enter_context(running_cluster()), folder, migrations.upgrade_blocking)
        assert databases.cluster is not None, "needs PostgreSQL"
        urls = {
            "sqlite": databases.new_sqlite(folder / "catalog.sqlite"),
            "postgresql": databases.cluster.url(databases.new_postgresql()),
        }
        for kind, url in urls.items():
            times = asyncio.run(measure(url, folder / kind, files=arguments.files, rounds=arguments.rounds))
            for path, spent in times.items():
                p50, p95 = statistics.median(spent), statistics.quantiles(spent, n=20)[-1]
                keeps &= p95 <= LIMIT
                ratio = f"{p95 / LIMIT:5.2f} of {LIMIT:g} ms"
                print(f"{kind:12} {path:24} p50 {p50:6.2f} ms  p95 {p95:6.2f} ms  {ratio}", flush=True)
    return 0 if keeps else 1


if __name__ == "__main__":
    sys.exit(main())
