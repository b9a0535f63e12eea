"""Bringing a source's bytes to an open upload: through a shared file system, or over HTTP."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from librarian.checksum import Algorithm, Checksum, MemberDigest, book_checksum
from librarian.client import copying, sending
from librarian.client.lanes import Halt, in_lanes
from librarian.client.progress import Meter, Phase
from librarian.client.sources import confirm_unchanged
from librarian.states import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta

    from librarian.client.connection import Connection
    from librarian.client.sources import Part, Source
    from librarian.wire.uploads import Upload

#: Members of one book that are brought at the same time.
LANES: Final = 4
#: What one trip to a thread copies or measures at most.
TRIP_PARTS: Final = 64
TRIP_BYTES: Final = 8 * 1024**2


@dataclass(frozen=True, kw_only=True)
class Way:
    """How this client brings bytes to this librarian."""

    algorithm: Algorithm = Algorithm.XXH3
    #: Whether staging may be written directly; None: look for the probe file.
    is_shared: bool | None = None
    #: How long a broken connection is resumed without any progress.
    patience: timedelta


async def bring(connection: Connection, source: Source, opened: Upload, way: Way, meter: Meter) -> Checksum:
    """Bring the bytes by the best way, and return the checksum measured on the way.

    Raises
    ------
    SourceChanged
        The source did not stand still.
    LibrarianError
        What the disk or the librarian refused.
    """
    meter.enter(Phase.COPYING)
    is_shared = way.is_shared
    if is_shared is None:
        is_shared = await asyncio.to_thread(shares_staging, opened)
    if is_shared:
        return await _copy(source, opened.staging_path, way.algorithm, meter)
    return await _send(connection, source, opened, way, meter)


def shares_staging(opened: Upload) -> bool:
    """Whether the staging that *opened* names is on a file system that we see and may write; blocks on the disk."""
    if "shared" not in opened.ways or not os.path.exists(opened.probe_path):  # noqa: PTH110 - text all the way
        return False
    return os.access(os.path.dirname(opened.staging_path), os.W_OK | os.X_OK)  # noqa: PTH120


async def measure(source: Source, algorithm: Algorithm, meter: Meter) -> Checksum:
    """Read *source* without bringing it anywhere; raises SourceChanged."""
    meter.enter(Phase.COPYING)

    def one(part: Part, on_bytes: Callable[[int], None]) -> str:
        return copying.measure_part(part, algorithm, on_bytes)

    return await _in_trips(source, algorithm, meter, one)


async def _copy(source: Source, staging: str, algorithm: Algorithm, meter: Meter) -> Checksum:
    if source.kind is Kind.BOOK:
        await asyncio.to_thread(copying.make_directories, staging, source.directories)

    def one(part: Part, on_bytes: Callable[[int], None]) -> str:
        target = staging if part.member is None else f"{staging}/{part.member}"
        return copying.copy_part(part, target, algorithm, on_bytes)

    return await _in_trips(source, algorithm, meter, one)


async def _in_trips(
    source: Source, algorithm: Algorithm, meter: Meter, one: Callable[[Part, Callable[[int], None]], str]
) -> Checksum:
    halt = Halt()

    def on_bytes(count: int) -> None:
        halt.check()
        meter.add_bytes(count)

    def trip(parts: Sequence[Part]) -> list[str]:
        return [one(part, on_bytes) for part in parts]

    digests = await in_lanes(tuple(_trips(source.parts)), lambda parts: halt.in_thread(trip, parts), lanes=LANES)
    await asyncio.to_thread(confirm_unchanged, source)
    return checksum_of(source, algorithm, [digest for some in digests for digest in some])


def _trips(parts: Sequence[Part]) -> Iterator[tuple[Part, ...]]:
    """Neighbouring parts, so many that a trip is worth it and so few that the lanes share the work."""
    some: list[Part] = []
    size = 0
    for part in parts:
        if some and (len(some) == TRIP_PARTS or size + part.size > TRIP_BYTES):
            yield tuple(some)
            some, size = [], 0
        some.append(part)
        size += part.size
    if some:
        yield tuple(some)


async def _send(connection: Connection, source: Source, opened: Upload, way: Way, meter: Meter) -> Checksum:
    async def one(part: Part) -> str:
        return await sending.send_part(
            connection, opened, part, algorithm=way.algorithm, meter=meter, patience=way.patience
        )

    if source.kind is Kind.BOOK and (source.empty_directories or not source.parts):
        await sending.send_directories(connection, opened, source.empty_directories)
    digests = await in_lanes(source.parts, one, lanes=LANES)
    await asyncio.to_thread(confirm_unchanged, source)
    return checksum_of(source, way.algorithm, digests)


def checksum_of(source: Source, algorithm: Algorithm, digests: Sequence[str]) -> Checksum:
    """The checksum of a source whose parts have these *digests*, in the order of the parts."""
    if source.kind is Kind.FILE:
        return Checksum.of(algorithm, digests[0])
    members = [
        MemberDigest(path=part.member, size=part.size, hex=digest)
        for part, digest in zip(source.parts, digests, strict=True)
        if part.member is not None
    ]
    members += [MemberDigest(path=directory, size=0, hex=None) for directory in source.empty_directories]
    return book_checksum(members, algorithm)
