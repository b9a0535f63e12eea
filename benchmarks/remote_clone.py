"""How fast files reach a second site until the first one knows it, and what that costs in statements and requests.

Two servers in processes of their own, each with its catalog, on one machine. The clock runs from the moment the rule
exists until the source knows a remote instance of every file: back-fill, offer, content, notices, ingest, notices.

    python -m benchmarks.remote_clone [--files 1024] [--size 10240] [--engine http] [--rounds 5] [FOLDER]

Nothing is removed before the end: an ext4 without a journal gives out no inode again that was freed in the last
minute, and looks at each of them for every file it makes. Better take a FOLDER where nothing was removed lately.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from tests.fakes.globus import SERVICE_URLS
from tests.postgres import Databases, running_cluster

from benchmarks.clone_site import ADMIN, GLOBUS_CLIENT, PASSWORD
from librarian.catalog import migrations
from librarian.client import LibrarianClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

#: What ARCHITECTURE promises, files per second.
GOALS: Final = {"http": {"sqlite": 350, "postgresql": 700}, "globus": {"sqlite": 300, "postgresql": 600}}
SMALL_BYTES: Final = 100_000
#: The speed of large files, of that of a loop that reads, writes and fsyncs them.
LARGE_RATIO: Final = 0.6
RATIO: Final = "of a plain loop"


@dataclass
class Server:
    """One site in a process of its own, told what to do line by line."""

    process: asyncio.subprocess.Process
    url: str = ""

    @classmethod
    async def start(cls, name: str, folder: Path, database: str) -> Server:
        """Start the process and wait until it serves."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.clone_site",
            name,
            str(folder),
            database,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        server = cls(process)
        server.url = str((await server._read())["url"])
        return server

    async def ask(self, **command: object) -> dict[str, Any]:
        """Tell it what to do; its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        await self.process.stdin.drain()
        return await self._read()

    async def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise SystemExit("a site died")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def stop(self) -> None:
        """Let it end, and wait for that."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()


@asynccontextmanager
async def a_globus(folder: Path) -> AsyncIterator[None]:
    """Start a Globus of our own, and have the sites find it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.globus", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    name, secret = str(GLOBUS_CLIENT), "secret"
    async with aiohttp.ClientSession() as session:
        await session.post(f"{url}fake", json={"clients": {name: secret}, "collections": {name: "/"}})
    (folder / "globus.secret").write_text(secret)
    os.environ |= {**dict.fromkeys(SERVICE_URLS, url), "CLONE_GLOBUS_SECRET": str(folder / "globus.secret")}
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def one_round(urls: list[str], folder: Path, *, files: int, size: int, engine: str) -> dict[str, float]:
    """Clone *files* of *size* bytes between two fresh sites."""
    async with AsyncExitStack() as stack:
        if engine == "globus":
            await stack.enter_async_context(a_globus(folder))
        servers = []
        for name, url in zip(("chajnantor", "nersc"), urls, strict=True):
            server = await Server.start(name, folder / name, url)
            stack.push_async_callback(server.stop)
            servers.append(server)
        source, target = servers
        await upload(source.url, folder / "sources", files=files, size=size)
        await target.ask(do="account", name="chajnantor", role="upstream")
        await source.ask(do="account", name="nersc", role="callback")
        await source.ask(do="peer", name="nersc", url=target.url)
        await target.ask(do="peer", name="chajnantor", url=source.url)
        before = [await server.ask(do="counts") for server in servers]
        start = time.perf_counter()
        await source.ask(do="rule", peer="nersc", engine=engine)
        asked = (await source.ask(do="wait"))["asked"]
        seconds = time.perf_counter() - start
        after = [await server.ask(do="counts") for server in servers]
    by_hand = await asyncio.to_thread(copy_by_hand, folder / "sources", folder / "by-hand")
    change = [{key: b[key] - a[key] for key in a} for a, b in zip(before, after, strict=True)]
    return {
        "files/s": files / seconds,
        RATIO: by_hand / seconds,
        "SQL/file at source": (change[0]["statements"] - asked) / files,
        "SQL/file at target": change[1]["statements"] / files,
        "requests/file": (change[0]["requests"] + change[1]["requests"]) / files,
        "CPU s at source": change[0]["cpu"],
        "CPU s at target": change[1]["cpu"],
        "RSS MB at target": after[1]["rss"] / 1e6,
    }


def copy_by_hand(sources: Path, target: Path) -> float:
    """Seconds of a loop that reads, writes and fsyncs each file, into memory and disk as fresh as the clone's."""
    target.mkdir()
    started = time.perf_counter()
    for path in sorted(sources.iterdir()):
        with path.open("rb") as source, (target / path.name).open("wb") as sink:
            shutil.copyfileobj(source, sink, 1024**2)
            sink.flush()
            os.fsync(sink.fileno())
    return time.perf_counter() - started


async def upload(url: str, folder: Path, *, files: int, size: int) -> None:
    """Bring random files into the source."""
    folder.mkdir()
    pairs = []
    for number in range(files):
        path = folder / f"{number:06d}"
        path.write_bytes(os.urandom(size))
        pairs.append((path, f"2026/{number:06d}"))
    async with LibrarianClient(url, user=ADMIN, password=PASSWORD) as client:
        await client.upload_many(pairs)


def run(make_urls: Callable[[], list[str]], database: str, scratch: Path, options: argparse.Namespace) -> None:
    """Print best, median and spread of all rounds on one kind of database."""
    results = []
    for number in range(options.rounds):
        folder = scratch / f"{database}-{number}"
        folder.mkdir()
        urls = make_urls()
        results.append(
            asyncio.run(one_round(urls, folder, files=options.files, size=options.size, engine=options.engine))
        )
    rates = sorted(result["files/s"] for result in results)
    print(f"{database}, {options.engine}: {options.files:,} × {options.size:,} bytes")
    print(f"  files/s: best {rates[-1]:,.1f}, median {statistics.median(rates):,.1f}, worst {rates[0]:,.1f}")
    if options.size <= SMALL_BYTES:
        print(f"  goal for small files: {GOALS.get(options.engine, GOALS['http'])[database]} files/s")
    ratios = sorted(result[RATIO] for result in results)
    print(
        f"  of a plain loop: best {ratios[-1]:.2f}, median {statistics.median(ratios):.2f}, worst {ratios[0]:.2f};"
        f" goal for large files: {LARGE_RATIO}"
    )
    for key in results[0]:
        if key not in ("files/s", RATIO):
            print(f"  {key}: {statistics.median(r[key] for r in results):.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1024)
    parser.add_argument("--size", type=int, default=10_240)
    parser.add_argument("--engine", default="http")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    parser.add_argument("folder", nargs="?")
    options = parser.parse_args()
    os.environ["LIBRARIAN_TEST_POSTGRES_FSYNC"] = "on"
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        cluster = None if options.only == "sqlite" else stack.enter_context(running_cluster())
        databases = Databases(cluster, scratch, migrations.upgrade_blocking)
        numbers = iter(range(1000))
        if options.only != "postgresql":
            run(
                lambda: [databases.new_sqlite(scratch / f"{next(numbers)}.sqlite") for _ in "ab"],
                "sqlite",
                scratch,
                options,
            )
        if cluster is not None:
            run(lambda: [cluster.url(databases.new_postgresql()) for _ in "ab"], "postgresql", scratch, options)


if __name__ == "__main__":
    main()
