"""Offers: the receiver's side of clones, as far as only peers may move it. Their rows are incoming transfers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, exists, func, or_, select, update

from librarian.catalog import rows
from librarian.catalog.incoming_rows import every, incoming_of
from librarian.catalog.repository import Repository
from librarian.catalog.schema import IncomingRow, PeerRow
from librarian.names import PeerId, Token, TransferId
from librarian.states import INCOMING_MOVES, Arrival, TransferState, sources_of
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement

    from librarian.catalog.records import Incoming
    from librarian.names import FileName


@dataclass(frozen=True, kw_only=True)
class Word:
    """What the sender of a clone says about it, in its notice number *seq*."""

    uuid: str
    state: TransferState
    seq: int
    code: str | None = None
    reason: str | None = None


def _is_silent(since: datetime, now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        rows.one_of(IncomingRow.state, TransferState.INITIATED, TransferState.ONGOING),
        # What is read from a drive, its sender knows no more about.
        IncomingRow.arrival == Arrival.CLONE.value,
        IncomingRow.progressed_at <= since,
        IncomingRow.next_try_at <= now,
    )


class Offers(Repository):
    """Clones on their way in, as their senders move them."""

    async def hear(self, peer: PeerId, words: Sequence[Word], *, epoch: int) -> frozenset[str]:
        """*peer* says STAGED or CANCELLED about its own clones; returns the uuids of those that moved.

        Older words than the last one heard about a clone change nothing; nor does a repeat.
        """
        if not words:
            return frozenset()
        heard = self._table("heard", uuid=rows.TEXT, state=rows.TEXT, seq=rows.BIGINT, code=rows.TEXT, reason=rows.TEXT)
        now = utc_now()
        may_move = or_(
            and_(
                heard.c.state == TransferState.STAGED.value,
                rows.one_of(IncomingRow.state, TransferState.INITIATED, TransferState.ONGOING),
            ),
            and_(
                heard.c.state == TransferState.CANCELLED.value,
                rows.one_of(IncomingRow.state, *sorted(sources_of(INCOMING_MOVES, TransferState.CANCELLED))),
            ),
        )
        moved = await self._connection.execute(
            update(IncomingRow)
            .where(
                IncomingRow.uuid == heard.c.uuid,
                func.coalesce(IncomingRow.peer_id, 0) == peer,
                IncomingRow.arrival == Arrival.CLONE.value,
                may_move,
                or_(
                    IncomingRow.notice_epoch < epoch,
                    and_(IncomingRow.notice_epoch == epoch, IncomingRow.notice_seq < heard.c.seq),
                ),
            )
            .values(
                state=heard.c.state,
                notice_epoch=epoch,
                notice_seq=heard.c.seq,
                code=heard.c.code,
                reason=heard.c.reason,
                next_try_at=now,
                progressed_at=now,
            )
            .returning(IncomingRow.uuid),
            {"heard": rows.pack((w.uuid, w.state, w.seq, w.code, w.reason) for w in words)},
        )
        return frozenset(moved.scalars())

    async def peers_in_doubt(self, *, since: datetime, now: datetime) -> tuple[PeerId, ...]:
        """Enabled peers with clones that ``silent`` would find."""
        doubtful = exists().where(IncomingRow.peer_id == PeerRow.id, *_is_silent(since, now))
        found = await self._connection.scalars(select(PeerRow.id).where(PeerRow.is_enabled, doubtful))
        return tuple(PeerId(peer) for peer in found)

    async def silent(self, peer: PeerId, *, since: datetime, now: datetime, limit: int) -> tuple[Incoming, ...]:
        """Open clones of *peer* that have not moved since *since* and may be asked about *now*, oldest first."""
        found = await self._connection.execute(
            every().where(IncomingRow.peer_id == peer, *_is_silent(since, now)).order_by(IncomingRow.id).limit(limit)
        )
        return tuple(incoming_of(row) for row in found)

    async def ask_again(self, tokens: Sequence[Token], *, at: datetime) -> None:
        """These were asked about just now; ask again not before *at*."""
        touched = self._table("touched", token=rows.TEXT)
        await self._connection.execute(
            update(IncomingRow).where(IncomingRow.token.in_(select(touched.c.token))).values(next_try_at=at),
            {"touched": rows.pack((token,) for token in tokens)},
        )

    async def settle(self, ids: Sequence[TransferId], *, to: TransferState) -> None:
        """Clones that are still open move to *to*; those that have moved since they were asked about are left."""
        settled = self._table("settled", id=rows.BIGINT)
        now = utc_now()
        await self._connection.execute(
            update(IncomingRow)
            .where(
                IncomingRow.id.in_(select(settled.c.id)),
                rows.one_of(IncomingRow.state, TransferState.INITIATED, TransferState.ONGOING),
            )
            .values(state=to, next_try_at=now, progressed_at=now),
            {"settled": rows.pack((id_,) for id_ in ids)},
        )

    async def with_uuids(self, uuids: Sequence[str]) -> tuple[Incoming, ...]:
        """The arrivals *uuids*, whoever minted them, oldest first: two peers may have chosen one uuid."""
        asked = self._table("asked", uuid=rows.TEXT)
        found = await self._connection.execute(
            every().where(IncomingRow.uuid.in_(select(asked.c.uuid))).order_by(IncomingRow.id),
            {"asked": rows.pack((uuid,) for uuid in uuids)},
        )
        return tuple(incoming_of(row) for row in found)

    async def find(self, uuid: str) -> Incoming | None:
        """The newest arrival with this *uuid*, whoever minted it."""
        return next(reversed(await self.with_uuids([uuid])), None)

    async def newest(self, name: FileName) -> Incoming | None:
        """The arrival of *name* that was opened last, under way or ended."""
        row = (
            await self._connection.execute(
                every().where(IncomingRow.name == name).order_by(IncomingRow.id.desc()).limit(1)
            )
        ).first()
        return incoming_of(row) if row else None

    async def page(
        self, *, before: TransferId | None, peer: PeerId | None, states: Sequence[TransferState], limit: int
    ) -> tuple[Incoming, ...]:
        """Arrivals newest first (*peer* None: of everybody, uploads too), those with ids below *before*."""
        statement = every().order_by(IncomingRow.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(IncomingRow.id < before)
        if peer is not None:
            statement = statement.where(IncomingRow.peer_id == peer)
        if states:
            statement = statement.where(IncomingRow.state.in_(states))
        return tuple(incoming_of(row) for row in await self._connection.execute(statement))
