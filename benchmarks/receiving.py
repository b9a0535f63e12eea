"""What receiving a drive costs beside the bare work: copy, fsync, and one read.

``python -m benchmarks.receiving [--large N] [--small N] [--rounds N] [FOLDER]``, as root, for it mounts images past the
host's page cache; FOLDER is on the disk in question. A drive is sealed once; then, in turns, its bytes are copied in
1 MiB pieces onto a fresh image, each file fsynced, and all of them read once, and a fresh site on such an image
receives it, on SQLite and on PostgreSQL, until every file is verified and its sender is to be told. The drive is
plugged in anew each time, so that nothing of it is cached.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
import uuid
from collections import deque
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.drives import Disk, disks_in
from tests.postgres import Databases, running_cluster

from librarian import accepting, manifest
from librarian.catalog import migrations
from librarian.checksum import Algorithm, measure_blocking
from librarian.keys import SigningKey
from librarian.names import AccountName, SiteName
from librarian.policies import MIB
from librarian.settings import Limits, Settings, StoreSettings
from librarian.site import Site, open_site
from librarian.states import Kind, Reach
from librarian.stores import examining
from librarian.stores.identity import Identity
from librarian.tasks.ingest import Ingest
from librarian.tasks.receive import Receive
from librarian.tasks.supervisor import Supervisor
from librarian.timing import utc_now
from librarian.wire.manifest import Entry, Head, Sender

if TYPE_CHECKING:
    from tests.drives import Disks

LARGE_BYTES: Final = 64 * 10**6
SMALL_BYTES: Final = 10_000
PIECE: Final = MIB
SENDER: Final = SiteName("chajnantor")
RECEIVER: Final = SiteName("nersc")
#: As stated: of the bare work, and files per second.
SHARE: Final = 0.9
RATE: Final = 800


def seal(at: Path, count: int, size: int) -> SigningKey:
    """Make of the place *at* a sealed drive with *count* files; the key that has signed it."""
    key = SigningKey(SigningKey.mint())
    store = str(uuid.uuid4())
    examining.found(at, Identity(uuid=store, generation=1))
    head = Head(
        uuid=str(uuid.uuid4()), drive="A07", store=store, generation=1, round=1, serial=None,
        sender=Sender(name=SENDER, uuid=str(uuid.uuid4())), to=RECEIVER, sealed_at=utc_now(),
        files=count, bytes=count * size, key=key.public,
    )  # fmt: skip
    (at / "obs").mkdir()
    with manifest.ManifestWriter(os.open(at, os.O_RDONLY | os.O_DIRECTORY), head) as writer:
        for number in range(count):
            name = f"obs/{number:06}"
            (at / name).write_bytes(os.urandom(size))
            measured = measure_blocking(at / name, Algorithm.XXH3)
            entry = Entry(
                uuid=str(uuid.uuid4()), name=name, kind=Kind.FILE.value, size=size, checksum=str(measured.checksum),
                uploader="bench", origin=SENDER, created_at=utc_now(), members=None,
            )  # fmt: skip
            writer.add(manifest.line(entry))
        writer.finish(key)
    return key


def bare(drive: Path, at: Path) -> float:
    """Seconds that the bare work takes."""
    sources = sorted((drive / "obs").iterdir())
    begun = time.perf_counter()
    for source in sources:
        with source.open("rb", buffering=0) as reading, (at / source.name).open("wb", buffering=0) as writing:
            while piece := reading.read(PIECE):
                writing.write(piece)
            os.fsync(writing.fileno())
    for source in sources:
        with (at / source.name).open("rb", buffering=0) as reading:
            while reading.read(PIECE):
                pass
    return time.perf_counter() - begun


async def receive(url: str, state: Path, drive: Path, at: Path, key: SigningKey, count: int) -> float:
    """Seconds until a new site with its store at *at* holds all *count* files of the drive."""
    store = StoreSettings(name="fast", root=at / "root", staging=at / "staging")
    settings = Settings(
        name=RECEIVER,
        state=state,
        database=url,
        stores=(store,),
        limits=Limits(workers=2, database_wait=timedelta(seconds=20)),
    )
    async with open_site(settings) as site:
        await know_sender(site, key)
        async with site.catalog.begin() as tx:
            admin = await tx.accounts.create(AccountName("admin"), password_hash="", roles=frozenset())
        async with Supervisor(site, [Ingest(site), Receive(site)]):
            begun = time.perf_counter()
            await accepting.accept(site, admin, accepting.Order(path=drive))
            while True:
                await asyncio.sleep(0.02)
                async with site.catalog.read() as tx:
                    if (await tx.tallies.of("held")).files == count:
                        return time.perf_counter() - begun


async def know_sender(site: Site, key: SigningKey) -> None:
    async with site.catalog.begin() as tx:
        peer = await tx.peers.add(
            SENDER, url="", username="", secret=b"", reach=Reach.POLL, accepts=[""], entry_points=[]
        )
        await tx.peers.learn_key(peer.id, key.public)


class Bench:
    """One drive, and what it takes to receive it again and again."""

    def __init__(self, folder: Path, disks: Disks, databases: Databases, *, count: int, size: int) -> None:
        self._folder, self._disks, self._databases = folder, disks, databases
        self._count, self._size = count, size
        self._image_bytes = int(count * size * 1.1) + 256 * MIB
        self._drive = disks.new(f"drive-{size}", size=self._image_bytes)
        self._key = seal(self._drive.plug(folder / "media"), count, size)
        self._drive.unplug()
        self._turns = 0

    def floor(self) -> float:
        """Seconds of the bare work."""
        target = self._fresh()
        try:
            return bare(self._drive.plug(self._folder / "media", read_only=True), target.plug(self._folder / "store"))
        finally:
            self._away(target)

    def ours(self, kind: str) -> float:
        """Seconds of receiving with a catalog of this *kind*."""
        target = self._fresh()
        state = self._folder / f"{kind}-{self._size}-{self._turns}"
        try:
            drive = self._drive.plug(self._folder / "media", read_only=True)
            at = target.plug(self._folder / "store")
            return asyncio.run(receive(self._url(kind, state), state, drive, at, self._key, self._count))
        finally:
            self._away(target)

    def _url(self, kind: str, state: Path) -> str:
        if kind == "sqlite":
            return self._databases.new_sqlite(state.with_suffix(".sqlite"))
        assert self._databases.cluster is not None, "needs PostgreSQL"
        return self._databases.cluster.url(self._databases.new_postgresql())

    def _fresh(self) -> Disk:
        self._turns += 1
        return self._disks.new("store", size=self._image_bytes)

    def _away(self, target: Disk) -> None:
        self._drive.unplug()
        target.unplug()
        target.image.unlink()

    def run(self, rounds: int) -> bool:
        """Print what each took, in turns; whether all is as fast as wanted."""
        taken: dict[str, list[float]] = {"bare": [], "sqlite": [], "postgresql": []}
        # Each is the first of a round as often as the others: what one has written may slow down the next.
        order = deque(taken)
        for _ in range(rounds):
            for kind in order:
                taken[kind].append(self.floor() if kind == "bare" else self.ours(kind))
            order.rotate()
        middle = {kind: statistics.median(seconds) for kind, seconds in taken.items()}
        what = f"{self._count:,} × {self._size / 1000:,.0f} KB"
        keeps = True
        for kind in ("sqlite", "postgresql"):
            ratio, rate = middle["bare"] / middle[kind], self._count / middle[kind]
            keeps = keeps and (ratio >= SHARE if self._size == LARGE_BYTES else rate >= RATE)
            speed = f"{rate * self._size / 1e6:,.0f} MB/s" if self._size == LARGE_BYTES else f"{rate:,.0f} files/s"
            each = " ".join(f"{seconds:.2f}" for seconds in taken[kind])
            print(f"{what} on {kind}: {speed}, {ratio:.2f} of the bare work   (seconds: {each})", flush=True)
        print(f"{what}, bare, seconds: {' '.join(f'{seconds:.2f}' for seconds in taken['bare'])}", flush=True)
        return keeps


def main() -> int:
    """Run it for both sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--large", type=int, default=64, help="files of 64 MB")
    parser.add_argument("--small", type=int, default=1000, help="files of 10 KB")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    keeps = True
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        databases = Databases(stack.enter_context(running_cluster()), folder, migrations.upgrade_blocking)
        disks = stack.enter_context(disks_in(folder))
        for count, size in ((options.small, SMALL_BYTES), (options.large, LARGE_BYTES)):
            if count:
                bench = Bench(folder, disks, databases, count=count, size=size)
                keeps = bench.run(options.rounds) and keeps
    print(f"load of this machine: {os.getloadavg()[0]:.1f}")
    return 0 if keeps else 1


if __name__ == "__main__":
    raise SystemExit(main())
