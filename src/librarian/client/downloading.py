"""Downloading: into a hidden place beside the target, measured while it is written, renamed when it is right.

An interrupted download goes on where it stopped: what stands in the hidden place is measured, never trusted.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from librarian.checksum import Checksum, Hasher, MemberDigest, book_checksum
from librarian.client.answers import LISTING_BYTES
from librarian.client.connection import LONGEST_PAUSE, is_passing, segment
from librarian.client.lanes import Halt, in_lanes
from librarian.client.outcomes import Downloaded
from librarian.client.progress import Meter, Phase
from librarian.errors import BadRequest, ChecksumMismatch, Conflict, PeerUnavailable, Unavailable
from librarian.names import MemberPath
from librarian.states import Kind
from librarian.timing import retry_delay
from librarian.wire.files import MOST_MEMBERS, FileDescription, Member, MemberPage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from librarian.client.connection import Connection

#: Members fetched at the same time.
LANES: Final = 4
_CHUNK: Final = 1024**2


async def download(connection: Connection, name: str, target: Path, meter: Meter, *, patience: timedelta) -> Downloaded:
    """Fetch *name* to *target*, which must not exist; it appears whole and verified, or not at all.

    Raises
    ------
    Conflict
        The target exists.
    ChecksumMismatch
        What came is not what the catalog says; nothing is kept.
    LibrarianError
        What the librarian refused, or the local disk.
    """
    if await asyncio.to_thread(os.path.lexists, target):
        raise Conflict(f"{str(target)!r} exists", remedy="Choose another target, or remove it first.")
    described = await connection.request("GET", f"/files/{segment(name)}", answer=FileDescription)
    meter.total_bytes = described.size
    meter.enter(Phase.COPYING)
    part = target.with_name(f".{target.name}.librarian-part")
    fetch = _Fetch(connection, described, part, meter, patience)
    measured = await (fetch.book() if described.kind is Kind.BOOK else fetch.file())
    expected = Checksum(described.checksum)
    if measured != expected:
        await asyncio.to_thread(_discard, part)
        raise ChecksumMismatch(
            f"{name!r} arrived with the checksum {measured}, the catalog says {expected}",
            remedy="Download it again; if it happens again, tell the operators: a copy may be damaged.",
        )
    await asyncio.to_thread(_reveal, part, target)
    return Downloaded(name=name, path=target, kind=described.kind, size=described.size, checksum=expected)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _reveal(part: Path, target: Path) -> None:
    """Rename into place; a target that appeared meanwhile is not overwritten (but for the last instant)."""
    try:
        if os.path.lexists(target):
            raise Conflict(f"{str(target)!r} appeared meanwhile", remedy=f"What was fetched stands in {str(part)!r}.")
        part.rename(target)
    except OSError as error:
        raise _disk(error, target) from error


def _disk(error: OSError, path: Path | str) -> BadRequest:
    return BadRequest(f"cannot write {str(path)!r}: {error.strerror}", remedy="Check the target's folder and its room.")


class _Fetch:
    """One download on its way."""

    def __init__(
        self, connection: Connection, described: FileDescription, part: Path, meter: Meter, patience: timedelta
    ) -> None:
        self._connection = connection
        self._path = f"/content/{segment(described.name)}"
        self._described = described
        self._algorithm = Checksum(described.checksum).algorithm
        self._part = part
        self._meter = meter
        self._patience = patience

    async def file(self) -> Checksum:
        """Fetch a file into the hidden place; returns what was measured."""
        return Checksum.of(self._algorithm, await self._fetch(self._part, None, self._described.size))

    async def book(self) -> Checksum:
        """Fetch a book, member by member, several at a time; returns what was measured."""
        members = await list_members(self._connection, self._described.name)
        for member in members:
            # A librarian that lies must not make us write elsewhere.
            MemberPath(member.path.rstrip("/"))
        directories = {self._part / Path(member.path).parent for member in members}
        directories |= {self._part / member.path for member in members if member.checksum is None}
        await asyncio.to_thread(_make_directories, self._part, directories)
        files = [member for member in members if member.checksum is not None]
        digests = await in_lanes(files, self._member, lanes=LANES)
        measured = [
            MemberDigest(path=MemberPath(member.path), size=member.size, hex=digest)
            for member, digest in zip(files, digests, strict=True)
        ]
        measured += [
            MemberDigest(path=MemberPath(member.path.rstrip("/")), size=0, hex=None)
            for member in members
            if member.checksum is None
        ]
        return book_checksum(measured, self._algorithm)

    async def _member(self, member: Member) -> str:
        return await self._fetch(self._part / MemberPath(member.path), member.path, member.size)

    async def _fetch(self, path: Path, member: str | None, size: int) -> str:
        """Fetch one file or member to *path*, going on with what is there; returns its digest."""
        halt = Halt()
        sink = await halt.in_thread(_Sink, path, size, Hasher(self._algorithm), self._meter.add_bytes)
        try:
            await halt.in_thread(sink.catch_up, halt.check)
            attempts = 0
            waited = 0.0
            while sink.at < size:
                before = sink.at
                try:
                    await self._stream(sink, member)
                except Unavailable as error:
                    if sink.at > before:
                        attempts, waited = 0, 0.0
                    attempts += 1
                    pause = retry_delay(attempts, cap=LONGEST_PAUSE).total_seconds()
                    waited += pause
                    if not is_passing(error) or waited > self._patience.total_seconds():
                        raise
                    await asyncio.sleep(pause)
        finally:
            await asyncio.to_thread(sink.close)
        return sink.hexdigest()

    async def _stream(self, sink: _Sink, member: str | None) -> None:
        # "If-Range" with the checksum: should the content be another one, the whole comes and the length tells.
        headers = {"Range": f"bytes={sink.at}-"} if sink.at else None
        query = None if member is None else {"member": member}
        async with self._connection.stream_down(self._path, query=query, headers=headers) as answer:
            if (answer.status == 206) is not bool(sink.at):
                raise PeerUnavailable(
                    f"{self._path} answered {answer.status} to a request that begins at {sink.at:,}",
                    remedy="Check what stands between you and the librarian.",
                )
            async for chunk in answer.chunks:
                await asyncio.to_thread(sink.write, chunk)


class _Sink:
    """A local file that is being filled and hashed; everything here blocks on the disk."""

    def __init__(self, path: Path, size: int, hasher: Hasher, on_bytes: Callable[[int], None]) -> None:
        self._path = path
        self._size = size
        self._hasher = hasher
        self._on_bytes = on_bytes
        self.at = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise _disk(error, path) from error

    def catch_up(self, check: Callable[[], None]) -> None:
        """Hash what an earlier try left, and go on behind it."""
        there = os.fstat(self._descriptor).st_size
        if there > self._size:
            os.ftruncate(self._descriptor, 0)
            return
        while self.at < there:
            check()
            chunk = os.pread(self._descriptor, min(_CHUNK, there - self.at), self.at)
            if not chunk:
                return
            self._count(chunk)

    def write(self, chunk: bytes) -> None:
        """Append *chunk*."""
        if self.at + len(chunk) > self._size:
            raise PeerUnavailable(
                f"more than the promised {self._size:,} bytes came for {self._path.name!r}",
                remedy="Check what stands between you and the librarian.",
            )
        try:
            written = 0
            while written < len(chunk):
                written += os.pwrite(self._descriptor, memoryview(chunk)[written:], self.at + written)
        except OSError as error:
            raise _disk(error, self._path) from error
        self._count(chunk)

    def _count(self, chunk: bytes) -> None:
        self._hasher.update(chunk)
        self.at += len(chunk)
        self._on_bytes(len(chunk))

    def hexdigest(self) -> str:
        """The digest of everything before ``at``."""
        return self._hasher.hexdigest()

    def close(self) -> None:
        """Make it durable and let go of it: the rename that follows promises its content."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)


def _make_directories(top: Path, directories: set[Path]) -> None:
    try:
        for directory in (top, *sorted(directories)):
            directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _disk(error, top) from error


async def list_members(connection: Connection, name: str) -> Sequence[Member]:
    """Every member of a book, in the order of their paths."""
    found: list[Member] = []
    query = {"limit": str(MOST_MEMBERS)}
    while True:
        page = await connection.request(
            "GET", f"/members/{segment(name)}", query=query, answer=MemberPage, answer_bytes=LISTING_BYTES
        )
        found += page.members
        if page.next_cursor is None:
            return found
        query["cursor"] = page.next_cursor
