"""A path to a Unix socket that is short enough to connect to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from librarian.errors import PeerUnavailable

if TYPE_CHECKING:
    from pathlib import Path

#: ``sun_path`` of Linux, less the final zero byte.
LONGEST: Final = 107


def short_path(path: Path) -> str:
    """*path* itself, or where it is too long a way through an open directory (``/proc/self/fd/7/admin.sock``).

    The descriptor stays open as long as the process: connections are made whenever one is needed.

    Raises
    ------
    PeerUnavailable
        The directory cannot be opened.
    """
    if len(os.fsencode(path)) <= LONGEST:
        return str(path)
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PeerUnavailable(
            f"cannot open {path.parent}: {error.strerror}", remedy="Check that the state folder is right."
        ) from error
    return f"/proc/self/fd/{directory}/{path.name}"
