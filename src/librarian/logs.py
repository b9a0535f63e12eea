"""Logs: one event per line, for people or as JSON for machines."""

from __future__ import annotations

import logging
import sys
from typing import Final, Literal

from pythonjsonlogger.json import JsonFormatter

_PLAIN: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_FIELDS: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"


def set_up_logging(*, form: Literal["text", "json"], level: str) -> None:
    """Send all logs to stderr in *form*. A repeat replaces what was set before."""
    handler = logging.StreamHandler(sys.stderr)
    formatter: logging.Formatter
    if form == "json":
        formatter = JsonFormatter(_FIELDS, rename_fields={"asctime": "at", "levelname": "level", "name": "logger"})
    else:
        formatter = logging.Formatter(_PLAIN)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # The libraries below report each of their steps at INFO.
    for chatty in ("aiosqlite", "alembic", "asyncio", "globus_sdk", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
