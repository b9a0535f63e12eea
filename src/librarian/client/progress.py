"""How far a transfer is, told while it runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Seconds between two reports.
INTERVAL: Final = 0.1


class Phase(StrEnum):
    """What is being done about a payload."""

    SURVEYING = "surveying"
    COPYING = "copying"
    VERIFYING = "verifying"
    DONE = "done"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One report: bytes and files done, and of how many. ``VERIFYING``: all is sent, the librarian measures."""

    phase: Phase
    done_bytes: int
    total_bytes: int
    done_files: int
    total_files: int


#: Called from the event loop, at most ten times a second, and once at the end.
OnProgress = Callable[[Progress], None]


class Meter:
    """Counts from any thread; reports from the event loop."""

    def __init__(self, on_progress: OnProgress | None = None, *, total_bytes: int = 0, total_files: int = 1) -> None:
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._phase = Phase.SURVEYING
        self._done_bytes = 0
        self._done_files = 0
        self.total_bytes = total_bytes
        self.total_files = total_files

    def add_bytes(self, count: int) -> None:
        """*count* more bytes are copied; negative when some must be copied again. From any thread."""
        with self._lock:
            self._done_bytes += count

    def add_file(self) -> None:
        """One more file is verified. From any thread."""
        with self._lock:
            self._done_files += 1

    def restart(self) -> None:
        """Everything is to be copied again."""
        with self._lock:
            self._done_bytes = 0

    def enter(self, phase: Phase) -> None:
        """Another phase begins."""
        self._phase = phase

    def report(self) -> None:
        """Tell now how far it is."""
        if self._on_progress is not None:
            self._on_progress(
                Progress(
                    phase=self._phase,
                    done_bytes=self._done_bytes,
                    total_bytes=self.total_bytes,
                    done_files=self._done_files,
                    total_files=self.total_files,
                )
            )

    @asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        """Report ten times a second until the block ends, and then once more."""
        if self._on_progress is None:
            yield
            return
        ticking = asyncio.create_task(self._tick(), name="progress")
        try:
            yield
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])
            self.report()

    async def _tick(self) -> None:
        while True:
            self.report()
            await asyncio.sleep(INTERVAL)
