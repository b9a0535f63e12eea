"""One writer at a time per upload: who holds the pen, within this process."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from librarian.errors import NameBusy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Writers:
    """The uploads that a request is writing to, committing or cancelling now.

    Not a memory: a process that dies stops writing, and the catalog alone says what may be written to.
    """

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._joined: Counter[str] = Counter()

    def is_held(self, uuid: str) -> bool:
        """Whether some request holds *uuid*, alone or with others."""
        return uuid in self._held or uuid in self._joined

    @contextmanager
    def join(self, uuids: Iterable[str]) -> Iterator[set[str]]:
        """Write to those of *uuids* that nobody holds alone, beside others who have joined; gives those."""
        taken = set(uuids) - self._held
        self._joined.update(taken)
        try:
            yield taken
        finally:
            self._joined -= Counter(taken)

    @contextmanager
    def hold(self, uuid: str) -> Iterator[None]:
        """Be the one writer of *uuid*.

        Raises
        ------
        NameBusy
            Another request is writing to it.
        """
        if self.is_held(uuid):
            raise NameBusy(
                f"another request is writing to upload {uuid}",
                remedy="Wait for it to end, or stop it; then ask how much has arrived and go on from there.",
            )
        with self.hold_free([uuid]):
            yield

    @contextmanager
    def hold_free(self, uuids: list[str]) -> Iterator[set[str]]:
        """Hold those of *uuids* that nobody else holds, and give them."""
        taken = {uuid for uuid in uuids if not self.is_held(uuid)}
        self._held |= taken
        try:
            yield taken
        finally:
            self._held -= taken
