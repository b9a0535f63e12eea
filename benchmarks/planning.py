"""What planning costs, however much there is: nothing due, a thousand files offered, a million copies due.

The rows are made by the database itself. Everything runs in one process, against one database; the server is asked
over HTTP where that is how it is asked.

    python -m benchmarks.planning [--files 10000 10000000] [--due 1000000] [--rounds 50] [--database sqlite] [FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
import uuid
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web
from sqlalchemy import text
from tests.postgres import Databases, running_cluster

from librarian import replication
from librarian.catalog import migrations
from librarian.catalog.database import make_engine
from librarian.client import LibrarianClient
from librarian.names import AccountName, RuleName, SiteName
from librarian.policies import RulePolicy
from librarian.settings import Settings, StoreSettings
from librarian.site import Site, open_site
from librarian.states import Reach, Role
from librarian.tasks.backfill import Backfill
from librarian.tasks.deliver import Deliver
from librarian.tasks.poll import Poll
from librarian.tasks.reconcile import Reconcile
from librarian.tasks.send import Send
from librarian.tasks.submit import Submit
from librarian.timing import plenty_of_time, utc_now
from librarian.web.app import create_app, make_runner
from librarian.wire.clones import OfferClones, OfferedClone, Verdicts
from librarian.wire.peers import PeerList

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from librarian.tasks.supervisor import AnyTask

#: What is wanted, in milliseconds.
NOTHING_DUE: Final = 5.0
OFFER: Final = 150.0
OFFER_STATEMENTS: Final = 6
FIRST_BATCH: Final = 100.0
BACKLOG: Final = 10.0
#: Resident memory may wander by so much, in MB, without having grown.
NOISE: Final = 20.0
PEERS: Final = ("nersc", "princeton", "berkeley")
PASSWORD: Final = "benchmark-password"
_NUMBERS: Final = {
    "sqlite": "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :count) ",
    "postgresql": "WITH n(n) AS (SELECT generate_series(1, :count)::bigint) ",
}
_FILES: Final = """
INSERT INTO files (id, name, kind, size, checksum, uploader, origin, created_at)
SELECT n, '2026/' || (n / 1000) || '/obs-' || n || '.h5', 'file', 10240, 'xxh3:' || n, 'user-' || (n % 100), 'here',
       1760000000000000 + n FROM n
"""
_INSTANCES: Final = """
INSERT INTO instances (file_id, store_id, presence, intent, verified_at, verified_from, created_at)
SELECT id, 1, 'present', 'keep', created_at, 'cache', created_at FROM files WHERE id <= :count
"""
_DUE: Final = """
INSERT INTO copies_due (file_id, rule_id, peer_id, size, state, next_try_at, created_at, since)
SELECT files.id, rules.id, rules.peer_id, files.size, 'due', files.created_at, files.created_at, files.created_at
FROM files, rules WHERE files.id <= :count AND rules.name = 'to-nersc'
"""
_TALLIES: Final = """
INSERT INTO tallies (subject, files, bytes)
SELECT 'due:' || peer_id, count(*), sum(size) FROM copies_due GROUP BY peer_id
"""


async def fill(url: str, statements: list[str], *, count: int) -> float:
    """Run *statements* for so many rows; returns the seconds it took."""
    engine = make_engine(url)
    numbers = _NUMBERS[engine.dialect.name]
    started = time.perf_counter()
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
        for statement in statements:
            # PostgreSQL takes a WITH before INSERT too.
            made = numbers + statement if "FROM n\n" in statement else statement
            await connection.execute(text(made), {"count": count} if ":count" in made else {})
    if engine.dialect.name == "postgresql":
        # As its autovacuum does. SQLite never looks: the catalog tells it what to expect.
        async with engine.connect() as connection:
            await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text("ANALYZE"))
    await engine.dispose()
    return time.perf_counter() - started


@asynccontextmanager
async def a_site(url: str, folder: Path) -> AsyncIterator[tuple[Site, LibrarianClient]]:
    """A served site with a rule for each of its peers, and a client that is an administrator and a peer."""
    for part in ("root", "staging"):
        (folder / part).mkdir(parents=True)
    settings = Settings(
        name="bench",
        state=folder,
        database=url,
        stores=(StoreSettings(name="fast", root=folder / "root", staging=folder / "staging"),),
    )
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(open_site(settings))
        hashed = await site.doorkeeper.hash(PASSWORD)
        async with site.catalog.begin() as tx:
            roles = frozenset({Role.ADMIN, Role.UPSTREAM})
            await tx.accounts.create(AccountName(PEERS[0]), password_hash=hashed, roles=roles)
            for peer in PEERS:
                await tx.peers.add(
                    SiteName(peer),
                    url="",
                    username="bench",
                    secret=site.neighbours.secrets.encrypt(PASSWORD),
                    reach=Reach.PUSH,
                    accepts=[""],
                    entry_points=[],
                )
                await replication.put_rule(tx, RuleName(f"to-{peer}"), policy=RulePolicy(peer=peer), who="benchmark")
        runner = make_runner(create_app(site))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        # As the server does.
        gc.collect()
        gc.freeze()
        client = LibrarianClient(address, user=PEERS[0], password=PASSWORD)
        yield site, await stack.enter_async_context(client)


async def timed(work: Callable[[], Awaitable[object]], *, rounds: int) -> list[float]:
    """Milliseconds of each round, after one that warms up."""
    await work()
    spent = []
    for _ in range(rounds):
        started = time.perf_counter()
        await work()
        spent.append((time.perf_counter() - started) * 1000)
    return spent


def resident() -> float:
    """Resident memory of this process, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def tell(what: str, spent: list[float], wanted: float) -> bool:
    """Print a figure against the one that is wanted; whether it keeps to it."""
    best, median, worst = min(spent), statistics.median(spent), max(spent)
    share = f"{median / wanted:.2f} of {wanted:g} ms"
    print(f"  {what:44} best {best:7.2f}, median {median:7.2f}, worst {worst:7.2f} ms: {share}")
    sys.stdout.flush()
    return median <= wanted


