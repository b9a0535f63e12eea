"""What loading a drive costs beside the bare work: copy, fsync, and one cold read.

Run it as root, for it mounts images past the host's page cache, with a folder on the disk in question:
``python -m benchmarks.loading [--large N] [--whole] [FOLDER]``. Each line gives our figure and the floor's, measured
in turns: the same bytes copied onto the same kind of image in 1 MiB pieces, each file fsynced, then all of them read
once after the cache was dropped. The small files are loaded with few and with many copies due, whose rate must not
differ, on both databases.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.postgres import running_cluster

from librarian import drives, replication
from librarian.catalog.files import NewFile
from librarian.catalog.instances import NewInstance
from librarian.checksum import Algorithm, measure_blocking
from librarian.names import FileName, RuleName, StoreName
from librarian.policies import MIB, RulePolicy
from librarian.settings import Limits, Settings, StoreSettings
from librarian.site import open_site
from librarian.states import Kind, VerifiedFrom
from librarian.tasks.backfill import Backfill
from librarian.tasks.ingest import Ingest
from librarian.tasks.load import Load
from librarian.tasks.supervisor import Supervisor
from librarian.timing import plenty_of_time, utc_now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from librarian.checksum import Checksum
    from librarian.site import Site

LARGE_BYTES: Final = 64 * 10**6
SMALL_BYTES: Final = 10_000
SMALL_LOADED: Final = 4_000
MANY_DUE: Final = 100_000
ROUNDS: Final = 3
PIECE: Final = MIB


@contextmanager
def image(folder: Path, size: int) -> Iterator[Path]:
    """A fresh ext4 file system of its own, written past the host's cache."""
    file, at = folder / "drive.img", folder / "media"
    at.mkdir(exist_ok=True)
    with file.open("wb") as made:
        made.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-i", "8192", file], check=True)
    find = ["losetup", "--find", "--show", "--direct-io=on", file]
    loop = subprocess.run([str(word) for word in find], check=True, capture_output=True, text=True).stdout.strip()
    try:
        subprocess.run(["mount", loop, at], check=True)
        try:
            yield at
        finally:
            subprocess.run(["umount", at], check=True)
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
        file.unlink()


def bare(sources: list[Path], at: Path) -> float:
    """Seconds that the bare work takes."""
    begun = time.perf_counter()
    for source in sources:
        with source.open("rb", buffering=0) as reading, (at / source.name).open("wb", buffering=0) as writing:
            while piece := reading.read(PIECE):
                writing.write(piece)
            os.fsync(writing.fileno())
    for source in sources:
        with (at / source.name).open("rb", buffering=0) as reading:
            os.posix_fadvise(reading.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while reading.read(PIECE):
                pass
    return time.perf_counter() - begun


@asynccontextmanager
async def site_in(folder: Path, database: str = "sqlite") -> AsyncIterator[Site]:
    """An empty site with one store."""
    folder.mkdir()
    store = StoreSettings(name="fast", root=folder / "root", staging=folder / "staging")
    limits = Limits(workers=2)
    settings = Settings(name="bench", state=folder / "state", stores=(store,), limits=limits, database=database)
    async with open_site(settings) as site:
        yield site


async def hold(site: Site, count: int, size: int, checksum: Checksum, *, prefix: str) -> None:
    """Have the catalog hold *count* files that are all alike."""
    now = utc_now()
    for first in range(0, count, 5000):
        names = [FileName(f"{prefix}{number:06}") for number in range(first, min(first + 5000, count))]
        async with site.catalog.begin() as tx:
            ids = await tx.files.add(
                [
                    NewFile(
                        name=name,
                        kind=Kind.FILE,
                        size=size,
                        checksum=checksum,
                        uploader="bench",
                        origin="bench",
                        created_at=now,
                    )
                    for name in names
                ]
            )
            await tx.instances.add(
                [
                    NewInstance(file_id=id_, store=StoreName("fast"), verified_at=now, verified_from=VerifiedFrom.CACHE)
                    for id_ in ids.values()
                ]
            )


async def load(site: Site, at: Path, drive: str, count: int) -> float:
    """Seconds until *count* copies rest on *drive*, which is new, at *at*."""
    name = StoreName(drive)
    await drives.initiate(site, drives.Wanted(name=name, path=at, full_at=1000, is_folder=False, who="bench"))
    async with site.catalog.begin() as tx:
        await replication.put_rule(tx, RuleName("a"), policy=RulePolicy(stores=(drive,)), who="bench")
    await Backfill(site).run_pass(plenty_of_time())
    begun = time.perf_counter()
    async with Supervisor(site, [Ingest(site), Load(site)]):
        while True:
            await asyncio.sleep(0.02)
            async with site.catalog.read() as tx:
                if (await tx.tallies.of(f"store:{name}")).files >= count:
                    return time.perf_counter() - begun


def make(root: Path, prefix: str, count: int, size: int) -> tuple[list[Path], Checksum]:
    """Files that are all alike, so that one measurement does for all."""
    content = os.urandom(size)
    paths = [root / f"{prefix}{number:06}" for number in range(count)]
    for path in paths:
        path.write_bytes(content)
    os.sync()
    return paths, measure_blocking(paths[0], Algorithm.XXH3).checksum


async def large(folder: Path, count: int) -> None:
    size = int(count * LARGE_BYTES * 1.1) + 256 * MIB
    ours, floor = [], []
    async with site_in(folder / "large") as site:
        paths, checksum = make(folder / "large" / "root", "large", count, LARGE_BYTES)
        await hold(site, count, LARGE_BYTES, checksum, prefix="large")
        for turn in range(ROUNDS):
            with image(folder, size) as at:
                floor.append(bare(paths, at))
            with image(folder, size) as at:
                ours.append(await load(site, at, f"A{turn}", count))
    rate, most = (count * LARGE_BYTES / statistics.median(each) / 1e6 for each in (ours, floor))
    print(f"{count} files of 64 MB: {rate:,.0f} MB/s   bare {most:,.0f} MB/s   ratio {rate / most:.2f}", flush=True)


async def small(folder: Path, due: int, name: str, database: str, *, most: int) -> None:
    loaded = min(due, most)
    place = folder / f"small-{due}-{name}"
    async with site_in(place, database) as site:
        # Enough for what is begun before we see that all are there.
        _, checksum = make(place / "root", "small", min(loaded + 4096, due), SMALL_BYTES)
        await hold(site, due, SMALL_BYTES, checksum, prefix="small")
        with image(folder, 1024 * MIB + loaded * 16 * 1024) as at:
            seconds = await load(site, at, "A07", loaded)
    print(f"{loaded:,} files of 10 KB with {due:,} due, {name}: {loaded / seconds:,.0f} files/s", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=64, help="files of 64 MB; 0: none")
    parser.add_argument("--whole", action="store_true", help="load all of what is due, not only the first of it")
    parser.add_argument("folder", nargs="?")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        if chosen.large:
            await large(Path(folder), chosen.large)
        with running_cluster() as cluster:
            most = MANY_DUE if chosen.whole else SMALL_LOADED
            for due in (1000, SMALL_LOADED, MANY_DUE):
                await small(Path(folder), due, "SQLite", "sqlite", most=most)
                if cluster is not None:
                    await small(Path(folder), due, "PostgreSQL", cluster.url(cluster.create()), most=most)


if __name__ == "__main__":
    asyncio.run(main())
