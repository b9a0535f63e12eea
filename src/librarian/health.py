"""How this process is: when it started, and whether it is going down. How its tasks fare is in ``pulse``."""

from __future__ import annotations

from librarian.timing import utc_now


class Health:
    """What the process knows about itself; nothing here is needed after a restart."""

    def __init__(self) -> None:
        self.started_at = utc_now()
        self._is_draining = False

    @property
    def is_draining(self) -> bool:
        """Whether the process is going down and takes no new work."""
        return self._is_draining

    def drain(self) -> None:
        """Take no new work from now on. A repeat does nothing."""
        self._is_draining = True
