"""What peers were told about our copies: who must hear when the last one goes, and when one comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, literal_column, select, true, update
from sqlalchemy.dialects import postgresql, sqlite

from librarian.catalog import rows
from librarian.catalog.files import FILE_COLUMNS, file_of
from librarian.catalog.repository import Repository
from librarian.catalog.schema import FileRow, ToldRow
from librarian.names import FileId, PeerId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Executable, Subquery

    from librarian.catalog.records import File


@dataclass(frozen=True, kw_only=True)
class Telling:
    """What the peer knows, or will know by what waits in the outbox, about our copy of a file."""

    peer_id: PeerId
    file_id: FileId
    is_held: bool


def _held(is_sqlite: bool, told: Subquery) -> Executable:
    # A condition is needed: SQLite cannot tell "ON CONFLICT" from a join's "ON" otherwise.
    chosen = select(told.c.peer_id, FileRow.id, literal_column("true")).join(FileRow, FileRow.name == told.c.name)
    insert = sqlite.insert if is_sqlite else postgresql.insert
    statement = insert(ToldRow).from_select(["peer_id", "file_id", "is_held"], chosen.where(true()))
    return statement.on_conflict_do_update(
        index_elements=["file_id", "peer_id"], set_={"is_held": literal_column("true")}, where=~ToldRow.is_held
    )


class Told(Repository):
    """What peers were told about our copies. Its rows change in the transaction that writes the notices."""

    async def held(self, told: Sequence[tuple[PeerId, str]]) -> None:
        """Peers are told that we hold files: pairs of (peer, name). A repeat changes nothing."""
        if not told:
            return
        statement = self._once(
            lambda: _held(self._is_sqlite, self._table("told_now", peer_id=rows.BIGINT, name=rows.TEXT))
        )
        # One order for all: two transactions that tell the same must not wait for each other.
        await self._later(statement, {"told_now": rows.pack(sorted(set(told), key=lambda pair: (pair[1], pair[0])))})

    async def lock(self, files: Sequence[FileId]) -> tuple[Telling, ...]:
        """Who was told what about *files*; nobody else changes that, nor says anything of it, before we commit.

        To be called before looking whether a copy is left, by whoever takes one away, and by whoever brings one:
        otherwise each may miss what the other does, and the last word would be wrong.
        """
        if not files:
            return ()
        asked = self._table("asked", file_id=rows.BIGINT)
        found = await self._connection.execute(
            select(ToldRow.peer_id, ToldRow.file_id, ToldRow.is_held)
            .where(ToldRow.file_id.in_(select(asked.c.file_id)))
            .order_by(ToldRow.file_id, ToldRow.peer_id)
            .with_for_update(),
            {"asked": rows.pack((file_id,) for file_id in files)},
        )
        return tuple(
            Telling(peer_id=PeerId(row.peer_id), file_id=FileId(row.file_id), is_held=row.is_held) for row in found
        )

    async def gone(self, files: Sequence[FileId]) -> tuple[tuple[PeerId, FileId], ...]:
        """Our last copies of *files* went; returns the peers that were told otherwise. A repeat returns none."""
        if not files:
            return ()
        lost = self._table("lost", file_id=rows.BIGINT)
        found = await self._connection.execute(
            update(ToldRow)
            .where(ToldRow.file_id.in_(select(lost.c.file_id)), ToldRow.is_held)
            .values(is_held=False)
            .returning(ToldRow.peer_id, ToldRow.file_id),
            {"lost": rows.pack((file_id,) for file_id in files)},
        )
        return tuple(sorted((PeerId(row.peer_id), FileId(row.file_id)) for row in found))

    async def lost(self, peer: PeerId, *, after: FileId, limit: int) -> tuple[File, ...]:
        """Files that *peer* was told that we lost, by id, those with ids above *after*, at most *limit*."""
        is_lost = and_(ToldRow.peer_id == peer, ~ToldRow.is_held, ToldRow.file_id > after)
        found = await self._connection.execute(
            select(*FILE_COLUMNS)
            .join(ToldRow, ToldRow.file_id == FileRow.id)
            .where(is_lost)
            .order_by(ToldRow.file_id)
            .limit(limit)
        )
        return tuple(map(file_of, found))
