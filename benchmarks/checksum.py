"""How the checksum pool compares to reading and hashing the same bytes in a plain loop, in the same run.

A ratio of 1.0 is the speed of that loop (one process, one file after another, 1 MiB at a time); below is faster.
The payloads are in the page cache, so this measures the code, not the disk, which is slower than both.

    python benchmarks/checksum.py [FOLDER]
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from librarian.checksum import Algorithm, Hasher, Measured, pack_members, unpack_members
from librarian.checksum_pool import ChecksumPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROUNDS: Final = 5
MIB: Final = 1024 * 1024
#: Members and bytes of each.
SHAPES: Final = ((1, 1024 * MIB), (1000, 2_000_000), (10_000, 10_000))


def make(folder: Path, count: int, size: int) -> list[Path]:
    folder.mkdir()
    block = os.urandom(min(size, MIB))
    paths = [folder / f"{number:06d}" for number in range(count)]
    for path in paths:
        with path.open("wb") as file:
            for start in range(0, size, len(block)):
                file.write(block[: size - start])
    return paths


def plain_loop(paths: list[Path], algorithm: Algorithm) -> None:
    buffer = memoryview(bytearray(MIB))
    for path in paths:
        hasher = Hasher(algorithm)
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                hasher.update(buffer[:count])


class Lag:
    """The longest time that the event loop was kept from anything else, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        """Look every millisecond, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, loop.time() - before - 0.001)


async def timed(act: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Seconds of *act*, and the loop's longest pause meanwhile."""
    lag = Lag()
    watching = asyncio.create_task(lag.watch())
    start = time.perf_counter()
    await act()
    seconds = time.perf_counter() - start
    watching.cancel()
    return seconds, lag.longest


def seconds_of(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


async def compare(pool: ChecksumPool, folder: Path, *, count: int, size: int, algorithm: Algorithm) -> None:
    paths = make(folder, count, size)

    async def as_files() -> None:
        answers = await pool.measure_many(paths, algorithm)
        assert all(isinstance(answer, Measured) for answer in answers)

    async def as_book() -> None:
        await pool.measure(folder, algorithm)

    rows = [
        (seconds_of(lambda: plain_loop(paths, algorithm)), await timed(as_files), await timed(as_book))
        for _ in range(ROUNDS + 1)
    ][1:]
    plain = min(row[0] for row in rows)
    for label, best, lag in (
        ("files", min(row[1][0] for row in rows), sorted(row[1][1] for row in rows)[ROUNDS // 2]),
        ("book", min(row[2][0] for row in rows), sorted(row[2][1] for row in rows)[ROUNDS // 2]),
    ):
        print(
            f"{algorithm:7} {count:>6,} x {size:>13,} B as {label:5}  ratio {best / plain:4.2f}"
            f"  {count * size / best / 1e9:6.2f} GB/s  {best / count * 1e6:9.1f} us each"
            f"  longest pause {lag * 1e3:5.1f} ms"
        )


async def listing(pool: ChecksumPool, folder: Path) -> None:
    make(folder, 100_000, 100)
    seconds, lag = await timed(lambda: pool.measure(folder, Algorithm.XXH3))
    measured = await pool.measure(folder, Algorithm.XXH3)
    packing = seconds_of(lambda: pack_members(measured.members))
    blob = pack_members(measured.members)
    unpacking = seconds_of(lambda: unpack_members(blob))
    print(
        f"a book of 100,000 members: measured in {seconds:.2f} s, longest pause {lag * 1e3:.1f} ms;"
        f" listing {len(blob):,} B, packed in {packing:.2f} s, unpacked in {unpacking:.2f} s"
    )


async def main(folder: Path) -> None:
    async with ChecksumPool(os.cpu_count() or 1) as pool:
        for algorithm in (Algorithm.XXH3, Algorithm.SHA256):
            for count, size in SHAPES:
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    await compare(pool, Path(scratch) / "book", count=count, size=size, algorithm=algorithm)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            await listing(pool, Path(scratch) / "book")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir())))
