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
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from librarian.states import VerifiedFrom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence
    from datetime import datetime
    from pathlib import Path

    from librarian.checksum import Algorithm, Checksum, Measured
    from librarian.errors import LibrarianError
    from librarian.names import FileName, MemberPath, StoreName, Token
    from librarian.states import Kind
    from librarian.stores.lane import Lane
    from librarian.stores.parcels import Poured, Pouring, Source

T = TypeVar("T")

#: How long a store may be silent before it counts as hung.
ANSWER_TIMEOUT: Final = timedelta(seconds=30)


class Barrier(StrEnum):
    """How a batch of publications is made durable."""

    #: One call for the whole file system: best on a local disk.
    SYNCFS = "syncfs"
    #: One call per file and directory: what network file systems honour.
    FSYNC = "fsync"


@dataclass(frozen=True, kw_only=True)
class StoreSpec:
    """A store as it is configured.

    ``staging`` must be on the root's own mount, outside the published names: beside the root, or in it under a name
    that starts with ``.librarian``. ``staging_mode`` and ``staging_group`` are those of each ``<token>/`` directory;
    None means 0o2770 where others write, else 0o700. ``verify_from``: whether what was written is measured from the
    medium before it counts.
    """

    name: StoreName
    root: Path
    staging: Path
    limit_bytes: int | None = None
    barrier: Barrier = Barrier.SYNCFS
    staging_mode: int | None = None
    staging_group: str | None = None
    takes_foreign_writes: bool = False
    verify_from: VerifiedFrom = VerifiedFrom.CACHE
    answer_timeout: timedelta = ANSWER_TIMEOUT


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a store can take, in bytes, as last sampled: min(configured limit, file system).

    ``limit_bytes`` is the configured limit on what librarian keeps there, None when there is none.
    """

    total_bytes: int
    free_bytes: int
    free_inodes: int
    limit_bytes: int | None = None

    def free_beside(self, held_bytes: int) -> int:
        """Free bytes when *held_bytes* are already kept on the store: what the limit leaves, if that is less."""
        if self.limit_bytes is None:
            return self.free_bytes
        return max(0, min(self.free_bytes, self.limit_bytes - held_bytes))


@dataclass(frozen=True, kw_only=True)
class Stray:
    """An entry in staging that nobody asked for; ``place`` is its path below the staging area."""

    place: str
    changed_at: datetime


@dataclass(frozen=True, kw_only=True)
class Staged:
    """What stands in staging under a token.

    ``is_ours``: every part is owned by the server's uid with one link (and nobody else may write it, where others
    write into staging), so that a rename publishes it safely; otherwise ``take`` must copy it first. ``path`` is
    where to read it: what is measured there is what ``publish`` moves.
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
class Bringing:
    """One payload to copy from another store: what stands there under ``name``, into ``token``'s staging.

    ``replaces``: what stands under the name here is known to be bad.
    """

    token: Token
    name: FileName
    kind: Kind
    checksum: Checksum
    replaces: bool


@dataclass(frozen=True, kw_only=True)
class Publication:
    """One payload to publish: from ``token``'s staging to ``name``."""

    token: Token
    name: FileName
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class BadCopy:
    """The right to move away what stands under ``name``; nothing gives a right to remove it.

    Made where it is proven, by ``tasks/replacing.py`` alone: the copy was read twice and found corrupt, and a good
    one waits in staging to take its place.
    """

    name: FileName


