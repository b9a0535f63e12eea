"""The contract of a transfer engine: how bytes travel to a peer's staging.

The key from ``prepare`` is stored in the catalog *before* ``submit``; submitting the same key again yields the same
transfer. Unknown is not failed: trouble with the network or with credentials never changes what is known about a
transfer. The last word on an item is the destination's own measurement, not the engine's list.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from librarian.names import SiteName, StoreName, Token
    from librarian.states import Kind


@dataclass(frozen=True, kw_only=True)
class Item:
    """One payload of a job: from ``source`` to ``<entry point>/<token>/payload``."""

    uuid: str
    token: Token
    #: None: no healthy copy is left to read; the item fails.
    source: Path | None
    kind: Kind
    size: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one batch moves, and whither."""

    peer: SiteName
    store: StoreName
    #: The pinned entry point's address and staging path, as the engine needs them.
    address: str
    staging: str
    items: tuple[Item, ...]
    #: Bytes per second to this peer, over all its jobs of this engine; None: as fast as it can. Globus cannot.
    rate_limit: int | None = None
    #: What was known of it before this process: bytes moved, and since when nothing got done; None: it is new.
    bytes_done: int = 0
    silent_since: datetime | None = None


class Phase(StrEnum):
    """What an engine says about a transfer."""

    ACTIVE = "active"
    #: A human must act.
    HELD = "held"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    #: The engine knows no such key: submit again, same key, same staging.
    LOST = "lost"
    #: The engine cannot be asked now.
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One answer about one transfer; ``failed_items`` maps an item's uuid to the reason, once it has ended."""

    phase: Phase
    bytes_done: int = 0
    reason: str = ""
    #: What a person can do about it; where there is something, a person is told.
    remedy: str = ""
    failed_items: Mapping[str, str] = field(default_factory=dict)
    #: Of the failed items, those that failed because the transfer did: nothing may be wrong with them.
    given_up: frozenset[str] = frozenset()
    #: Of the failed items, those whose source did not read as it should: that copy of ours may be bad.
    suspects: frozenset[str] = frozenset()
    #: Since when nothing got done, although something should; None where the engine does not watch for it.
    silent_since: datetime | None = None


class TransferEngine(ABC):
    """One way for bytes to travel."""

    name: ClassVar[str]

    def reads(self, store: StoreName) -> bool:
        """Whether it can take what stands on *store*, one of ours."""
        return True

    async def look(self, job: Job) -> None:  # noqa: B027 - most have nothing to look at
        """Look whether the places that *job* reads and brings to can be seen; moves nothing.

        Engines whose ``submit`` and ``inspect`` say so soon enough need not.

        Raises
        ------
        LibrarianError
            One cannot; its remedy says what a person can do.
        """

    @abstractmethod
    def keep_to(self, peer: SiteName, bytes_per_second: int | None) -> None:
        """Let no more bytes a second go to *peer* from now on; None: as fast as it can. A repeat does nothing.

        Engines whose bytes others move cannot do it, and do nothing.
        """

    @abstractmethod
    async def prepare(self) -> str:
        """A key for a new transfer; nothing moves yet. Not to be called inside a transaction."""

    @abstractmethod
    async def submit(self, job: Job, key: str) -> str:
        """Start *job* under *key*, which is its handle as well. A repeat with the same key gives the same transfer.

        Raises
        ------
        PeerUnavailable
            Not started as far as we know; submit the same key again.
        EngineFull
            It has no place for another transfer now; nothing is wrong, and the same key may be submitted again.
        """

    @abstractmethod
    async def inspect(self, handles: Sequence[str]) -> dict[str, Progress]:
        """How far the transfers are; never raises for what is merely unknown."""

    @abstractmethod
    async def cancel(self, handle: str) -> None:
        """Stop what was submitted under *handle*, a key, whether we heard of it or not.

        Cancelling what has ended or is unknown does nothing.

        Raises
        ------
        PeerUnavailable
            It may go on; cancel it again.
        """

    @abstractmethod
    async def close(self) -> None:
        """Stop everything that runs in this process; a later submit with the same key resumes it."""
