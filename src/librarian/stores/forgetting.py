"""Forgetting: letting the page cache go of a payload, so that it is read from its medium next."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from librarian.guard import forbid_io_in_transaction

if TYPE_CHECKING:
    from pathlib import Path


def forget(path: Path) -> None:
    """Ask the kernel to drop what it keeps of the payload at *path*; blocks. What cannot be opened is left."""
    forbid_io_in_transaction("forget")
    members = [path]
    if path.is_dir():
        members = [path / inside / name for inside, _, names in os.walk(path) for name in names]
    for member in members:
        with suppress(OSError):
            opened = os.open(member, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(opened)
