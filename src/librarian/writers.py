"""One writer at a time: who writes to, commits or cancels which upload now, within this process."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Final

from librarian.errors import NameBusy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from librarian.names import PeerId

#: A writer that was silent for this long gives way: its connection may be dead without either side knowing.
IDLE: Final = timedelta(seconds=5)
#: How long a writer that gives way may take to close its files.
GIVING_WAY: Final = timedelta(seconds=5)


@dataclass(eq=False, kw_only=True)
class Pen:
    """The right to write to one upload, or to one member of it."""

    uuid: str
    #: Whose clone it is; None: it is an upload. Peers choose the uuids of their clones, even equal to others'.
    peer: PeerId | None = None
    #: A member's path; None: the whole upload.
    part: str | None
    _holder: asyncio.Task[object] | None = field(default_factory=asyncio.current_task)
    _touched_at: float = field(default_factory=time.monotonic)
    _dropped: asyncio.Event = field(default_factory=asyncio.Event)

    def touch(self) -> None:
        """Something is being written."""
        self._touched_at = time.monotonic()

    async def write_down(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """*chunks*, each of which is a sign of life."""
        async for chunk in chunks:
            self.touch()
            yield chunk

    def is_idle(self, patience: timedelta) -> bool:
        """Whether nothing was written for *patience*."""
        return time.monotonic() - self._touched_at >= patience.total_seconds()

    def drop(self) -> None:
        """Let others write."""
        self._dropped.set()

    async def wrest(self) -> bool:
        """Stop the holder, and wait until it let go; whether it did."""
        if self._holder is not None and self._holder is not asyncio.current_task():
            self._holder.cancel()
        try:
            async with asyncio.timeout(GIVING_WAY.total_seconds()):
                await self._dropped.wait()
        except TimeoutError:
            return False
        return True


class Writers:
    """The pens that are held now, by uuid and by whose it is. Not a memory: the catalog says what may be written to."""

    def __init__(self) -> None:
        self._pens: dict[tuple[PeerId | None, str], list[Pen]] = {}
        self._joined = count()

    @asynccontextmanager
    async def hold(
        self, uuid: str, *, peer: PeerId | None = None, part: str | None = None, patience: timedelta = IDLE
    ) -> AsyncIterator[Pen]:
        """Be the one writer of *uuid*, a clone of *peer* or an upload, or of one *part* beside others.

        A writer in the way that is silent for *patience* is stopped.

        Raises
        ------
        NameBusy
            Another request is writing to it.
        """
        while (other := self._in_the_way((peer, uuid), part)) is not None:
            if not other.is_idle(patience) or not await other.wrest():
                raise _busy(uuid)
        pen = self._take((peer, uuid), part)
        try:
            yield pen
        finally:
            self._drop(pen)

    @asynccontextmanager
    async def hold_free(self, uuids: Sequence[str], *, peer: PeerId | None = None) -> AsyncIterator[frozenset[str]]:
        """Hold those of *uuids*, clones of *peer* or uploads, that nobody writes to now, and give them."""
        keys = [(peer, uuid) for uuid in dict.fromkeys(uuids)]
        for key in [key for key in keys if key in self._pens]:
            other = self._in_the_way(key, None)
            if other is not None and other.is_idle(IDLE):
                await other.wrest()
        pens = [self._take(key, None) for key in keys if key not in self._pens]
        try:
            yield frozenset(pen.uuid for pen in pens)
        finally:
            for pen in pens:
                self._drop(pen)

    @asynccontextmanager
    async def join(self, uuids: Iterable[str], *, peer: PeerId) -> AsyncIterator[frozenset[str]]:
        """Write to parts of those of *uuids* that nobody holds whole, beside others who have joined; gives those."""
        part = f"joined {next(self._joined)}"
        keys = [(peer, uuid) for uuid in dict.fromkeys(uuids)]
        pens = [self._take(key, part) for key in keys if self._in_the_way(key, part) is None]
        try:
            yield frozenset(pen.uuid for pen in pens)
        finally:
            for pen in pens:
                self._drop(pen)

    def _in_the_way(self, key: tuple[PeerId | None, str], part: str | None) -> Pen | None:
        pens = self._pens.get(key, ())
        return next((pen for pen in pens if part is None or pen.part in (None, part)), None)

    def _take(self, key: tuple[PeerId | None, str], part: str | None) -> Pen:
        pen = Pen(peer=key[0], uuid=key[1], part=part)
        self._pens.setdefault(key, []).append(pen)
        return pen

    def _drop(self, pen: Pen) -> None:
        pens = self._pens[pen.peer, pen.uuid]
        pens.remove(pen)
        if not pens:
            del self._pens[pen.peer, pen.uuid]
        pen.drop()


def _busy(uuid: str) -> NameBusy:
    return NameBusy(
        f"another request is writing to upload {uuid}",
        remedy="Wait for it to end, or stop it; then ask how much has arrived and go on from there.",
    )
