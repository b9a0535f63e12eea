"""What a store costs beside the system calls that any way of doing it durably would need.

Run it with a folder on the disk in question: ``python benchmarks/stores.py [folder]``. Each line gives our figure,
the floor's, and their ratio; the floor is the same work by bare system calls in one thread, without checks, measured
beside it. Medians of several rounds, alternating, because a shared disk has moods.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from librarian.checksum import Algorithm, Hasher
from librarian.names import FileName, StoreName, Token
from librarian.states import Kind
from librarian.stores import syscalls
from librarian.stores.base import Barrier, Publication, Publishing, StoreSpec
from librarian.stores.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

FILES: Final = 1000
CONTENT: Final = os.urandom(10_000)
CHUNK: Final = os.urandom(256 * 1024)
CHUNKS: Final = 2048
ROUNDS: Final = 5

Figures = dict[str, list[float]]


class Watch:
    """Collects the seconds that named pieces of work took."""

    def __init__(self) -> None:
        self.figures: Figures = {}

    def lap(self, what: str, since: float) -> None:
        """Note that *what* ends now."""
        self.figures.setdefault(what, []).append(time.perf_counter() - since)

    def median(self, what: str) -> float:
        """Seconds that *what* took, half of the time."""
        return statistics.median(self.figures[what])


async def small_files(store: LocalStore, watch: Watch) -> None:
    tokens = [Token.mint() for _ in range(FILES)]
    folder = Token.mint()
    items = [Publication(token=t, name=FileName(f"{folder}/{n}"), kind=Kind.FILE) for n, t in enumerate(tokens)]
    begun = time.perf_counter()
    await store.stage(tokens)
    watch.lap("stage", begun)
    begun = time.perf_counter()
    await store.write_small([(token, None, CONTENT) for token in tokens])
    watch.lap("write", begun)
    begun = time.perf_counter()
    await store.inspect(tokens)
    watch.lap("inspect", begun)
    begun = time.perf_counter()
    assert set(await store.publish(items)) == {Publishing.PUBLISHED}
    watch.lap("publish", begun)
    begun = time.perf_counter()
    await store.clear(tokens)
    watch.lap("clear", begun)


def bare_small_files(folder: Path, watch: Watch, sync: Callable[[int], None]) -> None:
    staging, root = folder / str(Token.mint()), folder / str(Token.mint())
    staging.mkdir()
    root.mkdir()
    staging_fd, root_fd = os.open(staging, os.O_RDONLY), os.open(root, os.O_RDONLY)
    names = [str(number) for number in range(FILES)]
    begun = time.perf_counter()
    for name in names:
        os.mkdir(name, dir_fd=staging_fd)
    watch.lap("stage", begun)
    begun = time.perf_counter()
    for name in names:
        fd = os.open(f"{name}/payload", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=staging_fd)
        os.write(fd, CONTENT)
        os.close(fd)
    watch.lap("write", begun)
    begun = time.perf_counter()
    for name in names:
        os.stat(f"{name}/payload", dir_fd=staging_fd)
    watch.lap("inspect", begun)
    begun = time.perf_counter()
    for name in names:
        os.chmod(f"{name}/payload", 0o444, dir_fd=staging_fd)
    sync(root_fd)
    for name in names:
        os.rename(f"{name}/payload", name, src_dir_fd=staging_fd, dst_dir_fd=root_fd)
    sync(root_fd)
    watch.lap("publish", begun)
    begun = time.perf_counter()
    for name in names:
        os.rmdir(name, dir_fd=staging_fd)
    watch.lap("clear", begun)
    os.close(staging_fd)
    os.close(root_fd)


def bare_durable_files(folder: Path, watch: Watch) -> None:
    """What a careful program does without batches: write, fsync, rename, fsync the directory."""
    target = folder / str(Token.mint())
    target.mkdir()
    fd = os.open(target, os.O_RDONLY)
    begun = time.perf_counter()
    for number in range(FILES):
        file = os.open(f"{number}.new", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=fd)
        os.write(file, CONTENT)
        os.fsync(file)
        os.close(file)
        os.rename(f"{number}.new", str(number), src_dir_fd=fd, dst_dir_fd=fd)
        os.fsync(fd)
    watch.lap("one by one", begun)
    os.close(fd)


async def body() -> AsyncIterator[bytes]:
    for _ in range(CHUNKS):
        yield CHUNK


async def large_file(store: LocalStore, watch: Watch) -> None:
    token = Token.mint()
    await store.stage([token])
    begun = time.perf_counter()
    await store.write(token, None, body(), offset=0, limit=len(CHUNK) * CHUNKS)
    watch.lap("stream", begun)
    os.sync()
    begun = time.perf_counter()
    await store.take(token, Algorithm.XXH3)
    watch.lap("take", begun)
    await store.clear([token])


def bare_large_file(folder: Path, watch: Watch) -> None:
    source, copy = folder / "large", folder / "large copy"
    begun = time.perf_counter()
    with source.open("wb", buffering=0) as file:
        for _ in range(CHUNKS):
            file.write(CHUNK)
    watch.lap("stream", begun)
    os.sync()
    begun = time.perf_counter()
    hasher = Hasher(Algorithm.XXH3)
    with source.open("rb", buffering=0) as reading, copy.open("wb", buffering=0) as writing:
        while piece := reading.read(1024 * 1024):
            hasher.update(piece)
            writing.write(piece)
        os.fsync(writing.fileno())
    watch.lap("take", begun)
    source.unlink()
    copy.unlink()


async def measure(folder: Path) -> tuple[Watch, Watch]:
    ours, bare = Watch(), Watch()
    spec = StoreSpec(name=StoreName("bench"), root=folder / "root", staging=folder / "staging", barrier=Barrier.SYNCFS)
    store = LocalStore(spec)
    await store.open(expected_uuid=None, generation=1)
    for _ in range(ROUNDS):
        await small_files(store, ours)
        bare_small_files(folder, bare, syscalls.syncfs)
        bare_durable_files(folder, bare)
        await large_file(store, ours)
        bare_large_file(folder, bare)
    await store.close()
    return ours, bare


def report(ours: Watch, bare: Watch) -> None:
    print(f"{FILES:,} files of {len(CONTENT):,} bytes, one trip each; microseconds per file, medians of {ROUNDS}")
    for what in ("stage", "write", "inspect", "publish", "clear"):
        our, floor = ours.median(what) / FILES * 1e6, bare.median(what) / FILES * 1e6
        print(f"  {what:8} {our:7.1f}   bare {floor:7.1f}   ratio {our / floor:5.2f}")
    all_of_it = sum(ours.median(what) for what in ("stage", "write", "inspect", "publish", "clear"))
    one_by_one = bare.median("one by one")
    print(f"  durably, all of it {FILES / all_of_it:,.0f} /s   bare one by one {FILES / one_by_one:,.0f} /s", end="")
    print(f"   ratio {one_by_one / all_of_it:.2f} times as fast")
    size = len(CHUNK) * CHUNKS
    print(f"one file of {size // 1024**2:,} MiB; MB/s")
    for what in ("stream", "take"):
        our, floor = size / ours.median(what) / 1e6, size / bare.median(what) / 1e6
        print(f"  {what:8} {our:7,.0f}   bare {floor:7,.0f}   ratio {floor / our:5.2f}")


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        report(*asyncio.run(measure(Path(folder))))


if __name__ == "__main__":
    main()
