"""Logs: one event per line, for people or as JSON for machines."""

from __future__ import annotations

import logging
import queue
import sys
import threading
from datetime import timedelta
from logging.handlers import QueueHandler, QueueListener
from typing import Final, Literal

from pythonjsonlogger.json import JsonFormatter

_PLAIN: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_FIELDS: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
#: Records that wait for a slow reader, at most.
MOST_WAITING: Final = 10_000
#: How long an end waits for its last words to be written.
LAST_WORDS: Final = timedelta(seconds=2)


class _Writing(QueueListener):
    """The thread that writes."""

    def __init__(self, records: queue.Queue[logging.LogRecord | None], writer: logging.Handler) -> None:
        super().__init__(records, writer)
        self._records = records

    def enqueue_sentinel(self) -> None:
        # Whoever ends the writing waits for room, and is waited for no longer than ``LAST_WORDS``.
        self._records.put(None)


class _Hand(QueueHandler):
    """Hands records to the thread that writes them: a slow disk or a full pipe must not hold up the loop.

    What nobody reads fills no memory: beyond ``MOST_WAITING`` records are dropped, and counted.
    """

    def __init__(self, writer: logging.Handler) -> None:
        self._records: queue.Queue[logging.LogRecord | None] = queue.Queue(MOST_WAITING)
        super().__init__(self._records)
        self._writing = _Writing(self._records, writer)
        self._writing.start()
        self._is_closed = False
        self._dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self._dropped:
                self._records.put_nowait(_told(self._dropped))
                self._dropped = 0
            self._records.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def close(self) -> None:
        """Write what waits."""
        if not self._is_closed:
            self._is_closed = True
            if self._dropped:
                self._records.put(_told(self._dropped))
            self._writing.stop()
        super().close()


def _told(dropped: int) -> logging.LogRecord:
    return logging.LogRecord(
        __name__, logging.WARNING, __file__, 0, "Dropped %d lines that nobody read in time", (dropped,), None
    )


def set_up_logging(*, form: Literal["text", "json"], level: str) -> None:
    """Send all logs to stderr in *form*. A repeat replaces what was set before."""
    writer = logging.StreamHandler(sys.stderr)
    formatter: logging.Formatter
    if form == "json":
        formatter = JsonFormatter(_FIELDS, rename_fields={"asctime": "at", "levelname": "level", "name": "logger"})
    else:
        formatter = logging.Formatter(_PLAIN)
    writer.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[_Hand(writer)], force=True)
    # The libraries below report each of their steps at INFO.
    for chatty in ("aiosqlite", "alembic", "asyncio", "globus_sdk", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def finish_logging() -> None:
    """Write what waits; who has to end does not wait long for a reader that does not read."""
    last = threading.Thread(target=logging.shutdown, daemon=True)
    last.start()
    last.join(LAST_WORDS.total_seconds())
