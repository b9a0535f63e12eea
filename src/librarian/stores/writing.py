"""Writing: bytes that come through the server go into staging, in few trips to a thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

from librarian import guard
from librarian.errors import LibrarianError, NotFound, RangeUnsatisfiable, TooLarge, UnsupportedMember, WrongState
from librarian.stores import parts, places
from librarian.writeback import Writeback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from librarian.names import MemberPath, Token
    from librarian.stores.ground import Ground
    from librarian.stores.lane import Trip

#: Bytes that are gathered before a thread writes them: a trip costs as much as writing a tenth of this, or more on a
#: busy machine. A stream holds at most twice as many, the ones being written and the next.
GATHER_BYTES: Final = 2 * 1024 * 1024
#: pwritev takes at most 1,024 buffers (IOV_MAX); smaller pieces are joined.
_BUFFERS: Final = 512
_WRITE: Final = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_parent(here: Ground, token: Token, member: MemberPath | None) -> tuple[int, str]:
    """Open the directory that *member*'s bytes go into, made as needed; returns it and the last part of the path.

    Part by part, for others may have put links there.

    Raises
    ------
    NotFound
        There is no such token.
    UnsupportedMember
        The member lies deeper than any book may be.
    """
    if member is not None and member.count("/") > parts.DEPTH:
        # Written down, it would be refused only when it is looked at.
        raise UnsupportedMember(f"{member[:80]!r} is nested deeper than {parts.DEPTH} levels", remedy="Flatten it.")
    fd = _open_token(here, token)
    if member is None:
        return fd, places.PAYLOAD
    *above, leaf = [places.PAYLOAD, *member.split("/")]
    return _descend(fd, above), leaf


def _open_token(here: Ground, token: Token) -> int:
    try:
        return os.open(token, parts.DIRECTORY, dir_fd=here.staging_fd)
    except FileNotFoundError:
        raise NotFound(
            f"store '{here.spec.name}' has no staging for '{token}'", remedy="Open the upload again."
        ) from None


def _descend(fd: int, names: Sequence[str]) -> int:
    """Go down from *fd* (which is closed) through *names*, making what is missing."""
    for name in names:
        try:
            deeper = _open_or_make(fd, name)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def _open_or_make(fd: int, name: str) -> int:
    try:
        return os.open(name, parts.DIRECTORY, dir_fd=fd)
    except FileNotFoundError:
        pass
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, places.PARENT_MODE, dir_fd=fd)
    return os.open(name, parts.DIRECTORY, dir_fd=fd)


def make_book(here: Ground, token: Token, directories: Sequence[MemberPath]) -> None:
    """Make a book's top directory and *directories* in it. A repeat does nothing."""
    os.close(_descend(_open_token(here, token), [places.PAYLOAD]))
    for directory in directories:
        here.trip.beat()
        parent_fd, leaf = open_parent(here, token, directory)
        os.close(_descend(parent_fd, [leaf]))


def open_part(here: Ground, token: Token, member: MemberPath | None, *, offset: int) -> int:
    """Open a payload's file for writing at *offset*, cut off there.

    Raises
    ------
    RangeUnsatisfiable
        It is shorter than *offset*.
    WrongState
        Somebody else owns it, or links to it.
    """
    parent_fd, leaf = open_parent(here, token, member)
    try:
        fd = _open_leaf(here, leaf, parent_fd, offset=offset)
    finally:
        os.close(parent_fd)
    size = os.fstat(fd).st_size
    if size < offset:
        os.close(fd)
        raise _beyond(offset, size)
    if size > offset:
        os.ftruncate(fd, offset)
    return fd


def _beyond(offset: int, size: int) -> RangeUnsatisfiable:
    return RangeUnsatisfiable(
        f"writing at byte {offset:,} would leave a hole after the {size:,} bytes that are there",
        remedy=f"Go on at byte {size}.",
        details={"size": size, "offset": offset},
    )


def _open_leaf(here: Ground, leaf: str, parent_fd: int, *, offset: int) -> int:
    if offset == 0:
        try:
            return os.open(leaf, _WRITE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=parent_fd)
        except FileExistsError:
            pass
    try:
        fd = os.open(leaf, _WRITE, dir_fd=parent_fd)
    except FileNotFoundError:
        raise _beyond(offset, 0) from None
    status = os.fstat(fd)
    # A hard link could lead anywhere: what is written here must be ours alone.
    if stat.S_ISREG(status.st_mode) and status.st_uid == here.footing.uid and status.st_nlink == 1:
        return fd
    os.close(fd)
    raise WrongState(
        f"'{leaf}' was brought by another user, or has another link",
        remedy="Go on in the way it was begun, or remove it and begin again.",
    )


