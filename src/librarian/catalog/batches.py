"""Batches: transfers that one engine moves together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, case, exists, func, insert, literal, select, update

from librarian.catalog import rows
from librarian.catalog.columns import Instant
from librarian.catalog.records import Batch
from librarian.catalog.repository import Repository
from librarian.catalog.schema import BatchRow, OutgoingRow, PeerRow
from librarian.names import BatchId, PeerId, StoreName
from librarian.states import BATCH_MOVES, BatchState, TransferState, sources_of
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement


_COLUMNS = (
    BatchRow.id,
    BatchRow.peer_id,
    BatchRow.engine,
    BatchRow.store,
    BatchRow.key,
    BatchRow.handle,
    BatchRow.state,
    BatchRow.files,
    BatchRow.bytes,
    BatchRow.bytes_done,
    BatchRow.attempts,
    BatchRow.reason,
    BatchRow.created_at,
    BatchRow.progressed_at,
    BatchRow.silent_since,
)

#: Batches that an engine works on, or is about to.
UNDER_WAY = (BatchState.QUEUED, BatchState.SUBMITTING, BatchState.ACTIVE, BatchState.HELD)
_ENDED = (BatchState.DELIVERED, BatchState.FAILED, BatchState.CANCELLED)


def _batch(row: rows.Found) -> Batch:
    found = row._mapping
    return Batch(
        id=BatchId(found["id"]),
        peer_id=PeerId(found["peer_id"]),
        engine=found["engine"],
        store=StoreName(found["store"]),
        key=found["key"],
        handle=found["handle"],
        state=BatchState(found["state"]),
        files=found["files"],
        bytes=found["bytes"],
        bytes_done=found["bytes_done"],
        attempts=found["attempts"],
        reason=found["reason"],
        created_at=found["created_at"],
        progressed_at=found["progressed_at"],
        silent_since=found["silent_since"],
    )


def _has_work() -> ColumnElement[bool]:
    return exists().where(OutgoingRow.batch_id == BatchRow.id, rows.one_of(OutgoingRow.state, TransferState.ONGOING))


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one engine does for one peer: batches that it has started, and whether another waits."""

    engine: str
    peer_id: PeerId
    started: int
    is_waiting: bool


