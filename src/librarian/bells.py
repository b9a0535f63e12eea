"""Bells wake loops early; nothing is ever said by a bell that the catalog does not say as well."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta


class Bells:
    """Named bells. A bell rung while nobody listens is heard by the next who listens."""

    def __init__(self) -> None:
        self._events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def ring(self, name: str) -> None:
        """There may be work for *name* now; sooner, never later."""
        self._events[name].set()

    def ring_in(self, delay: timedelta, name: str) -> None:
        """Ring *name* after *delay*: whoever listens may sleep longer than the work may wait."""
        # A little later than asked: rows that become due at the very instant must be seen.
        seconds = max(delay.total_seconds(), 0.0) + 0.005
        asyncio.get_running_loop().call_later(seconds, self.ring, name)

    async def heard(self, name: str) -> None:
        """Wait until *name* is rung, and take the ring. One listener per name."""
        event = self._events[name]
        await event.wait()
        event.clear()


class Nudges:
    """Wakes requests that wait for a row to change; the woken read the row again."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)

    def nudge(self, keys: Iterable[str]) -> None:
        """The rows named *keys* have changed."""
        for key in keys:
            for future in self._waiting.pop(key, ()):
                if not future.done():
                    future.set_result(None)

    def expect(self, keys: Iterable[str]) -> asyncio.Future[None]:
        """A future that is done when one of *keys* is nudged; take it *before* reading the rows."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wanted = tuple(keys)
        for key in wanted:
            self._waiting[key].add(future)
        future.add_done_callback(lambda done: self._forget(wanted, done))
        return future

    def _forget(self, keys: Iterable[str], future: asyncio.Future[None]) -> None:
        for key in keys:
            waiting = self._waiting.get(key)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._waiting[key]
