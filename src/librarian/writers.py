"""One writer at a time per upload: who holds the pen, within this process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from librarian.errors import NameBusy

if TYPE_CHECKING:
    from collections.abc import Iterator


class Writers:
    """The uploads that a request is writing to, committing or cancelling now.

    Not a memory: a process that dies stops writing, and the catalog alone says what may be written to.
    """

    def __init__(self) -> None:
        self._held: set[str] = set()

    def is_held(self, uuid: str) -> bool:
        """Whether some request holds *uuid*."""
        return uuid in self._held

    @contextmanager
    def hold(self, uuid: str) -> Iterator[None]:
        """Be the one writer of *uuid*.

        Raises
        ------
        NameBusy
            Another request is writing to it.
        """
        if uuid in self._held:
            raise NameBusy(
                f"another request is writing to upload {uuid}",
                remedy="Wait for it to end, or stop it; then ask how much has arrived and go on from there.",
            )
        with self.hold_free([uuid]):
            yield

    @contextmanager
    def hold_free(self, uuids: list[str]) -> Iterator[set[str]]:
        """Hold those of *uuids* that nobody else holds, and give them."""
        taken = set(uuids) - self._held
        self._held |= taken
        try:
            yield taken
        finally:
            self._held -= taken
