"""Parcels: what is to be copied from a drive, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from librarian.errors import LibrarianError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from librarian.checksum import Checksum, MemberDigest
    from librarian.names import FileName, MemberPath, Token
    from librarian.states import Damage, Kind


@dataclass(frozen=True, kw_only=True)
class Pouring:
    """One payload to be copied from a drive, where it stands under *name*, and what it must be."""

    token: Token
    name: FileName
    kind: Kind
    size: int
    checksum: Checksum
    #: Of a book, by path.
    members: tuple[MemberDigest, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """What is wrong with a payload on a drive; *member* is None for a file."""

    damage: Damage
    member: MemberPath | None
    reason: str


#: Whole in staging, or bad on the drive, or not copied: the drive is gone, or the store has no room (Unavailable), or
#: can never keep it.
Poured = None | Flaw | LibrarianError


class Source(Protocol):
    """A drive that is read."""

    def stand(self) -> AbstractContextManager[int]:
        """Its root, open for reading, once it is known to be the right one. Blocks."""

    def read(self, count: int) -> None:
        """Hear that *count* more bytes were read."""
