"""Offers: the receiver's side of clones, as far as only peers may move it. Their rows are incoming transfers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, case, func, or_, select, update

from librarian.catalog import rows
from librarian.catalog.incoming import INCOMING_COLUMNS, incoming_of
from librarian.catalog.repository import Repository
from librarian.catalog.schema import IncomingRow, PeerRow, StoreRow
from librarian.names import PeerId, Token
from librarian.states import INCOMING_MOVES, TransferState, sources_of
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from librarian.catalog.records import Incoming


@dataclass(frozen=True, kw_only=True)
class Word:
    """What the sender of a clone says about it, in its notice number *seq*."""

    uuid: str
    state: TransferState
    seq: int
    code: str | None = None
    reason: str | None = None


class Offers(Repository):
    """Clones on their way in, as their senders move them."""

    async def hear(self, peer: PeerId, words: Sequence[Word], *, epoch: int) -> frozenset[str]:
        """*peer* says STAGED or CANCELLED about its own clones; returns the uuids of those that moved.

        Older words than the last one heard about a clone change nothing; nor does a repeat.
        """
        if not words:
            return frozenset()
        heard = self._table(
            "heard", uuid=rows.TEXT, state=rows.TEXT, seq=rows.BIGINT, code=rows.TEXT, reason=rows.TEXT
        )
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

    async def arriving(self, seen: Mapping[Token, int]) -> None:
        """Bytes stand in staging under these tokens: INITIATED → ONGOING, and less is promised.

        *seen* maps a token to its bytes now. Only growth, or a first sight, counts as progress.
        """
        if not seen:
            return
        there = self._table("there", token=rows.TEXT, size=rows.BIGINT)
        left = case((IncomingRow.size > there.c.size, IncomingRow.size - there.c.size), else_=0)
        await self._connection.execute(
            update(IncomingRow)
            .where(
                IncomingRow.token == there.c.token,
                rows.one_of(IncomingRow.state, TransferState.INITIATED, TransferState.ONGOING),
            )
            .values(
                state=TransferState.ONGOING,
                reserved=case((left < IncomingRow.reserved, left), else_=IncomingRow.reserved),
                progressed_at=utc_now(),
            ),
            {"there": rows.pack(seen.items())},
        )

    async def silent(self, *, since: datetime, now: datetime, limit: int) -> tuple[Incoming, ...]:
        """Open clones of enabled peers that have not moved since *since* and may be asked about *now*, oldest first."""
        found = await self._connection.execute(
            select(*INCOMING_COLUMNS, StoreRow.name.label("store"))
            .join(StoreRow, StoreRow.id == IncomingRow.store_id)
            .join(PeerRow, PeerRow.id == IncomingRow.peer_id)
            .where(
                rows.one_of(IncomingRow.state, TransferState.INITIATED, TransferState.ONGOING),
                IncomingRow.progressed_at <= since,
                IncomingRow.next_try_at <= now,
                PeerRow.is_enabled,
            )
            .order_by(IncomingRow.id)
            .limit(limit)
        )
        return tuple(incoming_of(row) for row in found)

    async def ask_again(self, tokens: Sequence[Token], *, at: datetime) -> None:
        """These were asked about just now; ask again not before *at*."""
        touched = self._table("touched", token=rows.TEXT)
        await self._connection.execute(
            update(IncomingRow)
            .where(IncomingRow.token.in_(select(touched.c.token)))
            .values(next_try_at=at),
            {"touched": rows.pack((token,) for token in tokens)},
        )
