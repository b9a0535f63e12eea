"""The outbox: what peers must learn, one row per assertion, gone once acknowledged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, exists, func, insert, select, update
from sqlalchemy.orm import aliased

from librarian.catalog import rows
from librarian.catalog.columns import to_micros
from librarian.catalog.repository import Repository
from librarian.catalog.schema import OutboxRow, PeerRow
from librarian.names import PeerId, SiteName
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something a peer must learn."""

    peer_id: PeerId
    #: A transfer's uuid or a file's name; order holds per subject.
    subject: str
    state: str
    #: JSON of the rest of the assertion.
    body: str


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A note that has not been acknowledged."""

    id: int
    subject: str
    state: str
    body: str
    #: Given by the one writer; None until then.
    seq: int | None
    epoch: int | None
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Untold:
    """A note that its peer has not acknowledged, as people look at it."""

    id: int
    peer: SiteName
    subject: str
    state: str
    body: str
    attempts: int
    set_aside_because: str | None
    created_at: datetime


class Outbox(Repository):
    """What peers must learn."""

    async def put(self, notes: Sequence[Note]) -> None:
        """Write *notes*, in order. Every one is a full assertion, so that saying it twice is harmless."""
        if not notes:
            return
        now = to_micros(utc_now())
        put = self._table(
            "put", peer_id=rows.BIGINT, subject=rows.TEXT, state=rows.TEXT, body=rows.TEXT, at=rows.BIGINT
        )
        await self._connection.execute(
            insert(OutboxRow).from_select(
                ["peer_id", "subject", "state", "body", "next_try_at", "created_at"],
                select(put.c.peer_id, put.c.subject, put.c.state, put.c.body, put.c.at, put.c.at),
            ),
            {"put": rows.pack((note.peer_id, note.subject, note.state, note.body, now) for note in notes)},
        )

    async def peers_waiting(self, now: datetime) -> tuple[PeerId, ...]:
        """Enabled peers that have something to learn by *now*."""
        waiting = exists().where(OutboxRow.peer_id == PeerRow.id, *_may_be_said(now))
        found = await self._connection.scalars(select(PeerRow.id).where(PeerRow.is_enabled, waiting))
        return tuple(PeerId(peer) for peer in found)

    async def waiting(self, peer: PeerId, *, now: datetime, limit: int) -> tuple[Waiting, ...]:
        """What *peer* must learn next, oldest first, at most *limit*.

        A note waits behind every older one of its subject that was set aside or must be tried again later.
        """
        found = await self._connection.execute(
            select(
                OutboxRow.id,
                OutboxRow.subject,
                OutboxRow.state,
                OutboxRow.body,
                OutboxRow.seq,
                OutboxRow.epoch,
                OutboxRow.attempts,
            )
            .where(OutboxRow.peer_id == peer, *_may_be_said(now))
            .order_by(OutboxRow.id)
            .limit(limit)
        )
        return tuple(Waiting(**row._mapping) for row in found)

    async def number(self, numbered: Sequence[tuple[int, int]], *, epoch: int) -> None:
        """Give notes their place: pairs of (id, seq) under *epoch*."""
        if not numbered:
            return
        given = self._table("given", id=rows.BIGINT, seq=rows.BIGINT)
        await self._connection.execute(
            update(OutboxRow).where(OutboxRow.id == given.c.id).values(seq=given.c.seq, epoch=epoch),
            {"given": rows.pack(numbered)},
        )

    async def acknowledge(self, ids: Sequence[int]) -> None:
        """The peer knows. A repeat does nothing."""
        if not ids:
            return
        known = self._table("known", id=rows.BIGINT)
        await self._connection.execute(
            delete(OutboxRow).where(OutboxRow.id.in_(select(known.c.id))), {"known": rows.pack((i,) for i in ids)}
        )

    async def postpone(self, ids: Sequence[int], *, until: datetime) -> None:
        """Try these again after *until*."""
        if not ids:
            return
        later = self._table("later", id=rows.BIGINT)
        await self._connection.execute(
            update(OutboxRow)
            .where(OutboxRow.id.in_(select(later.c.id)))
            .values(attempts=OutboxRow.attempts + 1, next_try_at=until),
            {"later": rows.pack((i,) for i in ids)},
        )

    async def set_aside(self, refusals: Sequence[tuple[int, str]]) -> None:
        """The peer refuses these for good: pairs of (id, why). They and their successors wait for a person."""
        if not refusals:
            return
        refused = self._table("refused", id=rows.BIGINT, why=rows.TEXT)
        await self._connection.execute(
            update(OutboxRow).where(OutboxRow.id == refused.c.id).values(set_aside_because=refused.c.why),
            {"refused": rows.pack(refusals)},
        )

    async def about(self, subjects: Sequence[tuple[PeerId, str]]) -> tuple[Untold, ...]:
        """What peers have not acknowledged, each about its subject, oldest first."""
        asked = self._table("asked", peer_id=rows.BIGINT, subject=rows.TEXT)
        is_asked = and_(asked.c.peer_id == OutboxRow.peer_id, asked.c.subject == OutboxRow.subject)
        found = await self._connection.execute(
            _untold().join(asked, is_asked).order_by(OutboxRow.id), {"asked": rows.pack(subjects)}
        )
        return tuple(map(_record, found))

    async def set_aside_ones(self, *, after: int, peer: PeerId | None, limit: int) -> tuple[Untold, ...]:
        """What peers refuse for good, oldest first, those with ids above *after*, at most *limit*."""
        found = await self._connection.execute(
            _untold().where(OutboxRow.id > after, *_set_aside(peer)).order_by(OutboxRow.id).limit(limit)
        )
        return tuple(map(_record, found))

    async def count_untold(self, peer: PeerId) -> int:
        """How many notices *peer* has not acknowledged."""
        found = await self._connection.scalar(
            select(func.count()).select_from(OutboxRow).where(OutboxRow.peer_id == peer)
        )
        return int(found or 0)

    async def count_set_aside(self, *, ids: Sequence[int], peer: PeerId | None) -> int:
        """How many of *ids* (none: of all) are set aside, for *peer* (None: for all)."""
        found = await self._connection.scalar(
            select(func.count()).select_from(OutboxRow).where(*self._among(ids), *_set_aside(peer)), _given(ids)
        )
        return int(found or 0)

    async def say_again(self, *, ids: Sequence[int], peer: PeerId | None) -> int:
        """Notes that were set aside are said again, and then what waited behind them; returns how many."""
        again = await self._connection.execute(
            update(OutboxRow)
            .where(*self._among(ids), *_set_aside(peer))
            .values(set_aside_because=None, attempts=0, next_try_at=utc_now())
            .returning(OutboxRow.id),
            _given(ids),
        )
        return len(again.all())

    async def drop(self, *, ids: Sequence[int], peer: PeerId | None) -> int:
        """Notes that were set aside are never said; what waited behind them goes on. Returns how many."""
        gone = await self._connection.execute(
            delete(OutboxRow).where(*self._among(ids), *_set_aside(peer)).returning(OutboxRow.id), _given(ids)
        )
        return len(gone.all())

    def _among(self, ids: Sequence[int]) -> list[ColumnElement[bool]]:
        return [OutboxRow.id.in_(select(self._table("among", id=rows.BIGINT).c.id))] if ids else []

    async def forget(self, peer: PeerId, subjects: Sequence[str]) -> None:
        """Drop what was set aside about *subjects*: it is no longer true."""
        if not subjects:
            return
        moot = self._table("moot", subject=rows.TEXT)
        await self._connection.execute(
            delete(OutboxRow).where(
                OutboxRow.peer_id == peer,
                OutboxRow.subject.in_(select(moot.c.subject)),
                OutboxRow.set_aside_because.is_not(None),
            ),
            {"moot": rows.pack((subject,) for subject in subjects)},
        )


def _set_aside(peer: PeerId | None) -> list[ColumnElement[bool]]:
    is_peers = [] if peer is None else [OutboxRow.peer_id == peer]
    return [*is_peers, OutboxRow.set_aside_because.is_not(None)]


def _given(ids: Sequence[int]) -> dict[str, str]:
    return {"among": rows.pack((id_,) for id_ in ids)} if ids else {}


def _untold() -> rows.Chosen:
    return select(
        OutboxRow.id,
        PeerRow.name,
        OutboxRow.subject,
        OutboxRow.state,
        OutboxRow.body,
        OutboxRow.attempts,
        OutboxRow.set_aside_because,
        OutboxRow.created_at,
    ).join(PeerRow, PeerRow.id == OutboxRow.peer_id)


def _record(row: rows.Found) -> Untold:
    return Untold(
        id=row.id,
        peer=SiteName(row.name),
        subject=row.subject,
        state=row.state,
        body=row.body,
        attempts=row.attempts,
        set_aside_because=row.set_aside_because,
        created_at=row.created_at,
    )


def _may_be_said(now: datetime) -> tuple[ColumnElement[bool], ...]:
    older = aliased(OutboxRow)
    blocked = exists().where(
        older.peer_id == OutboxRow.peer_id,
        older.subject == OutboxRow.subject,
        older.id < OutboxRow.id,
        (older.set_aside_because.is_not(None)) | (older.next_try_at > now),
    )
    return OutboxRow.set_aside_because.is_(None), OutboxRow.next_try_at <= now, ~blocked
