"""Bells wake loops early, news wakes requests; neither says anything that the catalog does not say as well."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from datetime import timedelta

T = TypeVar("T")


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

    async def heard_beside(
        self, name: str, tasks: Collection[asyncio.Task[T]], *, within: timedelta | None = None
    ) -> bool:
        """Wait until *name* is rung or one of *tasks* ends, no longer than *within*; False when only a task ended."""
        bell = asyncio.create_task(self.heard(name), name=f"bell: {name}")
        timeout = None if within is None else within.total_seconds()
        try:
            done, _ = await asyncio.wait([bell, *tasks], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            return bell in done or not done
        finally:
            bell.cancel()


class Watch(Generic[T]):
    """What one request has heard of the rows that it waits for."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = frozenset(keys)
        self._heard: dict[str, T] = {}
        self._news = asyncio.Event()

    def hear(self, key: str, verdict: T) -> None:
        """The row named *key* has come to its end, as *verdict* says."""
        self._heard[key] = verdict
        self._news.set()

    async def heard_of(self, keys: Collection[str], *, within: timedelta) -> dict[str, T]:
        """The verdicts on *keys*: all of them, or those that came *within* a time."""
        missing = set(keys)
        try:
            async with asyncio.timeout(within.total_seconds()):
                while missing := {key for key in missing if key not in self._heard}:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass
        return {key: self._heard[key] for key in keys if key in self._heard}


class News(Generic[T]):
    """Tells requests what became of the rows that they wait for, so that they need not read them again."""

    def __init__(self) -> None:
        self._watches: defaultdict[str, set[Watch[T]]] = defaultdict(set)

    def tell(self, verdicts: Mapping[str, T]) -> None:
        """The rows of these names have come to their end, and that is written down."""
        for key, verdict in verdicts.items():
            for watch in self._watches.get(key, ()):
                watch.hear(key, verdict)

    @contextmanager
    def expect(self, keys: Iterable[str]) -> Iterator[Watch[T]]:
        """Listen for verdicts on *keys*; begin *before* reading the rows, and none is missed."""
        watch: Watch[T] = Watch(keys)
        for key in watch.keys:
            self._watches[key].add(watch)
        try:
            yield watch
        finally:
            for key in watch.keys:
                self._watches[key].discard(watch)
                if not self._watches[key]:
                    del self._watches[key]
