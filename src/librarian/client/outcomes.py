"""What uploads, downloads and verifications come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from librarian.errors import LibrarianError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from librarian.checksum import Checksum
    from librarian.states import Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Uploaded:
    """A file the librarian has verified and keeps. ``was_held``: it had it already, with this very checksum."""

    name: str
    kind: Kind
    size: int
    checksum: Checksum
    was_held: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Downloaded:
    """A file that was fetched and stands verified at ``path``."""

    name: str
    path: Path
    kind: Kind
    size: int
    checksum: Checksum


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """A local path that has the size and checksum the catalog says."""

    name: str
    path: Path
    size: int
    checksum: Checksum


class SomeFailed(LibrarianError):
    """Of many uploads some failed; ``outcomes`` has one entry per item, in the order given.

    Its exit code is that of the gravest failure.
    """

    code = "some_failed"

    def __init__(self, outcomes: Sequence[Uploaded | LibrarianError]) -> None:
        failures = [each for each in outcomes if isinstance(each, LibrarianError)]
        first = failures[0]
        super().__init__(
            f"{len(failures):,} of {len(outcomes):,} uploads failed; the first: {first.message}",
            remedy=first.remedy or "Repeat the call: what is held already is not sent again.",
        )
        self.outcomes = tuple(outcomes)
        self.exit_code = max(failure.exit_code for failure in failures)

    @property
    def failures(self) -> tuple[LibrarianError, ...]:
        """The failures alone."""
        return tuple(each for each in self.outcomes if isinstance(each, LibrarianError))