class Batches(Repository):
    """Transfers that one engine moves together."""

    async def queue(self, peer: PeerId, *, engine: str, store: StoreName, files: int, size: int) -> BatchId:
        """Write a new batch, QUEUED; the caller puts transfers into it in the same transaction."""
        now = utc_now()
        batch = await self._connection.scalar(
            insert(BatchRow)
            .values(
                peer_id=peer,
                engine=engine,
                store=store,
                state=BatchState.QUEUED,
                files=files,
                bytes=size,
                next_try_at=now,
                created_at=now,
                progressed_at=now,
            )
            .returning(BatchRow.id)
        )
        return BatchId(batch or 0)

    async def with_ids(self, ids: Sequence[BatchId]) -> dict[BatchId, Batch]:
        """The batches with the given *ids*."""
        wanted = self._table("wanted", id=rows.BIGINT)
        found = await self._connection.execute(
            select(*_COLUMNS).where(BatchRow.id.in_(select(wanted.c.id))),
            {"wanted": rows.pack((id_,) for id_ in set(ids))},
        )
        return {batch.id: batch for batch in map(_batch, found)}

    async def emptied(self, ids: Sequence[BatchId]) -> tuple[Batch, ...]:
        """Those of *ids* that an engine still works on, or is to, for no transfer at all."""
        wanted = self._table("wanted", id=rows.BIGINT)
        found = await self._connection.execute(
            select(*_COLUMNS).where(
                BatchRow.id.in_(select(wanted.c.id)), rows.one_of(BatchRow.state, *UNDER_WAY), ~_has_work()
            ),
            {"wanted": rows.pack((id_,) for id_ in set(ids))},
        )
        return tuple(map(_batch, found))

    async def peers_with(self, states: Sequence[BatchState], *, now: datetime) -> tuple[PeerId, ...]:
        """Peers with batches in one of *states* whose time has come; disabled and held peers are left out."""
        has = exists().where(
            BatchRow.peer_id == PeerRow.id, rows.one_of(BatchRow.state, *states), BatchRow.next_try_at <= now
        )
        found = await self._connection.scalars(
            select(PeerRow.id).where(PeerRow.is_enabled, PeerRow.held_because.is_(None), has)
        )
        return tuple(PeerId(peer) for peer in found)

    async def waiting(self, *, peer: PeerId, now: datetime, limit: int) -> tuple[Batch, ...]:
        """Batches to *peer* that are to start now, with something to move, oldest first."""
        found = await self._connection.execute(
            select(*_COLUMNS)
            .where(
                rows.one_of(BatchRow.state, BatchState.QUEUED),
                BatchRow.peer_id == peer,
                BatchRow.next_try_at <= now,
                _has_work(),
            )
            .order_by(BatchRow.id)
            .limit(limit)
        )
        return tuple(_batch(row) for row in found)

    async def begun(self, *, limit: int) -> tuple[Batch, ...]:
        """Batches that engines work on, oldest first, and after them those queued, which may have been submitted."""
        found = await self._connection.execute(
            select(*_COLUMNS)
            .where(rows.one_of(BatchRow.state, BatchState.ACTIVE, BatchState.HELD, BatchState.QUEUED))
            .order_by(case((BatchRow.state == BatchState.QUEUED, 1), else_=0), BatchRow.id)
            .limit(limit)
        )
        return tuple(_batch(row) for row in found)

    async def loads(self, now: datetime) -> tuple[Load, ...]:
        """What each engine does for each peer; those that have waited longest for a start come first."""
        is_queued = BatchRow.state == BatchState.QUEUED
        waits = and_(is_queued, BatchRow.next_try_at <= now, _has_work())
        first = func.min(case((waits, BatchRow.id)))
        found = await self._connection.execute(
            select(
                BatchRow.engine,
                BatchRow.peer_id,
                func.sum(case((is_queued, 0), else_=1)).label("started"),
                first.label("first_waiting"),
            )
            .where(rows.one_of(BatchRow.state, *UNDER_WAY))
            .group_by(BatchRow.engine, BatchRow.peer_id)
            .order_by(first)
        )
        return tuple(
            Load(
                engine=row.engine,
                peer_id=PeerId(row.peer_id),
                started=int(row.started),
                is_waiting=row.first_waiting is not None,
            )
            for row in found
        )

    async def bytes_done(self) -> dict[PeerId, int]:
        """Bytes that engines have moved of the batches that have not ended, by peer."""
        found = await self._connection.execute(
            select(BatchRow.peer_id, func.sum(BatchRow.bytes_done))
            .where(rows.one_of(BatchRow.state, *UNDER_WAY))
            .group_by(BatchRow.peer_id)
        )
        return {PeerId(row[0]): int(row[1]) for row in found}

    async def count_under_way(self, peer: PeerId) -> int:
        """How many batches to *peer* have not ended."""
        count = await self._connection.scalar(
            select(func.count())
            .select_from(BatchRow)
            .where(rows.one_of(BatchRow.state, *UNDER_WAY), BatchRow.peer_id == peer)
        )
        return int(count or 0)

    async def move(
        self,
        batch: BatchId,
        to: BatchState,
        *,
        handle: str | None = None,
        bytes_done: int | None = None,
        reason: str | None = None,
        next_try_at: datetime | None = None,
    ) -> bool:
        """Compare and set: False when *batch* is in no state from which it may become *to*.

        Moving back to QUEUED after a failure counts an attempt.
        """
        now = utc_now()
        values: dict[str, object] = {"state": to, "reason": reason, "next_try_at": next_try_at or now}
        if handle is not None:
            values["handle"] = handle
        if bytes_done is not None:
            values["bytes_done"] = bytes_done
        if to is BatchState.QUEUED:
            values["attempts"] = BatchRow.attempts + 1
        if to in _ENDED:
            values["ended_at"] = now
        moved = await self._connection.execute(
            update(BatchRow)
            .where(BatchRow.id == batch, BatchRow.state.in_(sources_of(BATCH_MOVES, to)))
            .values(values)
            .returning(BatchRow.id)
        )
        return moved.first() is not None

    async def give_back(self, batch: BatchId, *, key: str, reason: str | None, next_try_at: datetime) -> None:
        """The batch that was being submitted is QUEUED again, which is no failure; a *key* that it has stays."""
        await self._connection.execute(
            update(BatchRow)
            .where(BatchRow.id == batch, rows.one_of(BatchRow.state, BatchState.SUBMITTING))
            .values(
                key=func.coalesce(BatchRow.key, key), state=BatchState.QUEUED, reason=reason, next_try_at=next_try_at
            )
        )

    async def progress(
        self,
        batch: BatchId,
        *,
        state: BatchState,
        bytes_done: int,
        reason: str | None,
        silent_since: datetime | None,
        next_try_at: datetime,
    ) -> None:
        """The engine has moved *bytes_done* in all, and is ACTIVE or HELD; only growth counts as progress."""
        grew = BatchRow.bytes_done < bytes_done
        await self._connection.execute(
            update(BatchRow)
            .where(BatchRow.id == batch, rows.one_of(BatchRow.state, BatchState.ACTIVE, BatchState.HELD))
            .values(
                state=state,
                bytes_done=case((grew, bytes_done), else_=BatchRow.bytes_done),
                progressed_at=case((grew, literal(utc_now(), Instant())), else_=BatchRow.progressed_at),
                reason=reason,
                silent_since=silent_since,
                next_try_at=next_try_at,
            )
        )

    async def reclaim(self) -> None:
        """Batches that were being submitted when the process died are queued again, under the same key."""
        await self._connection.execute(
            update(BatchRow)
            .where(rows.one_of(BatchRow.state, BatchState.SUBMITTING))
            .values(state=BatchState.QUEUED, next_try_at=utc_now())
        )
