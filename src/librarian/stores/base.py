"""The contract of a store: where bytes rest.

A store has a *root*, where published payloads stand under their names, and a *staging* area, where arriving
payloads wait under ``<staging>/<token>/payload`` (the file itself, or the book's top directory). A reader never
sees half a payload. Every method may be repeated after a crash at any instruction, and takes many items at once,
because one trip to a worker thread and one durability barrier serve a thousand as well as one. Methods that take
many items answer per item, in order, and raise only when the store as a whole cannot be used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from librarian.checksum import Algorithm, Measured
    from librarian.errors import LibrarianError
    from librarian.names import FileName, MemberPath, StoreName, Token
    from librarian.states import Kind


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a store can take, in bytes, as last sampled: min(configured limit, file system)."""

    total_bytes: int
    free_bytes: int
    free_inodes: int


@dataclass(frozen=True, kw_only=True)
class Staged:
    """What stands in staging under a token.

    ``is_ours``: every part is owned by the server's uid with one link, so that a rename publishes it safely;
    otherwise ``take`` must copy it first.
    """

    token: Token
    kind: Kind
    size: int
    members: int
    is_ours: bool
    path: Path


class Publishing(StrEnum):
    """What became of one publication."""

    PUBLISHED = "published"
    #: Something else stands under the name; measure it to know whether it is the same.
    NAME_TAKEN = "name_taken"
    #: Neither payload nor name is there.
    PAYLOAD_MISSING = "payload_missing"
    #: The payload is gone and the name stands: an earlier pass may have published it; measure to know.
    NAME_ONLY = "name_only"


@dataclass(frozen=True, kw_only=True)
class Publication:
    """One payload to publish: from ``token``'s staging to ``name``."""

    token: Token
    name: FileName
    kind: Kind


class Store(ABC):
    """A place for payloads; see the module's docstring for what holds for every method."""

    name: StoreName
    root: Path
    staging: Path
    #: Others write into staging under their own uid: reserve twice the size.
    takes_foreign_writes: bool

    @property
    @abstractmethod
    def problem(self) -> str | None:
        """Why nothing may be written now (unmounted, hung, wrong identity), or None when all is well."""

    @abstractmethod
    async def open(self, *, expected_uuid: str | None, generation: int) -> str:
        """Check identity and abilities (rename probe, NOREPLACE probe), and return the store's UUID.

        With ``expected_uuid`` None (a store the catalog has never seen) the identity file is created, on an empty
        root (``lost+found`` aside) only.

        Raises
        ------
        StoreUnavailable
            Not mounted, another identity, not writable, rename impossible, or no answer in time.
        RestoredCatalog
            The root carries a higher generation than *generation*: the catalog is older than its store.
        """

    @abstractmethod
    async def stamp(self, generation: int) -> None:
        """Write *generation* into the identity file, durably. A repeat does nothing."""

    @abstractmethod
    async def capacity(self) -> Capacity:
        """Sample what fits now."""

    @abstractmethod
    async def stage(self, tokens: Sequence[Token]) -> None:
        """Make ``<staging>/<token>/`` with the store's mode and group. A repeat does nothing."""

    @abstractmethod
    def staging_path(self, token: Token) -> Path:
        """``<staging>/<token>/payload``: where the bytes are to be brought."""

    @abstractmethod
    def path_of(self, name: FileName) -> Path:
        """Where a published payload stands."""

    @abstractmethod
    async def inspect(self, tokens: Sequence[Token]) -> list[Staged | LibrarianError]:
        """Look at staged payloads: kind, size, links, owners; nothing is followed out of staging.

        Per item UnsupportedMember (symlink, device, bad name), or NotFound when there is no payload.
        """

    @abstractmethod
    async def take(self, token: Token, algorithm: Algorithm) -> Measured:
        """Copy a foreign payload into a server-private place (reflink where possible), hashing what is copied.

        Afterwards the payload that ``publish`` moves is the private copy. A repeat starts over.

        Raises
        ------
        NoRoom, SourceChanged, UnsupportedMember, StoreUnavailable
        """

    @abstractmethod
    async def publish(self, items: Sequence[Publication]) -> list[Publishing | LibrarianError]:
        """Make payloads durable, rename them to their names, make the names durable; never over anything.

        Data barrier before the renames, directory barrier after them. Payloads end 0444 / 0555. A repeat finishes
        what a crash interrupted. When this returns, everything PUBLISHED survives a power cut.
        """

    @abstractmethod
    async def clear(self, tokens: Sequence[Token]) -> list[Token]:
        """Remove staging directories; returns those that could not be removed (foreign owners)."""

    @abstractmethod
    async def staged_sizes(self, tokens: Sequence[Token]) -> dict[Token, int]:
        """Bytes that already stand in staging, per token; absent ones are left out."""

    @abstractmethod
    async def write(
        self, token: Token, member: MemberPath | None, chunks: AsyncIterator[bytes], *, offset: int, limit: int
    ) -> int:
        """Write *chunks* into the payload (or one member of a book payload) at *offset*; returns its new size.

        The bytes after what was written are cut off. *offset* may not lie beyond the bytes already there.
        A broken stream keeps what arrived: a later call resumes.

        Raises
        ------
        RangeUnsatisfiable, TooLarge (more than *limit* bytes), NoRoom, StoreUnavailable
        """

    @abstractmethod
    async def write_small(self, items: Sequence[tuple[Token, MemberPath | None, bytes]]) -> list[LibrarianError | None]:
        """Write many small whole payloads or members in one trip; per item an error or None."""

    @abstractmethod
    async def make_book_directories(self, token: Token, directories: Sequence[MemberPath]) -> None:
        """Make the book's top directory and the given (empty) directories in it. A repeat does nothing."""

    @abstractmethod
    async def staged_members(self, token: Token) -> dict[MemberPath | None, int]:
        """Bytes present per member (None: the payload itself is a file), for resuming."""

    @abstractmethod
    def published_member(self, name: FileName, member: MemberPath | None) -> Path:
        """A path to open for reading; refuses to leave the root through links.

        Raises
        ------
        NotFound, StoreUnavailable
        """
