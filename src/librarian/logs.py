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
#: How long an end waits for its last words to be written.
LAST_WORDS: Final = timedelta(seconds=2)


class _Hand(QueueHandler):
    """Hands records to the thread that writes them: a slow disk or a full pipe must not hold up the loop."""

    def __init__(self, writer: logging.Handler) -> None:
        records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        super().__init__(records)
        self._writing = QueueListener(records, writer)
        self._writing.start()
        self._is_closed = False

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def close(self) -> None:
        """Write what waits."""
        if not self._is_closed:
            self._is_closed = True
            self._writing.stop()
        super().close()


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
