"""Copies due: what each file still owes to a rule. Planning costs what there is to do, not what there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Integer, and_, case, cast, delete, exists, func, literal, literal_column, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from librarian.catalog import due_totals, rows
from librarian.catalog.columns import Instant, to_micros
from librarian.catalog.records import CopyDueRecord
from librarian.catalog.repository import Repository
from librarian.catalog.schema import (
    CopyDueRow,
    FileRow,
    IncomingRow,
    InstanceRow,
    OutgoingRow,
    PeerRow,
    RemoteInstanceRow,
    RuleRow,
    StoreRow,
)
from librarian.names import FileId, PeerId, RuleId, RuleName, SiteName, StoreName
from librarian.states import DueState, Intent, Presence, RuleWay, TransferState
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, FromClause, Subquery
    from sqlalchemy.orm import InstrumentedAttribute

_LIVE = ("initiated", "ongoing", "staged", "ingesting")


@dataclass(frozen=True, kw_only=True)
class NewDue:
    """A copy that a file is to owe."""

    file_id: FileId
    rule_id: RuleId
    way: RuleWay
    #: None for a copy on a store of ours.
    peer_id: PeerId | None
    size: int
    not_before: datetime
    #: Of a rule that asks for a copy on each of its stores: which one. Where it is not known, nothing is owed.
    store: StoreName | None = None


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What became of one attempt to pay a due copy."""

    file_id: FileId
    state: DueState
    next_try_at: datetime
    code: str | None = None
    reason: str | None = None
    failed: bool = False
    #: It failed for reasons of the file's own: not for trouble of the peer, the network or a store.
    is_own_failure: bool = False


def _is_on_its_way(
    peer: ColumnElement[int] | InstrumentedAttribute[int] | InstrumentedAttribute[int | None],
    file: ColumnElement[int] | InstrumentedAttribute[int],
) -> tuple[ColumnElement[bool], ...]:
    """An engine works on a transfer of the file to the peer, or has delivered it."""
    return (
        OutgoingRow.peer_id == peer,
        OutgoingRow.file_id == file,
        rows.one_of(OutgoingRow.state, *_LIVE),
        or_(OutgoingRow.batch_id.is_not(None), OutgoingRow.state == TransferState.STAGED),
    )


def _state_of(owed: Subquery) -> ColumnElement[str]:
    is_on_its_way = exists().where(*_is_on_its_way(owed.c.peer_id, owed.c.file_id))
    return case((and_(owed.c.is_sent == 1, is_on_its_way), DueState.SENDING.value), else_=DueState.DUE.value)


def _totals_of(due: FromClause) -> rows.Chosen:
    """How many rows *due* has, and of how many bytes, by peer and state."""
    files, size = func.count().label("files"), func.sum(due.c.size).label("bytes")
    way = select(RuleRow.way).where(RuleRow.id == due.c.rule_id).correlate(due).scalar_subquery().label("way")
    found = select(due.c.rule_id, way, due.c.peer_id, due.c.state, files, size)
    return found.group_by(due.c.rule_id, due.c.peer_id, due.c.state)


