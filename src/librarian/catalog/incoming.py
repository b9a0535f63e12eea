"""Incoming transfers: files on their way in, uploads and clones alike. ``claims`` has what ingest does with them."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, func, insert, literal_column, or_, select, update

from librarian.catalog import rows
from librarian.catalog.columns import Instant
from librarian.catalog.incoming_rows import (
    INCOMING_COLUMNS,
    OFFERER,
    OPENING_COLUMNS,
    STORE_NAME,
    Commit,
    Opening,
    Shelf,
    cells_of,
    every,
    incoming_of,
    is_live,
    may_become,
    opened,
)
from librarian.catalog.repository import Repository
from librarian.catalog.schema import IncomingRow, StoreRow, TallyRow
from librarian.names import PeerId, StoreId, StoreName, Token, TransferId
from librarian.states import Kind, TransferState
from librarian.timing import utc_now
from librarian.turns import in_turns

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Executable, Select, Subquery

    from librarian.catalog.records import Incoming

#: A promise of room to a transfer that has not moved for this long is not counted.
LAPSE: Final = timedelta(days=1)


class IncomingTransfers(Repository):
    """Files on their way in. What may follow what is ``states.INCOMING_MOVES``, nothing else."""

    async def shelves(self, kind: str = "local") -> tuple[Shelf, ...]:
        """Every store of *kind* with what it keeps and has promised, by name. Only live transfers hold a promise.

        An open one that has not moved for a day holds none until it moves again: its client or peer may be gone for
        weeks, and whoever comes meanwhile is not to be sent away for bytes that do not come.
        """
        found = await self._connection.execute(_shelves(), {"since": utc_now() - LAPSE, "kind": kind})
        return tuple(
            Shelf(store=StoreName(row.name), is_open=row.is_open, reserved=int(row.reserved), held=int(row.held))
            for row in found
        )

    async def open(self, openings: Sequence[Opening]) -> list[Incoming]:
        """Write *openings* as INITIATED rows, and return them in the same order.

        The names must be free (``Files.conflicts`` in the same transaction, which ``opens_names``), the stores known.
        """
        if not openings:
            return []
        now = utc_now()
        statement = self._once(lambda: _open(self._table("new", store=rows.TEXT, **OPENING_COLUMNS)))
        written = await self._connection.execute(
            statement, {"new": rows.pack(await in_turns(partial(cells_of, now=now), openings))}
        )
        ids = {row.uuid: (TransferId(row.id), StoreId(row.store_id)) for row in written}
        return await in_turns(lambda each: opened(each, *ids[each.uuid], now), openings)

    async def with_uuids(self, uuids: Sequence[str], *, peer_id: PeerId | None = None) -> list[Incoming]:
        """The transfers of these UUIDs, uploads (or one peer's clones), in no order; unknown ones are absent."""
        if not uuids:
            return []
        statement = self._once(lambda: _with_uuids(self._table("asked", uuid=rows.TEXT)))
        given = {"asked": rows.pack((uuid,) for uuid in uuids), "peer": peer_id or 0}
        found = await self._connection.execute(statement, given)
        return await in_turns(incoming_of, found)

    async def with_tokens(self, tokens: Collection[Token]) -> list[Incoming]:
        """The transfers whose staging has these names; unknown ones are absent."""
        if not tokens:
            return []
        asked = self._table("asked", token=rows.TEXT)
        found = await self._connection.execute(
            every().where(IncomingRow.token.in_(select(asked.c.token))),
            {"asked": rows.pack((token,) for token in tokens)},
        )
        return [incoming_of(row) for row in found]

    async def advance(
        self, ids: Sequence[TransferId], *, to: TransferState, code: str | None = None, reason: str | None = None
    ) -> set[TransferId]:
        """Move transfers to *to* where ``INCOMING_MOVES`` allows, and return those that moved."""
        if not ids:
            return set()
        asked = self._table("asked", id=rows.BIGINT)
        moved = await self._connection.execute(
            update(IncomingRow)
            .where(IncomingRow.id.in_(select(asked.c.id)), may_become(to))
            .values(state=to, code=code, reason=reason, progressed_at=utc_now())
            .returning(IncomingRow.id),
            {"asked": rows.pack((id_,) for id_ in ids)},
        )
        return {TransferId(row.id) for row in moved}

    async def commit(self, commits: Sequence[Commit], *, account: str | None) -> list[Incoming]:
        """Stage uploads whose bytes are all there, and return those that moved.

        Moved are those of *account* (None: anybody's) that are still open, have a checksum from open or commit
        (equal, when both), of the kind that fits a file or a book. One statement; the caller asks about the rest.
        """
        if not commits:
            return []
        statement = self._once(
            lambda: _commit(self._table("given", uuid=rows.TEXT, checksum=rows.TEXT, peer_id=rows.BIGINT))
        )
        packed = rows.pack((each.uuid, each.checksum, 0) for each in commits)
        moved = await self._connection.execute(statement, {"given": packed, "opened_by": account, "now": utc_now()})
        return await in_turns(incoming_of, moved)

    async def cancel(
        self, ids: Sequence[TransferId], *, code: str | None = None, reason: str | None = None
    ) -> set[TransferId]:
        """Cancel what may still be cancelled, and return that."""
        return await self.advance(ids, to=TransferState.CANCELLED, code=code, reason=reason)


@lru_cache(maxsize=1)
def _shelves() -> Select[*tuple[object, ...]]:
    promised = (
        select(IncomingRow.store_id, func.sum(IncomingRow.reserved).label("bytes"))
        .where(
            is_live(IncomingRow.state),
            or_(
                IncomingRow.state.in_([literal_column("'staged'"), literal_column("'ingesting'")]),
                IncomingRow.progressed_at > bindparam("since", type_=Instant()),
            ),
        )
        .group_by(IncomingRow.store_id)
        .subquery()
    )
    return (
        select(
            StoreRow.name,
            StoreRow.is_open,
            func.coalesce(promised.c.bytes, 0).label("reserved"),
            func.coalesce(TallyRow.bytes, 0).label("held"),
        )
        .outerjoin(promised, promised.c.store_id == StoreRow.id)
        .outerjoin(TallyRow, TallyRow.subject == literal_column("'store:'").concat(StoreRow.name))
        .where(StoreRow.kind == bindparam("kind", type_=rows.TEXT))
        .order_by(StoreRow.name)
    )


def _open(new: Subquery) -> Executable:
    return (
        insert(IncomingRow)
        .from_select(
            ["store_id", "state", "has_staging", *OPENING_COLUMNS],
            select(
                StoreRow.id,
                literal_column(f"'{TransferState.INITIATED}'"),
                literal_column("true"),
                *(new.c[name] for name in OPENING_COLUMNS),
            ).where(StoreRow.name == new.c.store),
        )
        .returning(IncomingRow.id, IncomingRow.uuid, IncomingRow.store_id)
    )


def _with_uuids(asked: Subquery) -> Select[*tuple[object, ...]]:
    peer = bindparam("peer", type_=rows.BIGINT)
    return every().where(peer == OFFERER, IncomingRow.uuid.in_(select(asked.c.uuid)))


def _commit(given: Subquery) -> Executable:
    account = bindparam("opened_by", type_=rows.TEXT)
    now = bindparam("now", type_=Instant())
    checksum = func.coalesce(IncomingRow.checksum, given.c.checksum)
    return (
        update(IncomingRow)
        .where(
            IncomingRow.uuid == given.c.uuid,
            IncomingRow.arrival == literal_column("'upload'"),
            # Zero as a column, not as a constant: SQLite would rather walk every upload there ever was.
            given.c.peer_id == OFFERER,
            may_become(TransferState.STAGED),
            # An ingest that was cut off also goes back to STAGED, but not by a commit.
            IncomingRow.state != literal_column(f"'{TransferState.INGESTING}'"),
            checksum.is_not(None),
            func.coalesce(given.c.checksum, checksum) == checksum,
            checksum.like("book1-%") == (IncomingRow.kind == Kind.BOOK),
            IncomingRow.account == func.coalesce(account, IncomingRow.account),
        )
        .values(state=TransferState.STAGED, checksum=checksum, progressed_at=now, next_try_at=now)
        .returning(*INCOMING_COLUMNS, STORE_NAME)
    )