def write_at(fd: int, pieces: Sequence[bytes], offset: int, trip: Trip) -> int:
    """Write *pieces* one after the other from *offset* on; returns where they end."""
    if len(pieces) > _BUFFERS:
        pieces = (b"".join(pieces),)
    left = [memoryview(piece) for piece in pieces if piece]
    while left:
        trip.beat()
        written = os.pwritev(fd, left, offset)
        offset += written
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]
    return offset


def write_whole(here: Ground, token: Token, member: MemberPath | None, pieces: Sequence[bytes], *, offset: int) -> None:
    """Write *pieces* at *offset* in one trip."""
    fd = open_part(here, token, member, offset=offset)
    try:
        write_at(fd, pieces, offset, here.trip)
    finally:
        os.close(fd)


def write_many(here: Ground, items: Sequence[tuple[Token, MemberPath | None, bytes]]) -> list[LibrarianError | None]:
    """Write whole payloads and members; see ``Store.write_small``."""
    answers: list[LibrarianError | None] = []
    for at, (token, member, content) in enumerate(items):
        here.trip.beat()
        if at == len(items) // 2:
            guard.step("half copied")
        try:
            write_whole(here, token, member, (content,), offset=0)
        except LibrarianError as refusal:
            answers.append(refusal)
        except OSError as error:
            answers.append(here.refusal(error, f"write '{member or token}'"))
        else:
            answers.append(None)
    return answers


class Stream:
    """One body on its way to a file; the next bytes are received while the last ones are written.

    ``run`` does blocking work in one of the store's threads.
    """

    def __init__(
        self,
        run: Callable[[Callable[[Ground], None]], Awaitable[None]],
        *,
        place: tuple[Token, MemberPath | None],
        offset: int,
        limit: int,
    ) -> None:
        self._run = run
        self._token, self._member = place
        self._limit = limit
        self._end = offset  # where what was received ends
        self._start = offset  # where what is gathered starts
        self._pieces: list[bytes] = []
        self._fd: int | None = None
        self._writeback: Writeback | None = None
        self._writing: asyncio.Task[None] | None = None

    async def receive(self, chunks: AsyncIterator[bytes]) -> int:
        """Write all of *chunks*; returns where they end. What arrived of a broken stream is kept."""
        try:
            try:
                async for chunk in chunks:
                    await self._add(chunk)
            except Exception:
                await self._flush()
                raise
            return await self._finish()
        finally:
            await self._close()

    async def _add(self, chunk: bytes) -> None:
        if self._end + len(chunk) > self._limit:
            raise TooLarge(
                f"more than the {self._limit:,} bytes that were announced",
                remedy="Open the upload with its true size.",
                details={"limit": self._limit},
            )
        self._pieces.append(chunk)
        self._end += len(chunk)
        if self._end - self._start >= GATHER_BYTES:
            await self._flush()

    async def _finish(self) -> int:
        if self._fd is None and self._writing is None:
            pieces, start = self._pieces, self._start
            await self._run(lambda here: write_whole(here, self._token, self._member, pieces, offset=start))
            return self._end
        await self._flush()
        await self._settle()
        return self._end

    async def _flush(self) -> None:
        """Start writing what is gathered, once the bytes before are written."""
        await self._settle()
        pieces, start = self._pieces, self._start
        self._pieces, self._start = [], self._end
        self._writing = asyncio.create_task(self._write(pieces, start), name=f"write {self._token}")

    async def _write(self, pieces: Sequence[bytes], start: int) -> None:
        def write(here: Ground) -> None:
            if self._fd is None or self._writeback is None:
                self._fd = open_part(here, self._token, self._member, offset=start)
                self._writeback = Writeback(self._fd, start=start)
            self._writeback.reached(write_at(self._fd, pieces, start, here.trip))
            guard.step("half copied")

        await self._run(write)

    async def _settle(self) -> None:
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            writing.cancel()
            await asyncio.wait((writing,))
            raise

    async def _close(self) -> None:
        try:
            await self._settle()
        finally:
            fd, self._fd = self._fd, None
            if fd is not None:
                await self._run(lambda _: os.close(fd))