class CopiesDue(Repository):
    """Copies that files still owe."""

    async def owe(self, dues: Sequence[NewDue]) -> int:
        """Write *dues*, except where the peer holds the file or gave it to us; returns how many are new.

        What is on its way already (for another rule, or for this one before it changed) is not due a second time.
        A repeat writes nothing.
        """
        if not dues:
            return 0
        now = to_micros(utc_now())
        owed = self._table(
            "owed",
            file_id=rows.BIGINT,
            rule_id=rows.BIGINT,
            store=rows.TEXT,
            is_sent=rows.BIGINT,
            peer_id=rows.BIGINT,
            size=rows.BIGINT,
            at=rows.BIGINT,
        )
        is_held_there = exists().where(
            RemoteInstanceRow.file_id == owed.c.file_id,
            RemoteInstanceRow.peer_id == owed.c.peer_id,
            RemoteInstanceRow.is_held,
        )
        came_from_there = exists().where(
            FileRow.id == owed.c.file_id,
            IncomingRow.name == FileRow.name,
            IncomingRow.peer_id == owed.c.peer_id,
            IncomingRow.state.in_((TransferState.COMPLETED, TransferState.INGESTING)),
            # What it gave us before its catalog was restored, it may not hold any more.
            PeerRow.id == owed.c.peer_id,
            IncomingRow.notice_epoch >= PeerRow.seen_epoch,
        )
        dialect_insert = sqlite.insert if self._is_sqlite else postgresql.insert
        statement = (
            dialect_insert(CopyDueRow)
            .from_select(
                ["file_id", "rule_id", "store_id", "peer_id", "size", "state", "next_try_at", "created_at", "since"],
                select(
                    owed.c.file_id,
                    owed.c.rule_id,
                    func.coalesce(StoreRow.id, literal_column("0")),
                    owed.c.peer_id,
                    owed.c.size,
                    _state_of(owed),
                    owed.c.at,
                    literal(now),
                    literal(now),
                )
                .select_from(owed.outerjoin(StoreRow, StoreRow.name == owed.c.store))
                .where(~is_held_there, ~came_from_there, or_(owed.c.store.is_(None), StoreRow.id.is_not(None))),
            )
            .on_conflict_do_nothing(index_elements=["file_id", "rule_id", "store_id"])
            .returning(CopyDueRow.rule_id, CopyDueRow.peer_id, CopyDueRow.state, CopyDueRow.size)
        )
        packed = rows.pack(
            (
                d.file_id,
                d.rule_id,
                d.store,
                int(d.way is RuleWay.NETWORK),
                d.peer_id,
                d.size,
                to_micros(d.not_before),
            )
            for d in dues
        )
        written = await self._connection.execute(statement, {"owed": packed})
        ways = {due.rule_id: due.way for due in dues}
        return await due_totals.add_new(self._connection, self._dialect, written, ways=ways)

    async def turn(self, peer: PeerId, turns: Sequence[Turn]) -> None:
        """Write what became of attempts, for every rule that sends the file to *peer*; quarantine is left alone."""
        if not turns:
            return
        turned = self._table(
            "turned",
            file_id=rows.BIGINT,
            state=rows.TEXT,
            at=rows.BIGINT,
            code=rows.TEXT,
            reason=rows.TEXT,
            failed=rows.BIGINT,
            own=rows.BIGINT,
        )
        stays = CopyDueRow.state == turned.c.state
        await self._connection.execute(
            update(CopyDueRow)
            .where(
                CopyDueRow.peer_id == peer,
                CopyDueRow.file_id == turned.c.file_id,
                due_totals.IS_SENT,
                # As a literal: of a parameter PostgreSQL believes that it excludes every row, and reads all for each.
                ~rows.one_of(CopyDueRow.state, DueState.QUARANTINED),
            )
            .values(
                state=turned.c.state,
                next_try_at=turned.c.at,
                code=turned.c.code,
                reason=turned.c.reason,
                attempts=CopyDueRow.attempts + cast(turned.c.failed, Integer),
                failures=CopyDueRow.failures + cast(turned.c.own, Integer),
                since=case((stays, CopyDueRow.since), else_=literal(utc_now(), Instant())),
            ),
            {
                "turned": rows.pack(
                    (
                        t.file_id,
                        t.state,
                        to_micros(t.next_try_at),
                        *rows.why(t.code, t.reason),
                        int(t.failed),
                        int(t.is_own_failure),
                    )
                    for t in turns
                )
            },
        )

    async def paid(self, peer: PeerId, files: Sequence[FileId]) -> int:
        """*peer* holds *files*: they owe nothing to it any more, whatever the way; returns how many rows went."""
        if not files:
            return 0
        held = self._table("held", file_id=rows.BIGINT)
        gone = await self._connection.execute(
            delete(CopyDueRow)
            .where(CopyDueRow.peer_id == peer, CopyDueRow.file_id.in_(select(held.c.file_id)))
            .returning(*due_totals.COUNTED),
            {"held": rows.pack((file_id,) for file_id in files)},
        )
        return await due_totals.add(self._connection, self._dialect, gone, sign=-1)

    async def waive(self, rule: RuleId) -> int:
        """Nothing is owed to *rule* any more; copies that are on their way arrive all the same."""
        # Counted by the database: they may be millions.
        gone = delete(CopyDueRow).where(CopyDueRow.rule_id == rule)
        if self._is_sqlite:
            goes = select(CopyDueRow).where(CopyDueRow.rule_id == rule).subquery()
            found = (await self._connection.execute(_totals_of(goes))).all()
            await self._connection.execute(gone)
        else:
            columns = (CopyDueRow.rule_id, CopyDueRow.peer_id, CopyDueRow.state, CopyDueRow.size)
            found = (await self._connection.execute(_totals_of(gone.returning(*columns).cte("went")))).all()
        return await due_totals.add_groups(self._connection, self._dialect, found, sign=-1)

    async def reclaim(self) -> None:
        """Copies that were being offered when the process died are due again; those in a batch go on."""
        in_a_batch = exists().where(*_is_on_its_way(CopyDueRow.peer_id, CopyDueRow.file_id))
        await self._connection.execute(
            update(CopyDueRow)
            .where(CopyDueRow.state == DueState.SENDING, due_totals.IS_SENT, ~in_a_batch)
            .values(state=DueState.DUE, next_try_at=utc_now(), since=utc_now())
        )

    async def sources(
        self, files: Sequence[FileId], *, among: Collection[StoreName] | None = None
    ) -> dict[FileId, StoreName]:
        """A store of ours (one of *among*, where given) with a healthy copy, for each of *files* that has one."""
        wanted = self._table("wanted", file_id=rows.BIGINT)
        usable = [] if among is None else [StoreRow.name.in_(among)]
        found = await self._connection.execute(
            select(InstanceRow.file_id, func.min(StoreRow.name).label("store"))
            .join(wanted, wanted.c.file_id == InstanceRow.file_id)
            .join(StoreRow, StoreRow.id == InstanceRow.store_id)
            .where(InstanceRow.presence == Presence.PRESENT, InstanceRow.intent == Intent.KEEP, *usable)
            .group_by(InstanceRow.file_id),
            {"wanted": rows.pack((file_id,) for file_id in files)},
        )
        return {FileId(row.file_id): StoreName(row.store) for row in found}

    async def of_files(self, files: Sequence[FileId]) -> tuple[CopyDueRecord, ...]:
        """What *files* still owe, by file and rule."""
        wanted = self._table("wanted", file_id=rows.BIGINT)
        found = await self._connection.execute(
            select(
                CopyDueRow.file_id,
                RuleRow.name.label("rule"),
                RuleRow.way,
                PeerRow.name.label("peer"),
                StoreRow.name.label("store"),
                CopyDueRow.state,
                CopyDueRow.attempts,
                CopyDueRow.failures,
                CopyDueRow.next_try_at,
                CopyDueRow.code,
                CopyDueRow.reason,
                CopyDueRow.created_at,
                CopyDueRow.since,
            )
            .join(wanted, wanted.c.file_id == CopyDueRow.file_id)
            .join(RuleRow, RuleRow.id == CopyDueRow.rule_id)
            .outerjoin(PeerRow, PeerRow.id == CopyDueRow.peer_id)
            .outerjoin(StoreRow, StoreRow.id == CopyDueRow.store_id)
            .order_by(CopyDueRow.file_id, RuleRow.name, StoreRow.name),
            {"wanted": rows.pack((file_id,) for file_id in files)},
        )
        return tuple(
            CopyDueRecord(
                file_id=FileId(row.file_id),
                rule=RuleName(row.rule),
                way=RuleWay(row.way),
                peer=None if row.peer is None else SiteName(row.peer),
                store=None if row.store is None else StoreName(row.store),
                state=DueState(row.state),
                attempts=row.attempts,
                failures=row.failures,
                next_try_at=row.next_try_at,
                code=row.code,
                reason=row.reason,
                created_at=row.created_at,
                since=row.since,
            )
            for row in found
        )
