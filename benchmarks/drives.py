"""Sealing a drive: how long 100,000 files take from the order to the signed manifest, fsynced on the drive.

``python -m benchmarks.drives [--files N] [--folder DIR] [--database URL]``: DIR is where the catalog and the drive's
image lie; the drive is a loop device that bypasses the cache of its image, and needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from tests.drives import disks_in

from librarian import drives, manifest, sealing
from librarian.catalog import migrations
from librarian.catalog.files import NewFile
from librarian.catalog.instances import NewInstance
from librarian.checksum import Checksum
from librarian.names import FileName, SiteName, StoreName
from librarian.settings import Limits, Settings, StoreSettings
from librarian.site import Site, open_site
from librarian.states import DriveState, Kind, Reach, VerifiedFrom
from librarian.tasks.seal import Seal
from librarian.timing import plenty_of_time, utc_now

DRIVE: Final = StoreName("a07")
PEER: Final = SiteName("nersc")
#: As stated for 100,000 files.
SECONDS: Final = 3.0
_PAGE: Final = 5000


class Memory:
    """The most memory that this process had in use, sampled, beyond what it had at first."""

    def __init__(self) -> None:
        self._ends = threading.Event()
        self._first = self.most = _resident()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ends.wait(0.02):
            self.most = max(self.most, _resident())

    def stop(self) -> int:
        """Bytes beyond the first look."""
        self._ends.set()
        self._thread.join()
        return self.most - self._first


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def fill(site: Site, files: int) -> None:
    """Have *files* on the drive, as the catalog knows it: sealing does not read them."""
    for first in range(0, files, _PAGE):
        names = [
            FileName(f"2026/11/{number // 1000:04}/frame-{number:07}.fits") for number in range(first, first + _PAGE)
        ]
        async with site.catalog.begin() as tx:
            new = [
                NewFile(
                    name=name,
                    kind=Kind.FILE,
                    size=10_000,
                    checksum=Checksum.trusted(f"xxh3:{abs(hash(name)):032x}"),
                    uploader="ana",
                    origin=site.name,
                    created_at=utc_now(),
                )
                for name in names
            ]
            ids = await tx.files.add(new)
            await tx.instances.add(
                [
                    NewInstance(file_id=each, store=DRIVE, verified_at=utc_now(), verified_from=VerifiedFrom.MEDIUM)
                    for each in ids.values()
                ]
            )
            await tx.tallies.add(f"store:{DRIVE}", files=len(ids), bytes=10_000 * len(ids))


async def seal(site: Site, *, files: int) -> tuple[float, int]:
    """Seconds, and bytes of memory, that it takes to seal the drive."""
    memory = Memory()
    started = time.perf_counter()
    await sealing.begin(site, DRIVE, peer=PEER, who="benchmark", is_unasked=True)
    await Seal(site).run_pass(plenty_of_time())
    took = time.perf_counter() - started
    used = memory.stop()
    async with site.catalog.read() as tx:
        drive = await tx.drives.get(DRIVE)
    assert drive.state is DriveState.SEALED, drive.state
    assert manifest.open_manifest(Path(drive.path) / manifest.NAME).head.files == files
    return took, used


async def run(folder: Path, *, files: int, database: str | None) -> None:
    """Measure, and print."""
    url = database or f"sqlite+aiosqlite:///{folder}/catalog.sqlite"
    await migrations.upgrade(url)
    (folder / "root").mkdir()
    settings = Settings(
        name="chajnantor",
        state=folder,
        database=url,
        stores=(StoreSettings(name="fast", root=folder / "root", staging=folder / "staging"),),
        limits=Limits(workers=1, database_wait=timedelta(seconds=20)),
    )
    with disks_in(folder) as disks:
        media = disks.new("a07", size=512 * 1024**2).plug(folder / "media")
        async with open_site(settings) as site:
            wanted = drives.Wanted(name=DRIVE, path=media, full_at=980, is_folder=False, who="benchmark")
            await drives.initiate(site, wanted)
            async with site.catalog.begin() as tx:
                secret = site.neighbours.secrets.encrypt("secret")
                await tx.peers.add(
                    PEER,
                    url="http://127.0.0.1:9",
                    username="a",
                    secret=secret,
                    reach=Reach.PUSH,
                    accepts=[""],
                    entry_points=[],
                )
            await fill(site, files)
            took, used = await seal(site, files=files)
    goal = SECONDS * files / 100_000
    print(f"sealing {files:,} files: {took:.2f} s, at most {goal:.2f} s ({took / goal:.2f}); {used / 1e6:.0f} MB more")


def main() -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--database", default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        asyncio.run(run(Path(folder), files=options.files, database=options.database))


if __name__ == "__main__":
    main()
