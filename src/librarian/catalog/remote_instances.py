"""Remote instances: copies at peers, as they told us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, literal, or_, select, true, update
from sqlalchemy.dialects import postgresql, sqlite

from librarian.catalog import rows
from librarian.catalog.columns import to_micros
from librarian.catalog.records import RemoteInstanceRecord
from librarian.catalog.repository import Repository
from librarian.catalog.schema import PeerRow, RemoteInstanceRow
from librarian.names import FileId, PeerId, SiteName
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class Attestation:
    """What a peer says about its copy of one of our files."""

    file_id: FileId
    store: str
    is_held: bool
    seq: int


class RemoteInstances(Repository):
    """Copies at peers, as they told us."""

    async def attest(self, peer: PeerId, attestations: Sequence[Attestation], *, epoch: int) -> frozenset[FileId]:
        """Write down what *peer* says; returns the files about which nothing newer was known.

        A repeat, and anything older than what is known, changes nothing.
        """
        if not attestations:
            return frozenset()
        said = self._table("said", file_id=rows.BIGINT, store=rows.TEXT, is_held=rows.BOOL, seq=rows.BIGINT)
        dialect_insert = sqlite.insert if self._is_sqlite else postgresql.insert
        source = select(
            said.c.file_id,
            literal(peer),
            said.c.store,
            said.c.is_held,
            literal(to_micros(utc_now())),
            literal(epoch),
            said.c.seq,
        ).where(true())
        statement = dialect_insert(RemoteInstanceRow).from_select(
            ["file_id", "peer_id", "store", "is_held", "attested_at", "epoch", "seq"], source
        )
        new = statement.excluded
        upsert = statement.on_conflict_do_update(
            index_elements=["file_id", "peer_id"],
            set_={
                "store": new.store,
                "is_held": new.is_held,
                "attested_at": new.attested_at,
                "epoch": new.epoch,
                "seq": new.seq,
            },
            where=or_(
                RemoteInstanceRow.epoch < new.epoch,
                and_(RemoteInstanceRow.epoch == new.epoch, RemoteInstanceRow.seq < new.seq),
            ),
        ).returning(RemoteInstanceRow.file_id)
        packed = rows.pack((a.file_id, a.store, a.is_held, a.seq) for a in attestations)
        written = await self._connection.execute(upsert, {"said": packed})
        return frozenset(FileId(file_id) for file_id in written.scalars())

    async def held(self, peer: PeerId, files: Sequence[FileId]) -> frozenset[FileId]:
        """Those of *files* that *peer* is known to hold."""
        if not files:
            return frozenset()
        asked = self._table("asked", file_id=rows.BIGINT)
        found = await self._connection.scalars(
            select(RemoteInstanceRow.file_id)
            .join(asked, asked.c.file_id == RemoteInstanceRow.file_id)
            .where(RemoteInstanceRow.peer_id == peer, RemoteInstanceRow.is_held),
            {"asked": rows.pack((file_id,) for file_id in files)},
        )
        return frozenset(FileId(file_id) for file_id in found)

    async def doubt(self, peer: PeerId) -> None:
        """Nothing is known any more about what *peer* holds, until it says so again. A repeat does nothing."""
        await self._connection.execute(
            update(RemoteInstanceRow)
            .where(RemoteInstanceRow.peer_id == peer, RemoteInstanceRow.is_held)
            .values(is_held=False)
        )

    async def of_files(self, files: Sequence[FileId]) -> tuple[RemoteInstanceRecord, ...]:
        """The copies that peers hold of *files*, by file and peer."""
        wanted = self._table("wanted", file_id=rows.BIGINT)
        found = await self._connection.execute(
            select(RemoteInstanceRow.file_id, PeerRow.name, RemoteInstanceRow.store, RemoteInstanceRow.attested_at)
            .join(wanted, wanted.c.file_id == RemoteInstanceRow.file_id)
            .join(PeerRow, PeerRow.id == RemoteInstanceRow.peer_id)
            .where(RemoteInstanceRow.is_held)
            .order_by(RemoteInstanceRow.file_id, PeerRow.name),
            {"wanted": rows.pack((file_id,) for file_id in files)},
        )
        return tuple(
            RemoteInstanceRecord(
                file_id=FileId(row.file_id), peer=SiteName(row.name), store=row.store, attested_at=row.attested_at
            )
            for row in found
        )
