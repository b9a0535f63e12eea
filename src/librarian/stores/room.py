"""Room: what a store can take."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from librarian.stores import base

if TYPE_CHECKING:
    from librarian.stores.base import Capacity
    from librarian.stores.ground import Ground


def sample(here: Ground) -> Capacity:
    """What the file system has left for us now, within the configured limit."""
    status = os.fstatvfs(here.root_fd)
    limit = here.spec.limit_bytes
    most = sys.maxsize if limit is None else limit
    return base.Capacity(
        total_bytes=min(status.f_blocks * status.f_frsize, most),
        free_bytes=min(status.f_bavail * status.f_frsize, most),
        # File systems that make inodes as they need them say that they have none.
        free_inodes=status.f_favail if status.f_files else sys.maxsize,
        limit_bytes=limit,
    )
