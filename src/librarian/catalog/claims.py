"""Claims: incoming transfers in the hands of ingest, and what becomes of them; staging that is to be cleared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, exists, literal_column, not_, null, select, text, update

from librarian.catalog import rows
from librarian.catalog.columns import Instant, to_micros
from librarian.catalog.incoming_rows import (
    INCOMING_COLUMNS,
    STORE_NAME,
    Candidate,
    Completion,
    Delay,
    Failure,
    Seen,
    every,
    incoming_of,
    is_in,
    is_live,
    may_become,
)
from librarian.catalog.repository import Repository
from librarian.catalog.schema import IncomingRow, StoreRow
from librarian.names import StoreName, Token, TransferId
from librarian.states import Arrival, TransferState
from librarian.timing import utc_now
from librarian.turns import in_turns

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select, Subquery, Update

    from librarian.catalog.records import Incoming

_NOW = bindparam("now", type_=Instant())
_HAS_STAGING = text("incoming_transfers.has_staging")


def _literal(state: TransferState) -> str:
    return f"'{state}'"


class Claims(Repository):
    """Incoming transfers in the hands of ingest."""

    async def candidates(
        self, *, now: datetime, limit: int, except_for: Collection[tuple[StoreName, int, int]] = ()
    ) -> tuple[Candidate, ...]:
        """Staged transfers that may be claimed at *now*, those that wait longest first, at most *limit*.

        *except_for*: (store, from size, below size) of those that nobody could take up now.
        """
        statement = self._once(
            lambda: _candidates(self._table("busy", store=rows.TEXT, at_least=rows.BIGINT, below=rows.BIGINT))
        )
        given = {"busy": rows.pack(except_for), "now": now, "most": limit}
        return tuple(await in_turns(_candidate, await self._connection.execute(statement, given)))

    async def claim(self, ids: Sequence[TransferId]) -> list[Incoming]:
        """Move staged transfers to INGESTING; those that moved are the caller's responsibility."""
        if not ids:
            return []
        statement = self._once(
            lambda: (
                update(IncomingRow)
                .where(self._among(), IncomingRow.state == literal_column(_literal(TransferState.STAGED)))
                .values(state=literal_column(_literal(TransferState.INGESTING)))
                .returning(*INCOMING_COLUMNS, STORE_NAME)
            )
        )
        claimed = await self._connection.execute(statement, {"asked": rows.pack((id_,) for id_ in ids)})
        return sorted(await in_turns(incoming_of, claimed), key=lambda each: each.id)

    def _among(self) -> ColumnElement[bool]:
        return IncomingRow.id.in_(select(self._table("asked", id=rows.BIGINT).c.id))

    async def complete(self, completions: Sequence[Completion]) -> None:
        """The payloads are published and recorded. A repeat does nothing."""
        if not completions:
            return
        statement = self._once(lambda: _complete(self._table("done", id=rows.BIGINT, has_staging=rows.BIGINT)))
        packed = rows.pack((each.id, int(each.has_staging)) for each in completions)
        await self._later(statement, {"done": packed, "now": utc_now()})

    async def fail(self, failures: Sequence[Failure]) -> set[TransferId]:
        """Fail transfers for good, with the reason; returns those that were still live."""
        if not failures:
            return set()
        statement = self._once(lambda: _fail(self._table("failed", id=rows.BIGINT, code=rows.TEXT, reason=rows.TEXT)))
        packed = rows.pack((each.id, each.code, each.reason) for each in failures)
        moved = await self._connection.execute(statement, {"failed": packed, "now": utc_now()})
        return {TransferId(row.id) for row in moved}

    async def release(self, delays: Sequence[Delay]) -> None:
        """Give claimed transfers back to STAGED, to be claimed again after their delay."""
        if not delays:
            return
        late = self._table(
            "late", id=rows.BIGINT, until=rows.BIGINT, code=rows.TEXT, reason=rows.TEXT, is_suspicious=rows.BIGINT
        )
        packed = rows.pack(
            (each.id, to_micros(each.until), each.code, each.reason, int(each.is_suspicious)) for each in delays
        )
        await self._connection.execute(_release(late), {"late": packed})

    async def take_back(self) -> int:
        """Give back every claim of a process that died; only the owner's first act may call this."""
        moved = await self._connection.execute(
            update(IncomingRow)
            .where(is_in(TransferState.INGESTING))
            .values(state=TransferState.STAGED, next_try_at=utc_now())
            .returning(IncomingRow.id)
        )
        return len(moved.all())

    async def staging_cleared(self, ids: Sequence[TransferId]) -> None:
        """Nothing of these is left in staging."""
        if not ids:
            return
        statement = self._once(lambda: update(IncomingRow).where(self._among()).values(has_staging=False))
        await self._connection.execute(statement, {"asked": rows.pack((id_,) for id_ in ids)})

    async def to_clear(self, *, after: TransferId, limit: int) -> list[Incoming]:
        """Ended transfers whose staging still has to be removed, by id, from the one after *after*."""
        found = await self._connection.execute(
            every()
            .where(_HAS_STAGING, not_(is_live(IncomingRow.state)), IncomingRow.id > after)
            .order_by(IncomingRow.id)
            .limit(limit)
        )
        return await in_turns(incoming_of, found)

    async def live(self, *, after: TransferId, limit: int) -> list[Incoming]:
        """Transfers that occupy their name, by id, from the one after *after*."""
        found = await self._connection.execute(
            every().where(is_live(IncomingRow.state), IncomingRow.id > after).order_by(IncomingRow.id).limit(limit)
        )
        return await in_turns(incoming_of, found)

    async def saw(self, seen: Sequence[Seen]) -> set[TransferId]:
        """Note what stands in staging; returns the transfers for which that is news, which counts as progress."""
        if not seen:
            return set()
        sight = self._table("sight", id=rows.BIGINT, reserved=rows.BIGINT)
        moved = await self._connection.execute(
            update(IncomingRow)
            .where(IncomingRow.id == sight.c.id, is_live(IncomingRow.state), IncomingRow.reserved != sight.c.reserved)
            .values(reserved=sight.c.reserved, progressed_at=utc_now())
            .returning(IncomingRow.id),
            {"sight": rows.pack((each.id, each.reserved) for each in seen)},
        )
        return {TransferId(row.id) for row in moved}

    async def staged_tokens(self) -> frozenset[Token]:
        """Every token that may stand in some staging area: of live transfers, and of ended ones not yet cleared."""
        found = await self._connection.execute(select(IncomingRow.token).where(_HAS_STAGING))
        return frozenset(Token(row.token) for row in found)

    async def expire(
        self, *, idle_since: datetime, reason: str, limit: int, except_stores: Collection[StoreName] = ()
    ) -> list[Incoming]:
        """Fail open uploads that made no progress since *idle_since*, and return them.

        Those on *except_stores* are spared: nobody can see there whether they made progress.
        """
        unseen = self._table("unseen", store=rows.TEXT)
        idle = (
            select(IncomingRow.id)
            .join(StoreRow, StoreRow.id == IncomingRow.store_id)
            .where(
                IncomingRow.state.in_([literal_column("'initiated'"), literal_column("'ongoing'")]),
                is_live(IncomingRow.state),
                IncomingRow.arrival == Arrival.UPLOAD,
                IncomingRow.progressed_at < idle_since,
                StoreRow.name.not_in(select(unseen.c.store)),
            )
            .order_by(IncomingRow.id)
            .limit(limit)
        )
        moved = await self._connection.execute(
            update(IncomingRow)
            .where(IncomingRow.id.in_(idle))
            .values(state=TransferState.FAILED, code="abandoned", reason=reason, reserved=0)
            .returning(*INCOMING_COLUMNS, STORE_NAME),
            {"unseen": rows.pack((store,) for store in except_stores)},
        )
        return await in_turns(incoming_of, moved)


