"""What follows when files arrive, or fail to: copies become due, and peers are told.

Called within the transaction that records the arrival, after the File and Instance rows are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.transaction import Transaction
    from librarian.checksum import Checksum
    from librarian.names import FileId, FileName, PeerId, StoreName
    from librarian.states import Kind


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """One file that is now present, verified and recorded on *store*."""

    file_id: FileId
    name: FileName
    kind: Kind
    size: int
    checksum: Checksum
    store: StoreName
    #: The peer whose clone it was; None for an upload.
    peer_id: PeerId | None
    #: The File row is new; False when an equal file was held already (the loser of two arrivals settles as held).
    is_new: bool


@dataclass(frozen=True, kw_only=True)
class Unarrived:
    """One clone that failed for good."""

    #: The offerer's uuid.
    uuid: str
    peer_id: PeerId
    name: FileName
    size: int
    checksum: Checksum | None
    code: str
    reason: str


async def files_arrived(tx: Transaction, arrivals: Sequence[Arrived]) -> None:
    """Write the copies that *arrivals* owe, and a ``held`` notice to each peer that offered one.

    A repeat writes nothing twice for copies; a second notice about the same file is harmless.
    """


async def arrivals_failed(tx: Transaction, failures: Sequence[Unarrived]) -> None:
    """Write a ``failed`` notice to the peer that offered each of *failures*."""
