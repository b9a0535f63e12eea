"""What peers were told about our copies: who must hear when the last one goes, and when one comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Text, cast, delete, exists, func, insert, literal, literal_column, select, true, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB

from librarian.catalog import rows
from librarian.catalog.columns import to_micros
from librarian.catalog.repository import Repository
from librarian.catalog.schema import FileRow, IncomingRow, OutboxRow, ToldRow
from librarian.names import FileId, PeerId
from librarian.states import Arrival, TransferState
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Executable, Subquery
    from sqlalchemy.orm import InstrumentedAttribute

    from librarian.catalog.outbox import Note

    Filled = ColumnElement[str] | InstrumentedAttribute[str] | InstrumentedAttribute[int]


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


def _came_on_a_drive(like: Note, state: TransferState) -> tuple[ColumnElement[bool], ...]:
    return (
        IncomingRow.peer_id == like.peer_id,
        rows.one_of(IncomingRow.arrival, Arrival.DRIVE),
        rows.one_of(IncomingRow.state, state),
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

    async def repeat_losses(self, like: Note) -> None:
        """Tell the peer of *like* again of every file that it was told that we lost, however many.

        *like*: what is said of each; the name, size and checksum in its body are filled in. What was set aside about
        these files is no longer true, and goes.
        """
        lost = (ToldRow.peer_id == like.peer_id, ~ToldRow.is_held)
        await self._repeat(
            like,
            FileRow.name,
            {"name": FileRow.name, "size": FileRow.size, "checksum": FileRow.checksum},
            lambda told: told.join_from(ToldRow, FileRow, FileRow.id == ToldRow.file_id).where(*lost),
        )

    async def repeat_carried(self, like: Note) -> None:
        """Tell the peer of *like* again of every file that we hold and that came on a drive of its; see above.

        The transfer is filled in as well: of several the last.
        """
        brought = (
            select(IncomingRow.uuid)
            .where(IncomingRow.name == FileRow.name, *_came_on_a_drive(like, TransferState.COMPLETED))
            .order_by(IncomingRow.id.desc())
            .limit(1)
            .correlate(FileRow)
            .scalar_subquery()
        )
        held = (ToldRow.peer_id == like.peer_id, ToldRow.is_held, brought.is_not(None))
        await self._repeat(
            like,
            FileRow.name,
            {"name": FileRow.name, "size": FileRow.size, "checksum": FileRow.checksum, "transfer": brought},
            lambda told: told.join_from(ToldRow, FileRow, FileRow.id == ToldRow.file_id).where(*held),
        )

    async def repeat_refusals(self, like: Note) -> None:
        """Tell the peer of *like* again of every transfer that we could not take from a drive of its, nor hold since.

        Code and reason are filled in as well; what is told of is the transfer.
        """
        is_held = exists().where(
            FileRow.name == IncomingRow.name,
            ToldRow.file_id == FileRow.id,
            ToldRow.peer_id == like.peer_id,
            ToldRow.is_held,
        )
        columns = {key: getattr(IncomingRow, key) for key in ("name", "size", "checksum")}
        why = {key: func.coalesce(getattr(IncomingRow, key), "") for key in ("code", "reason")}
        refused = (*_came_on_a_drive(like, TransferState.FAILED), ~is_held.correlate(IncomingRow))
        await self._repeat(like, IncomingRow.uuid, columns | why, lambda told: told.where(*refused))

    async def _repeat(
        self,
        like: Note,
        subject: InstrumentedAttribute[str],
        columns: Mapping[str, Filled],
        chosen: Callable[[rows.Chosen], rows.Chosen],
    ) -> None:
        peer = literal(like.peer_id, rows.BIGINT)
        await self._connection.execute(
            delete(OutboxRow).where(
                OutboxRow.peer_id == peer,
                OutboxRow.set_aside_because.is_not(None),
                OutboxRow.subject.in_(chosen(select(subject))),
            )
        )
        now = literal(to_micros(utc_now()), rows.BIGINT)
        # One statement: told row by row, a hundred thousand would hold up every other writer for ten seconds.
        told = chosen(select(peer, subject, literal(like.state), self._filled_in(like.body, columns), now, now))
        await self._connection.execute(
            insert(OutboxRow).from_select(
                ["peer_id", "subject", "state", "body", "next_try_at", "created_at"],
                told.order_by(subject.class_.id),
            )
        )

    def _filled_in(self, body: str, columns: Mapping[str, Filled]) -> ColumnElement[str]:
        if self._is_sqlite:
            return func.json_set(body, *(part for key, value in columns.items() for part in (f"$.{key}", value)))
        given = [part for key, value in columns.items() for part in (literal(key), value)]
        return cast(cast(literal(body, Text), JSONB).concat(func.jsonb_build_object(*given)), Text)
