"""Bringing the bytes over HTTP: resumed where a broken connection left off, hashed as they are read."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from librarian.checksum import Algorithm, Hasher
from librarian.client import copying
from librarian.client.connection import LONGEST_PAUSE, is_passing, segment
from librarian.errors import LibrarianError, PeerUnavailable, RangeUnsatisfiable, Unavailable
from librarian.timing import retry_delay
from librarian.wire.uploads import Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import timedelta

    from librarian.client.connection import Connection
    from librarian.client.progress import Meter
    from librarian.client.sources import Part
    from librarian.names import MemberPath

#: Bytes read in one trip to a thread, and handed to the socket at once.
CHUNK: Final = 1024**2


@dataclass(kw_only=True)
class _Reading:
    """A part that is being read for the wire: hashed once, whatever is sent again.

    The connection breaks, not the reading: ``failure`` keeps what the disk said, which the HTTP client would hide.
    """

    part: Part
    hasher: Hasher
    descriptor: int
    meter: Meter
    hashed: int = 0
    shown: int = 0
    failure: LibrarianError | None = None

    def read_at(self, offset: int) -> bytes:
        """The next chunk from *offset*; in a thread. Bytes that were not hashed before are."""
        buffer = bytearray(min(CHUNK, self.part.size - offset))
        view = memoryview(buffer)
        os.lseek(self.descriptor, offset, os.SEEK_SET)
        there = 0
        while there < len(buffer):
            there += copying.fill(self.descriptor, view[there:], self.part)
        if offset <= self.hashed < offset + len(buffer):
            self.hasher.update(view[self.hashed - offset :])
            self.hashed = offset + len(buffer)
        return bytes(buffer)

    def show(self, offset: int) -> None:
        """Let the meter know that the librarian has everything before *offset*, and nothing after."""
        self.meter.add_bytes(offset - self.shown)
        self.shown = offset

    def catch_up(self, offset: int) -> None:
        """Hash what the librarian already has and we have not read yet; in a thread."""
        while self.hashed < min(offset, self.part.size):
            self.read_at(self.hashed)


async def send_part(
    connection: Connection, upload: Upload, part: Part, *, algorithm: Algorithm, meter: Meter, patience: timedelta
) -> str:
    """PUT one file of a source; returns its digest.

    Broken connections are resumed until nothing has moved for *patience*.

    Raises
    ------
    SourceChanged, BadRequest
        About the source.
    LibrarianError
        What the librarian refused.
    """
    descriptor = await asyncio.to_thread(copying.open_source, part)
    reading = _Reading(part=part, hasher=Hasher(algorithm), descriptor=descriptor, meter=meter)
    try:
        await _send(connection, _content_path(upload, part), reading, patience)
        await asyncio.to_thread(copying.confirm_part, descriptor, part)
    finally:
        await asyncio.to_thread(os.close, descriptor)
    return reading.hasher.hexdigest()


def _content_path(upload: Upload, part: Part) -> str:
    path = f"/uploads/{upload.id}/content"
    return path if part.member is None else f"{path}/{segment(part.member)}"


async def _send(connection: Connection, path: str, reading: _Reading, patience: timedelta) -> None:
    attempts, furthest, last_progress = 0, 0, time.monotonic()
    offset = await _received(connection, path)
    while True:
        if offset > furthest:
            attempts, furthest, last_progress = 0, offset, time.monotonic()
        await asyncio.to_thread(reading.catch_up, offset)
        reading.show(offset)
        try:
            await connection.stream_up(
                "PUT",
                path,
                _chunks(reading, offset) if offset < reading.part.size else b"",
                answer=Upload,
                query={"offset": str(offset)} if offset else None,
                headers={"Content-Length": str(reading.part.size - offset)},
            )
        except (Unavailable, RangeUnsatisfiable) as error:
            if reading.failure is not None:
                raise reading.failure from error
            attempts += 1
            pause = retry_delay(attempts, cap=LONGEST_PAUSE).total_seconds()
            gives_up = time.monotonic() + pause > last_progress + patience.total_seconds()
            if gives_up or not (is_passing(error) or isinstance(error, RangeUnsatisfiable)):
                raise
            await asyncio.sleep(pause)
            offset = await _received(connection, path)
        else:
            return


async def send_directories(connection: Connection, upload: Upload, directories: Sequence[MemberPath]) -> None:
    """Make a book's top directory and its empty directories, as a tar stream that holds nothing else."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in ("./", *(f"./{directory}/" for directory in directories)):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
    await connection.stream_up(
        "PUT",
        f"/uploads/{upload.id}/content",
        stream.getvalue(),
        answer=Upload,
        headers={"Content-Type": "application/x-tar"},
    )


async def _received(connection: Connection, path: str) -> int:
    """How many bytes the librarian has of what *path* stands for."""
    status, headers = await connection.head(path)
    if status == 404:
        return 0
    if status >= 300:
        raise PeerUnavailable(
            f"the librarian answered {status} when asked how much it has", remedy="Describe the upload to see why."
        )
    return int(headers.get("Upload-Offset", headers.get("Content-Length", "0")))


async def _chunks(reading: _Reading, offset: int) -> AsyncIterator[bytes]:
    """The bytes from *offset* on, the next chunk being read while the last one is on its way."""
    size = reading.part.size
    next_one = asyncio.ensure_future(asyncio.to_thread(reading.read_at, offset))
    try:
        while True:
            chunk = await next_one
            offset += len(chunk)
            is_last = offset >= size
            if not is_last:
                next_one = asyncio.ensure_future(asyncio.to_thread(reading.read_at, offset))
            yield chunk
            reading.show(offset)
            if is_last:
                return
    except LibrarianError as error:
        reading.failure = error
        raise
    finally:
        # The descriptor is closed soon: no thread may read from it then.
        if not next_one.done():
            await asyncio.wait([next_one])
