"""Writeback: the kernel begins to write what will have to be durable soon, while more bytes come."""

from __future__ import annotations

import ctypes
from typing import Final

#: Bytes that are worth a call.
STEP_BYTES: Final = 8 * 1024**2
_SYNC_FILE_RANGE_WRITE: Final = 2  # linux/fs.h

# Linux has it, others do without.
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


class Writeback:
    """Has one file's bytes written as they come, so that the barrier at the end finds little left to do.

    Promises nothing: only the barrier makes anything durable, and only it tells of a disk that fails.
    """

    def __init__(self, descriptor: int, *, start: int = 0) -> None:
        self._descriptor = descriptor
        self._begun = start

    def reached(self, end: int) -> None:
        """Everything up to *end* stands in the file."""
        if _sync_file_range is not None and end - self._begun >= STEP_BYTES:
            _sync_file_range(self._descriptor, self._begun, end - self._begun, _SYNC_FILE_RANGE_WRITE)
            self._begun = end
