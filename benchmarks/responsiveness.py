"""How fast ``/healthz`` answers while a site hashes on all its workers and takes in batches, and what memory it takes.

A real ``librarian serve`` in a process of its own. Beside it one process keeps the workers hashing large books, one
uploads batches of 1,000 files of 10 KB, and one asks ``/healthz`` over and over. Resident memory is that of the
server alone, without its workers. With ``--files`` the catalog holds that many files before it starts.

    python -m benchmarks.responsiveness [--seconds 30] [--files 0] [--database sqlite|postgresql] [FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
from tests.postgres import Databases, running_cluster

from benchmarks.search import fill
from librarian.catalog import migrations
from librarian.client import LibrarianClient

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The claims, in milliseconds and bytes.
P99_MS: Final = 10.0
MAX_MS: Final = 60.0
RSS: Final = 200e6
PEAK_RSS: Final = 300e6
BATCH: Final = 1000
SMALL: Final = os.urandom(10_000)
BOOK_MEMBERS: Final = 8
MEMBER_BYTES: Final = 256 * 1024**2


@contextlib.contextmanager
def serving(folder: Path, database: str) -> Iterator[tuple[int, str, str]]:
    """A server process: its pid, its URL, and the password of its admin."""
    config = folder / "site.toml"
    config.write_text(
        f'name = "bench"\nlisten = "127.0.0.1:0"\nstate = "{folder}/state"\ndatabase = "{database}"\n'
        f'[[stores]]\nname = "fast"\nroot = "{folder}/store"\nstaging = "{folder}/staging"\n'
    )
    command = [sys.executable, "-m", "librarian.cli", "serve", "--config", str(config)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert server.stdout is not None
        password = server.stdout.readline().strip().rpartition(" ")[2]
        while (told := re.search(r"serves (http\S+)", (folder / "log").read_text())) is None:
            time.sleep(0.05)
        yield server.pid, told[1], password
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def memory(pid: int) -> tuple[int, int]:
    """Resident bytes of a process now, and at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    now, peak = (re.search(rf"{key}:\s+(\d+) kB", status) for key in ("VmRSS", "VmHWM"))
    assert now is not None
    assert peak is not None
    return int(now[1]) * 1024, int(peak[1]) * 1024


def cpu_seconds(pid: int) -> float:
    """CPU seconds a process has used, its children not counted."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def measure(folder: Path, database: str, *, seconds: float) -> None:
    """Run everything beside everything, and print."""
    with serving(folder, database) as (pid, url, password):
        environment = {**os.environ, "BENCH_PASSWORD": password}
        others = []
        for role in ("upload_batches", "upload_books"):
            (folder / role).mkdir()
            command = [sys.executable, "-m", "benchmarks.responsiveness", "--role", role, "--seconds", str(seconds)]
            others.append(subprocess.Popen([*command, "--url", url, str(folder / role)], env=environment))
        before = cpu_seconds(pid)
        times = sorted(watch(url, others))
        now, peak = memory(pid)
        p99 = times[int(len(times) * 0.99)]
        print(
            f"  /healthz: {len(times):,} answers, median {statistics.median(times):.1f} ms, p99 {p99:.1f} ms "
            f"(claimed {P99_MS:.0f}), max {times[-1]:.1f} ms (claimed {MAX_MS:.0f})"
        )
        print(f"  server: {now / 1e6:.0f} MB resident (claimed {RSS / 1e6:.0f}), {peak / 1e6:.0f} MB at most "
              f"(claimed {PEAK_RSS / 1e6:.0f}), {cpu_seconds(pid) - before:.1f} s of CPU")  # fmt: skip
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
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        cluster = stack.enter_context(running_cluster()) if options.database == "postgresql" else None
        databases = Databases(cluster, folder, migrations.upgrade_blocking)
        if cluster is not None:
            url = cluster.url(databases.new_postgresql())
        else:
            url = databases.new_sqlite(folder / "catalog.sqlite")
        plain = url.replace("+asyncpg", "").replace("+aiosqlite", "")
        if options.files:
            with serving(folder, plain):
                pass  # Registers the store that the files are on.
            asyncio.run(fill(url, options.files))
        print(f"{options.database}, {options.files:,} files before")
        measure(folder, plain, seconds=options.seconds)


if __name__ == "__main__":
    main()