class Store(ABC):
    """A place for payloads; see the module's docstring for what holds for every method."""

    name: StoreName
    root: Path
    staging: Path
    #: Others write into staging under their own uid: reserve twice the size.
    takes_foreign_writes: bool
    #: Whether what was written there is measured from the medium before it counts.
    verify_from: VerifiedFrom

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

        Per item UnsupportedMember (symlink, device, bad name, unreadable), or NotFound when there is no payload.
        Where others write into staging, a payload that is ours is moved into a place that only the server can write,
        so that nobody exchanges it between measuring and publishing; publishing there asks for this first.
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
    async def lend_root(self) -> int:
        """A descriptor of the root, seen to be the one that was opened; the caller closes it."""

    @abstractmethod
    async def bring(self, items: Sequence[Bringing], *, root_fd: int) -> list[LibrarianError | None]:
        """Copy what stands below the root *root_fd* of another store into staging, durably, hashing what is read.

        Where something stands under the name that is not known to be bad, nothing is copied: whoever publishes it finds
        out what it is.
        No blocks are shared with the source. A repeat starts over.

        Returns
        -------
        Per item None, SourceBad (missing, unreadable, or not what it should be), NoRoom, or what else is wrong here.
        """

    @abstractmethod
    async def let_go(self, payloads: Sequence[Path]) -> list[bool]:
        """Make *payloads*, which stand here, durable, and drop them from the page cache; whether each is out of it."""

    @abstractmethod
    async def measure_directly(self, payload: Path, algorithm: Algorithm) -> Measured | None:
        """Measure past the page cache; None where the file system does not read so.

        Raises
        ------
        As ``checksum.measure_blocking``, StoreUnavailable.
        """

    @abstractmethod
    async def publish(self, items: Sequence[Publication]) -> list[Publishing | LibrarianError]:
        """Make payloads durable, rename them to their names, make the names durable; never over anything.

        Data barrier before the renames, directory barrier after them. Payloads end 0444 / 0555. A repeat finishes
        what a crash interrupted. When this returns, everything PUBLISHED, NAME_ONLY or NAME_TAKEN survives a power
        cut. Per item WrongState when a part of the payload is not ours, NameNested when a parent of the name is a
        file or a book.
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
    async def staged_size(self, token: Token, member: MemberPath | None) -> int | None:
        """Bytes present of the payload (a file) or of one member, for resuming; None when there is no such file."""

    @abstractmethod
    async def staged_members(self, token: Token) -> dict[MemberPath | None, int]:
        """Bytes present per member (None: the payload itself is a file), for resuming."""

    @abstractmethod
    async def lay_probe(self) -> str:
        """Make the file in staging by which others find out that they share it; its name. A repeat does nothing."""

    @abstractmethod
    async def read(self, work: Callable[[], T]) -> T:
        """Do *work*, which blocks on this store's disk, in the store's own threads: a hung store holds up no other.

        Raises
        ------
        StoreUnavailable
            It does not answer; *work* may still be under way.
        LibrarianError
            What *work* raised, an OSError as what it means for the store.
        """

    @abstractmethod
    def published_member(self, name: FileName, member: MemberPath | None) -> Path:
        """A path to open for reading; refuses to leave the root through links.

        Blocks on the disk: call it through ``read``.

        Raises
        ------
        NotFound, UnsupportedMember (a link stands in the way), StoreUnavailable
        """

    @abstractmethod
    async def open_published(self, name: FileName, member: MemberPath | None) -> BinaryIO:
        """Open a published file, or a member of a book, for reading, unbuffered; no link is followed on the way.

        Raises
        ------
        NotFound, UnsupportedMember (a link, or not a regular file), StoreUnavailable
        """

    @abstractmethod
    async def pour(self, items: Sequence[Pouring], *, source: Source, lane: Lane) -> list[Poured]:
        """Copy (or reflink) what a drive carries into staging that ``stage`` has made, comparing what is read.

        Done in the threads of *lane*, which are the drive's: one that hangs holds up no store. The drive is only read.
        A repeat starts each over. Per item None, or why not; what comes behind a drive that is gone, or a store that
        is full, is not tried.

        Raises
        ------
        StoreUnavailable
            The store as a whole cannot be used, or the drive does not answer.
        """

    @abstractmethod
    async def survey(self, known: Collection[Token], *, older_than: timedelta = timedelta(hours=1)) -> list[Stray]:
        """Entries of staging whose name is not among *known* and that did not change for *older_than*.

        The age keeps a token that was minted after *known* was read from counting as a stray.
        """

    @abstractmethod
    async def quarantine(self, strays: Sequence[Stray]) -> list[Stray]:
        """Move *strays* aside, to ``<staging>/.quarantine/<stamp>-<name>``; returns those that could not be moved."""

    @abstractmethod
    async def set_bad_aside(self, copies: Sequence[BadCopy]) -> list[str | LibrarianError]:
        """Move bad *copies* to ``<staging>/.quarantine/corrupt-<stamp>-…``, where they stay until a person looks.

        Returns
        -------
        Where each is now, as seen from staging; empty where nothing stands under the name (any more).
        """

    @abstractmethod
    async def expire_quarantine(self, older_than: timedelta) -> list[str]:
        """Remove what has been in quarantine for longer than *older_than*; returns what could not be removed."""

    @abstractmethod
    async def probe(self) -> str | None:
        """Look whether the store answers and is the one it was; returns the ``problem`` that remains.

        Repeats the last ``open`` when the store has a problem. Never raises for an unavailable store.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let the store's threads go. What hangs in a dead mount is left behind."""