async def nothing_due(site: Site, *, rounds: int) -> bool:
    """A pass of each loop that looks for something to send."""
    loops: tuple[AnyTask, ...] = (Send(site), Submit(site), Poll(site), Deliver(site), Reconcile(site), Backfill(site))
    keeps = True
    for loop in loops:
        spent = await timed(partial(loop.run_pass, plenty_of_time()), rounds=rounds)
        keeps &= tell(f"nothing due: a pass of '{loop.name}'", spent, NOTHING_DUE)
    return keeps


async def offer(site: Site, client: LibrarianClient, *, rounds: int) -> bool:
    """1,024 new files are offered to us over HTTP."""
    statements: list[int] = []
    offers = iter([OfferClones(clones=[_clone() for _ in range(1024)]) for _ in range(rounds + 1)])

    async def once() -> None:
        before = site.catalog.statements
        await client.request("POST", "/clones", body=next(offers), answer=Verdicts)
        statements.append(site.catalog.statements - before)

    before = time.process_time()
    keeps = tell("an offer of 1,024 files, at its destination", await timed(once, rounds=rounds), OFFER)
    spent = (time.process_time() - before) * 1000 / (rounds + 1)
    print(f"  {'CPU of that, of the one who offers included':44} mean {spent:7.2f} ms, without the database's")
    most = max(statements[1:])
    print(f"  {'SQL statements of that':44} {most}: {most / OFFER_STATEMENTS:.2f} of {OFFER_STATEMENTS}")
    return keeps and most <= OFFER_STATEMENTS


def _clone() -> OfferedClone:
    name = uuid.uuid4().hex
    return OfferedClone(
        uuid=str(uuid.uuid4()),
        name=f"clones/{name}",
        kind="file",
        size=10,
        checksum=f"xxh3:{name}",
        uploader="ana",
        origin="nersc",
        created_at=utc_now(),
    )


async def backlog(site: Site, client: LibrarianClient, *, rounds: int) -> bool:
    """Claim the first batch of a large backlog, give it back, and look at the backlog."""
    send = Send(site)
    claimed: list[float] = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        async with site.catalog.begin() as tx:
            plan = await send.plan(tx)
        claimed.append((time.perf_counter() - started) * 1000)
        assert plan is not None
        assert len(plan.items) == 1024
        async with site.catalog.begin() as tx:
            await send.give_up(tx, plan, TimeoutError())
    keeps = tell("a backlog: claiming its first batch", claimed[1:], FIRST_BATCH)
    asked = await timed(lambda: client.request("GET", "/peers", answer=PeerList), rounds=rounds)
    return tell("a backlog: peers with backlog and time left", asked, BACKLOG) and keeps


async def measure(url: str, folder: Path, *, files: int, due: int, rounds: int) -> bool:
    """Every figure, for a catalog of so many *files*."""
    print(f"{files:,} files", flush=True)
    async with a_site(url, folder) as (site, client):
        print(f"  filled in {await fill(url, [_FILES], count=files):.0f} s", flush=True)
        keeps = await nothing_due(site, rounds=rounds)
        keeps &= await offer(site, client, rounds=max(rounds // 10, 3))
        if due > files:
            return keeps
        print(f"  {due:,} made due in {await fill(url, [_INSTANCES, _DUE, _TALLIES], count=due):.0f} s", flush=True)
        before = resident()
        keeps &= await backlog(site, client, rounds=max(rounds // 5, 3))
        grown = resident() - before
        print(f"  {'a backlog: growth of resident memory':44} {grown:.1f} MB, where {NOISE:g} are noise")
    return keeps and grown <= NOISE


def main() -> int:
    """Run it on one kind of database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--files", type=int, nargs="+", default=[10_000, 10_000_000])
    parser.add_argument("--due", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--database", choices=sorted(_NUMBERS), default="postgresql")
    options = parser.parse_args()
    keeps = True
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = stack.enter_context(running_cluster()) if options.database == "postgresql" else None
        databases = Databases(cluster, folder, migrations.upgrade_blocking)
        for files in options.files:
            if cluster is not None:
                url = cluster.url(databases.new_postgresql())
            else:
                url = databases.new_sqlite(folder / f"{files}.sqlite")
            arguments = {"files": files, "due": options.due, "rounds": options.rounds}
            keeps &= asyncio.run(measure(url, folder / f"site-{files}", **arguments))
    return 0 if keeps else 1


if __name__ == "__main__":
    sys.exit(main())
