"""Copies due: what each file still owes to a rule. Planning costs what there is to do, not what there is."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Integer, case, cast, delete, exists, func, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from librarian.catalog import rows
from librarian.catalog.columns import Instant, to_micros
from librarian.catalog.records import CopyDueRecord, Tally
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
from librarian.catalog.tallies import Tallies
from librarian.names import FileId, PeerId, RuleId, RuleName, SiteName, StoreName
from librarian.states import DueState, Intent, Presence, TransferState
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, FromClause, Subquery
    from sqlalchemy.orm import InstrumentedAttribute

_LIVE = ("initiated", "ongoing", "staged", "ingesting")


@dataclass(frozen=True, kw_only=True)
class NewDue:
    """A copy that a file is to owe."""

    file_id: FileId
    rule_id: RuleId
    peer_id: PeerId
    size: int
    not_before: datetime


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


def due_subject(peer: PeerId) -> str:
    """The tally of copies that are due for *peer*, but for those in quarantine."""
    return f"due:{peer}"


def quarantined_subject(peer: PeerId) -> str:
    """The tally of copies for *peer* that are in quarantine."""
    return f"quarantined:{peer}"


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
    return case((is_on_its_way, DueState.SENDING.value), else_=DueState.DUE.value)


def _totals(due: FromClause) -> rows.Chosen:
    """How many rows *due* has, and of how many bytes, by peer and state."""
    files, size = func.count().label("files"), func.sum(due.c.size).label("bytes")
    return select(due.c.peer_id, due.c.state, files, size).group_by(due.c.peer_id, due.c.state)


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
                ["file_id", "rule_id", "peer_id", "size", "state", "next_try_at", "created_at", "since"],
                select(
                    owed.c.file_id,
                    owed.c.rule_id,
                    owed.c.peer_id,
                    owed.c.size,
                    _state_of(owed),
                    owed.c.at,
                    literal(now),
                    literal(now),
                ).where(~is_held_there, ~came_from_there),
            )
            .on_conflict_do_nothing(index_elements=["file_id", "rule_id", "store_id"])
            .returning(CopyDueRow.peer_id, CopyDueRow.size, CopyDueRow.state)
        )
        packed = rows.pack((d.file_id, d.rule_id, d.peer_id, d.size, to_micros(d.not_before)) for d in dues)
        written = await self._connection.execute(statement, {"owed": packed})
        return await self._count(((row.peer_id, row.size, row.state) for row in written), sign=1)

    async def turn(self, peer: PeerId, turns: Sequence[Turn]) -> None:
        """Write what became of attempts, for every rule that owes the file to *peer*; quarantine is left alone."""
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
        """*peer* holds *files*: they owe nothing to it any more; returns how many rows went."""
        if not files:
            return 0
        held = self._table("held", file_id=rows.BIGINT)
        gone = await self._connection.execute(
            delete(CopyDueRow)
            .where(CopyDueRow.peer_id == peer, CopyDueRow.file_id.in_(select(held.c.file_id)))
            .returning(CopyDueRow.peer_id, CopyDueRow.size, CopyDueRow.state),
            {"held": rows.pack((file_id,) for file_id in files)},
        )
        return await self._count(((row.peer_id, row.size, row.state) for row in gone), sign=-1)

    async def waive(self, rule: RuleId) -> int:
        """Nothing is owed to *rule* any more; copies that are on their way arrive all the same."""
        # Counted by the database: they may be millions.
        gone = delete(CopyDueRow).where(CopyDueRow.rule_id == rule)
        if self._is_sqlite:
            goes = select(CopyDueRow).where(CopyDueRow.rule_id == rule).subquery()
            found = (await self._connection.execute(_totals(goes))).all()
            await self._connection.execute(gone)
        else:
            went = gone.returning(CopyDueRow.peer_id, CopyDueRow.state, CopyDueRow.size).cte("went")
            found = (await self._connection.execute(_totals(went))).all()
        return await self._add(((row.peer_id, row.state, row.files, row.bytes) for row in found), sign=-1)

    async def reclaim(self) -> None:
        """Copies that were being offered when the process died are due again; those in a batch go on."""
        in_a_batch = exists().where(*_is_on_its_way(CopyDueRow.peer_id, CopyDueRow.file_id))
        await self._connection.execute(
            update(CopyDueRow)
            .where(CopyDueRow.state == DueState.SENDING, ~in_a_batch)
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
                PeerRow.name.label("peer"),
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
            .order_by(CopyDueRow.file_id, RuleRow.name),
            {"wanted": rows.pack((file_id,) for file_id in files)},
        )
        return tuple(
            CopyDueRecord(
                file_id=FileId(row.file_id),
                rule=RuleName(row.rule),
                peer=None if row.peer is None else SiteName(row.peer),
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

    async def _count(self, changed: Iterable[tuple[int, int, str]], *, sign: int) -> int:
        """Add (peer, bytes, state) of rows that came to the totals, or take away those that went; returns how many."""
        return await self._add(((peer, state, 1, each) for peer, each, state in changed), sign=sign)

    async def _add(self, changed: Iterable[tuple[int, str, int, int]], *, sign: int) -> int:
        """The same of (peer, state, files, bytes)."""
        files: defaultdict[str, int] = defaultdict(int)
        size: defaultdict[str, int] = defaultdict(int)
        for peer, state, count, each in changed:
            of = quarantined_subject if state == DueState.QUARANTINED else due_subject
            files[of(PeerId(peer))] += sign * count
            size[of(PeerId(peer))] += sign * int(each)
        totals = {subject: Tally(files=files[subject], bytes=size[subject]) for subject in files}
        await Tallies(self._connection, self._dialect).add_many(totals)
        return abs(sum(files.values()))
