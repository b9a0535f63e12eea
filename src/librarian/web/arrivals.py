"""Arrivals: how many bytes have come for books whose members are brought one by one.

One rule for all that comes over HTTP: a file in staging never has more bytes than were promised, a book never more
than twice as many. Twice, because what an interrupted try left may still be there while all of it comes again. Whether
the size is right is decided by ingest.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from librarian.errors import TooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from librarian.catalog.records import Incoming
    from librarian.stores.base import Store

#: A book may have so many times its promised size in staging.
TIMES: Final = 2
#: Books that are remembered: those that were written to last.
BOOKS: Final = 1_000


async def staged(store: Store, upload: Incoming) -> int:
    """Bytes of *upload* that stand in staging; the cost grows with the number of its members."""
    return (await store.staged_sizes([upload.token])).get(upload.token, 0)


def too_large(upload: Incoming) -> TooLarge:
    """The refusal of a byte too many for a book."""
    return TooLarge(
        f"more than twice the {upload.size:,} bytes that were announced for {upload.name!r} would stand in staging",
        remedy="Cancel the upload, and open it with its true size.",
        details={"limit": TIMES * upload.size},
    )


class Arrivals:
    """Counts of what came for books; no memory, for staging says it again: whatever is forgotten is looked up."""

    def __init__(self) -> None:
        self._books: OrderedDict[str, _Book] = OrderedDict()

    @asynccontextmanager
    async def counted(
        self, upload: Incoming, store: Store, chunks: AsyncIterator[bytes]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """*chunks* for the book *upload*, to be written within the block; TooLarge comes before one too many."""
        book = self._books.setdefault(upload.uuid, _Book())
        self._books.move_to_end(upload.uuid)
        if len(self._books) > BOOKS:
            self._books.popitem(last=False)
        under_way = _UnderWay(book, upload, store)
        try:
            yield under_way.count(chunks)
        finally:
            book.under_way -= under_way.taken

    def forget(self, upload: Incoming) -> None:
        """Look again before the next byte: somebody else wrote to *upload*."""
        self._books.pop(upload.uuid, None)


class _Book:
    """What is known of one book, in bytes."""

    def __init__(self) -> None:
        #: What staging may hold at most, once all is written that was taken; None: nobody has looked yet.
        self.held: int | None = None
        #: Taken from requests that have not ended: some of it may not be written yet.
        self.under_way = 0
        #: Taken since this was made.
        self.taken = 0
        self.looking = asyncio.Lock()


class _UnderWay:
    """One request that brings bytes for a book."""

    def __init__(self, book: _Book, upload: Incoming, store: Store) -> None:
        self._book = book
        self._upload = upload
        self._store = store
        self.taken = 0

    async def count(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            if not self._fits(len(chunk)):
                await self._look(len(chunk))
            self._take(len(chunk))
            yield chunk

    def _fits(self, size: int) -> bool:
        return self._book.held is not None and self._book.held + size <= TIMES * self._upload.size

    async def _look(self, size: int) -> None:
        """Look at staging before *size* bytes are refused: what was overwritten had been counted twice."""
        book = self._book
        async with book.looking:
            if self._fits(size):
                return
            under_way, taken = book.under_way, book.taken
            found = await staged(self._store, self._upload)
            book.held = found + under_way + book.taken - taken
        if not self._fits(size):
            raise too_large(self._upload)

    def _take(self, size: int) -> None:
        self.taken += size
        self._book.taken += size
        self._book.under_way += size
        self._book.held = (self._book.held or 0) + size


ARRIVALS: Final = web.AppKey("ARRIVALS", Arrivals)