def _candidate(row: rows.Found) -> Candidate:
    return Candidate(id=TransferId(row.id), store=StoreName.trusted(row.name), size=row.size, attempts=row.attempts)


def _candidates(busy: Subquery) -> Select[*tuple[object, ...]]:
    is_busy = exists().where(
        busy.c.store == StoreRow.name, busy.c.at_least <= IncomingRow.size, IncomingRow.size < busy.c.below
    )
    return (
        select(IncomingRow.id, StoreRow.name, IncomingRow.size, IncomingRow.attempts)
        .join(StoreRow, StoreRow.id == IncomingRow.store_id)
        .where(is_in(TransferState.STAGED), IncomingRow.next_try_at <= _NOW, not_(is_busy))
        .order_by(IncomingRow.next_try_at, IncomingRow.id)
        .limit(bindparam("most", type_=rows.BIGINT))
    )


def _complete(done: Subquery) -> Update:
    return (
        update(IncomingRow)
        .where(IncomingRow.id == done.c.id, may_become(TransferState.COMPLETED))
        .values(
            state=literal_column(_literal(TransferState.COMPLETED)),
            has_staging=done.c.has_staging == 1,
            code=null(),
            reason=null(),
            reserved=0,
            progressed_at=_NOW,
        )
    )


def _fail(failed: Subquery) -> Update:
    return (
        update(IncomingRow)
        .where(IncomingRow.id == failed.c.id, may_become(TransferState.FAILED))
        .values(
            state=literal_column(_literal(TransferState.FAILED)),
            code=failed.c.code,
            reason=failed.c.reason,
            reserved=0,
            progressed_at=_NOW,
        )
        .returning(IncomingRow.id)
    )


def _release(late: Subquery) -> Update:
    return (
        update(IncomingRow)
        .where(IncomingRow.id == late.c.id, IncomingRow.state == TransferState.INGESTING)
        .values(
            state=TransferState.STAGED,
            next_try_at=late.c.until,
            code=late.c.code,
            reason=late.c.reason,
            attempts=IncomingRow.attempts + late.c.is_suspicious,
        )
    )
