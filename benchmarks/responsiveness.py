"""How fast ``/healthz`` answers while a site hashes on all its workers and takes in batches, and what memory it takes.

A real ``librarian serve`` in a process of its own. Beside it one process keeps the workers hashing large books, one
uploads batches of 1,000 files of 10 KB, and one asks ``/healthz`` over and over. Resident memory is that of the
server alone, without its workers. With ``--files`` the catalog holds that many files before it starts.

    python -m benchmarks.responsiveness [--seconds 30] [--files 0] [--database sqlite|postgresql] [FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import aiohttp

from benchmarks.search import fill
from benchmarks.serving import Server, fresh_catalog, serving
from librarian.client import LibrarianClient

#: The claims, in milliseconds and bytes.
P99_MS: Final = 10.0
MAX_MS: Final = 60.0
RSS: Final = 200e6
PEAK_RSS: Final = 300e6
BATCH: Final = 1000
SMALL: Final = os.urandom(10_000)
BOOK_MEMBERS: Final = 8
MEMBER_BYTES: Final = 256 * 1024**2


async def ask_health(url: str, stop: asyncio.Event) -> list[float]:
    """Milliseconds of each ``/healthz``, asked one after the other, fifty times a second."""
    times: list[float] = []
    async with aiohttp.ClientSession() as session:
        while not stop.is_set():
            started = time.perf_counter()
            async with session.get(f"{url}/healthz") as answer:
                await answer.read()
            times.append((time.perf_counter() - started) * 1e3)
            await asyncio.sleep(0.02)
    return times


async def upload_batches(url: str, password: str, folder: Path, seconds: float) -> None:
    """Upload one batch after the other."""
    made = [folder / f"small-{number}" for number in range(BATCH)]
    for path in made:
        path.write_bytes(SMALL)
    ends_at = time.monotonic() + seconds
    files = 0
    async with LibrarianClient(url, user="admin", password=password) as client:
        while time.monotonic() < ends_at:
            batch = f"batches/{time.monotonic_ns()}"
            await client.upload_many([(path, f"{batch}/{path.name}") for path in made])
            files += BATCH
    print(f"  uploaded {files:,} files of 10 KB meanwhile")


async def upload_books(url: str, password: str, folder: Path, seconds: float) -> None:
    """Keep every worker of the server hashing large members."""
    book = folder / "large"
    book.mkdir()
    block = os.urandom(8 * 1024**2)
    for number in range(BOOK_MEMBERS):
        with (book / f"member-{number}").open("wb") as member:
            for _ in range(MEMBER_BYTES // len(block)):
                member.write(block)
    ends_at = time.monotonic() + seconds
    size = 0
    async with LibrarianClient(url, user="admin", password=password) as client:
        while time.monotonic() < ends_at:
            size += (await client.upload(book, f"books/{time.monotonic_ns()}")).size
    print(f"  uploaded and hashed {size / 1e9:.1f} GB in large books meanwhile")


def watch(url: str, others: list[subprocess.Popen[bytes]]) -> list[float]:
    """Ask for health until the *others* have ended."""

    async def until_ended() -> list[float]:
        stop = asyncio.Event()
        asking = asyncio.create_task(ask_health(url, stop))
        await asyncio.gather(*(asyncio.to_thread(other.wait) for other in others))
        stop.set()
        return await asking

    return asyncio.run(until_ended())


def measure(server: Server, *, seconds: float) -> None:
    """Run everything beside everything, and print."""
    environment = {**os.environ, "BENCH_PASSWORD": server.password}
    others = []
    for role in ("upload_batches", "upload_books"):
        (server.folder / role).mkdir()
        command = [sys.executable, "-m", "benchmarks.responsiveness", "--role", role, "--seconds", str(seconds)]
        others.append(subprocess.Popen([*command, "--url", server.url, str(server.folder / role)], env=environment))
    before = server.cpu_seconds(has_workers=False)
    times = sorted(watch(server.url, others))
    now, peak = server.memory()
    p99 = times[int(len(times) * 0.99)]
    print(
        f"  /healthz: {len(times):,} answers, median {statistics.median(times):.1f} ms, p99 {p99:.1f} ms "
        f"(claimed {P99_MS:.0f}), max {times[-1]:.1f} ms (claimed {MAX_MS:.0f})"
    )
    print(
        f"  server: {now / 1e6:.0f} MB resident (claimed {RSS / 1e6:.0f}), {peak / 1e6:.0f} MB at most "
        f"(claimed {PEAK_RSS / 1e6:.0f}), {server.cpu_seconds(has_workers=False) - before:.1f} s of CPU"
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"  clients: {used.ru_utime + used.ru_stime:.1f} s of CPU")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--role", choices=("upload_batches", "upload_books"))
    parser.add_argument("--url")
    options = parser.parse_args()
    if options.role is not None:
        role = {"upload_batches": upload_batches, "upload_books": upload_books}[options.role]
        asyncio.run(role(options.url, os.environ["BENCH_PASSWORD"], options.folder, options.seconds))
        return
    with fresh_catalog(options.database, options.folder) as (folder, url):
        password = None
        if options.files:
            with serving(folder, url) as first:
                password = first.password  # The start has registered the store that the files are on.
            engine_url = url.replace("sqlite:", "sqlite+aiosqlite:").replace("postgresql:", "postgresql+asyncpg:")
            asyncio.run(fill(engine_url, options.files))
        print(f"{options.database}, {options.files:,} files before")
        with serving(folder, url, password=password) as server:
            measure(server, seconds=options.seconds)


if __name__ == "__main__":
    main()
