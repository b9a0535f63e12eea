"""How fast uploads are taken in, verified and durable: large ones against the disk, small ones by count.

Client, server and database share one machine. Large payloads are compared with ``cp``, a barrier (``fsync`` of a
file, ``syncfs`` for a book) and one read that hashes what was copied; both take turns, since disks have moods. CPU
seconds are those of the client, the server and its workers together. Each round of the large ones leaves 8 or 4 GB.

    python -m benchmarks.upload [--database sqlite|postgresql] [--rounds 5] [--only large|book|each|many] [FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.serving import Server, fresh_catalog, serving
from librarian.checksum import Algorithm, measure_blocking
from librarian.stores import syscalls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

LARGE_BYTES: Final = 4 * 1024**3
MEMBERS: Final = 1000
MEMBER_BYTES: Final = 2_000_000
FILES: Final = 1000
SMALL_BYTES: Final = 10_000
#: The claims: at most so many times the limit; at least so many files per second.
RATIOS: Final = {"large": 1.15, "book": 1.25}
RATES: Final = {"each": {"sqlite": 90, "postgresql": 90}, "many": {"sqlite": 800, "postgresql": 1500}}


def make_large(source: Path) -> None:
    """One large file."""
    block = os.urandom(64 * 1024**2)
    with source.open("wb") as file:
        for _ in range(LARGE_BYTES // len(block)):
            file.write(block)


def make_book(source: Path) -> None:
    """A book of members of middling size."""
    source.mkdir()
    for number in range(MEMBERS):
        (source / f"member-{number:04}").write_bytes(os.urandom(MEMBER_BYTES))


def make_small(source: Path) -> list[Path]:
    """Many small files."""
    source.mkdir()
    made = [source / f"small-{number:04}" for number in range(FILES)]
    for path in made:
        path.write_bytes(os.urandom(SMALL_BYTES))
    return made


def limit(source: Path, target: Path) -> None:
    """Copy durably, then read and hash the copy."""
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    descriptor = os.open(target, os.O_RDONLY)
    (syscalls.syncfs if target.is_dir() else os.fsync)(descriptor)
    os.close(descriptor)
    measure_blocking(target, Algorithm.XXH3)


def own_cpu() -> float:
    """CPU seconds of this process and of those that it has ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


async def timed(work: Callable[[], Awaitable[object]], server: Server | None) -> tuple[float, float]:
    """Seconds and CPU seconds that *work* took."""
    before = own_cpu() + (server.cpu_seconds() if server else 0)
    started = time.perf_counter()
    await work()
    seconds = time.perf_counter() - started
    return seconds, own_cpu() + (server.cpu_seconds() if server else 0) - before


async def against_disk(server: Server, what: str, source: Path, rounds: int) -> None:
    """Upload *source* and copy it by hand in turns; print the ratio."""
    pairs = []
    target = server.folder / "by-hand"
    target.mkdir(exist_ok=True)
    async with server.client() as client:

        async def ours(name: str) -> tuple[float, float]:
            os.sync()
            return await timed(partial(client.upload, source, name), server)

        async def theirs(name: str) -> tuple[float, float]:
            os.sync()
            return await timed(partial(asyncio.to_thread, limit, source, target / name), None)

        for number in range(rounds):
            name = f"{what}-{number}"
            # Each goes first as often, and nothing is removed in between: memory that was just freed is much faster to
            # write to than memory that a virtual machine has to ask its host for.
            if number % 2:
                by_hand = await theirs(name)
                pairs.append((await ours(name), by_hand))
            else:
                pairs.append((await ours(name), await theirs(name)))
    ratios = sorted(ours[0] / theirs[0] for ours, theirs in pairs)
    cpu = statistics.median(ours[1] / theirs[1] for ours, theirs in pairs)
    print(
        f"  {what}: ratio to the disk best {ratios[0]:.2f}, median {statistics.median(ratios):.2f}, worst "
        f"{ratios[-1]:.2f} (claimed {RATIOS[what]}); CPU {statistics.median(o[1] for o, _ in pairs):.1f} s, "
        f"ratio {cpu:.2f}; ours {statistics.median(o[0] for o, _ in pairs):.2f} s, "
        f"limit {statistics.median(t[0] for _, t in pairs):.2f} s",
        flush=True,
    )


async def by_count(server: Server, database: str, what: str, paths: list[Path], rounds: int) -> None:
    """Upload *paths* one after the other (``each``) or in lists (``many``); print files per second."""
    async with server.client() as client:

        async def each(prefix: str) -> None:
            for path in paths:
                await client.upload(path, f"{prefix}/{path.name}")

        async def many(prefix: str) -> None:
            await client.upload_many([(path, f"{prefix}/{path.name}") for path in paths])

        way = {"each": each, "many": many}[what]
        results = [await timed(partial(way, f"{what}/{number}"), server) for number in range(rounds)]
    rates = sorted(len(paths) / seconds for seconds, _ in results)
    cpu = statistics.median(cpu for _, cpu in results) / len(paths)
    print(
        f"  {what}: files/s best {rates[-1]:,.0f}, median {statistics.median(rates):,.0f}, worst {rates[0]:,.0f} "
        f"(claimed {RATES[what][database]}); CPU {cpu * 1e3:.2f} ms per file",
        flush=True,
    )


async def measure(server: Server, options: argparse.Namespace) -> None:
    """Run what was asked for, one after the other."""
    chosen = [options.only] if options.only else ["each", "many", "book", "large"]
    for what in chosen:
        source = server.folder / f"source-{what}"
        if what in RATES:
            await by_count(server, options.database, what, make_small(source), options.rounds)
            continue
        {"large": make_large, "book": make_book}[what](source)
        os.sync()
        await against_disk(server, what, source, options.rounds)
    now, peak = server.memory()
    print(f"  server: {now / 1e6:.0f} MB resident, {peak / 1e6:.0f} MB at most")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("large", "book", "each", "many"))
    options = parser.parse_args()
    with fresh_catalog(options.database, options.folder) as (folder, url), serving(folder, url) as server:
        print(f"{options.database}, medians of {options.rounds}", flush=True)
        asyncio.run(measure(server, options))


if __name__ == "__main__":
    main()
