"""Pace: how fast bytes may go to one peer, over everything of one engine that goes there."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: What may go at once after a rest, in seconds of the rate: a link that is shared notices bursts.
BURST: Final = 0.25
#: The parts of a second that bytes are dealt out in, so that nobody waits long and the receiver never hears silence.
PARTS: Final = 8
LEAST_PART: Final = 4096


class Pace:
    """A bucket that fills with time. May be asked from any thread; nothing here waits."""

    def __init__(self, bytes_per_second: int | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes_per_second = bytes_per_second
        self._clock = clock
        self._free_at = clock()
        self._lock = threading.Lock()

    @property
    def part_bytes(self) -> int | None:
        """What should be sent in one piece; None without a limit."""
        rate = self.bytes_per_second
        return None if rate is None else max(rate // PARTS, LEAST_PART)

    def book(self, size: int) -> float:
        """Take a place for *size* bytes that are about to go; how many seconds to wait before they do."""
        rate = self.bytes_per_second
        if rate is None:
            return 0.0
        with self._lock:
            now = self._clock()
            starts_at = max(self._free_at, now - BURST)
            self._free_at = starts_at + size / rate
            return max(0.0, self._free_at - now)


class Paces:
    """The pace of each peer; the last that was set applies to everything that goes there."""

    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}

    def of(self, peer: str) -> Pace:
        """The pace of *peer*; without a limit until one is set."""
        return self._paces.setdefault(peer, Pace(None))

    def set(self, peer: str, bytes_per_second: int | None) -> bool:
        """Let *peer* have *bytes_per_second* from now on (None: as fast as it can); whether that is a change."""
        pace = self.of(peer)
        is_change = pace.bytes_per_second != bytes_per_second
        pace.bytes_per_second = bytes_per_second
        return is_change
