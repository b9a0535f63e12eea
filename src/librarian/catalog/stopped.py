"""Stopped copies: due ones that go no further, in quarantine or for want of a source, and how they go on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Integer, and_, exists, func, literal_column, or_, select, tuple_, update

from librarian.catalog import due_totals, rows
from librarian.catalog.due_totals import quarantined_subject
from librarian.catalog.records import StoppedCopy, Tally
from librarian.catalog.repository import Repository
from librarian.catalog.schema import CopyDueRow, FileRow, InstanceRow, PeerRow, RuleRow
from librarian.catalog.tallies import Tallies
from librarian.names import FileId, FileName, PeerId, RuleId, RuleName, SiteName
from librarian.states import DueState, Intent, Presence, RuleWay
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, FromClause, Update

_IS_STOPPED = rows.one_of(CopyDueRow.state, DueState.BLOCKED, DueState.QUARANTINED)
# SQLite uses a partial index only where its condition is repeated.
_IS_QUARANTINED = and_(_IS_STOPPED, rows.one_of(CopyDueRow.state, DueState.QUARANTINED))
_IS_BLOCKED = and_(_IS_STOPPED, rows.one_of(CopyDueRow.state, DueState.BLOCKED))


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A copy that is put into quarantine, and why."""

    file_id: FileId
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which copies: of these files (None: of all), for this peer (None: for every one)."""

    files: tuple[FileId, ...] | None = None
    peer: PeerId | None = None


class StoppedCopies(Repository):
    """Copies that go no further by themselves; ``page`` tells of those for peers."""

    async def quarantine(
        self, peer: PeerId, stops: Sequence[Stop], *, way: RuleWay = RuleWay.NETWORK
    ) -> frozenset[FileId]:
        """Put the copies of these files aside that *peer* is owed by rules of this *way*; returns those that are new.

        What counts as loaded is left alone.
        """
        if not stops:
            return frozenset()
        stopped = self._table("stopped", file_id=rows.BIGINT, code=rows.TEXT, reason=rows.TEXT)
        now = utc_now()
        moved = await self._connection.execute(
            update(CopyDueRow)
            .where(
                CopyDueRow.peer_id == peer,
                CopyDueRow.file_id == stopped.c.file_id,
                due_totals.is_of(way),
                ~rows.one_of(CopyDueRow.state, DueState.QUARANTINED, DueState.LOADED),
            )
            .values(
                state=DueState.QUARANTINED,
                code=stopped.c.code,
                reason=stopped.c.reason,
                attempts=CopyDueRow.attempts + 1,
                failures=CopyDueRow.failures + 1,
                next_try_at=now,
                since=now,
            )
            .returning(
                CopyDueRow.file_id,
                CopyDueRow.rule_id,
                CopyDueRow.peer_id,
                literal_column("1", Integer()).label("files"),
                CopyDueRow.size.label("bytes"),
            ),
            {"stopped": rows.pack((s.file_id, *rows.why(s.code, s.reason)) for s in stops)},
        )
        found = moved.all()
        await self._move([(row, way) for row in found], sign=1)
        return frozenset(FileId(row.file_id) for row in found)

    async def retry(self, chosen: Selection) -> int:
        """The chosen copies that are in quarantine, blocked, or waiting after a failure, are due now, as if new.

        Returns how many. A repeat finds those alone that have stopped again.
        """
        freed = await self._go_on(_IS_QUARANTINED, *self._among(chosen), given=_given(chosen))
        await self._move([(row, row.way) for row in freed], sign=-1)
        others = await self._go_on(_is_waiting(utc_now()), *self._among(chosen), given=_given(chosen))
        return sum(row.files for row in (*freed, *others))

    async def count(self, chosen: Selection) -> int:
        """How many copies ``retry`` would take up."""
        can_go_on = or_(_IS_QUARANTINED, _is_waiting(utc_now()))
        found = await self._connection.scalar(
            select(func.count()).select_from(CopyDueRow).where(can_go_on, *self._among(chosen)), _given(chosen)
        )
        return int(found or 0)

    async def unblock(self, files: Sequence[FileId]) -> None:
        """*files* have a healthy copy again."""
        if not files:
            return
        chosen = Selection(files=tuple(files))
        await self._connection.execute(_due_now(_IS_BLOCKED, *self._among(chosen)), _given(chosen))

    async def unblock_all(self) -> int:
        """Blocked copies that have a source by now are due; returns how many.

        One that was blocked while its source was being recorded is woken by nobody else.
        """
        has_source = exists().where(
            InstanceRow.file_id == CopyDueRow.file_id,
            InstanceRow.presence == Presence.PRESENT,
            InstanceRow.intent == Intent.KEEP,
        )
        return sum(row.files for row in await self._go_on(_IS_BLOCKED, has_source, given={}))

    async def page(
        self,
        *,
        after: tuple[FileId, RuleId] | None,
        peer: PeerId | None,
        states: Sequence[DueState],
        limit: int,
    ) -> tuple[StoppedCopy, ...]:
        """Stopped copies in one of *states* (none: in any), by file and rule, those after *after*, at most *limit*."""
        statement = (
            select(
                CopyDueRow.file_id,
                CopyDueRow.rule_id,
                FileRow.name,
                PeerRow.name.label("peer"),
                RuleRow.name.label("rule"),
                CopyDueRow.size,
                CopyDueRow.state,
                CopyDueRow.attempts,
                CopyDueRow.code,
                CopyDueRow.reason,
                CopyDueRow.since,
            )
            .join(FileRow, FileRow.id == CopyDueRow.file_id)
            .join(RuleRow, RuleRow.id == CopyDueRow.rule_id)
            .join(PeerRow, PeerRow.id == CopyDueRow.peer_id)
            .where(_IS_STOPPED, *_narrowed(peer, states))
            .order_by(CopyDueRow.file_id, CopyDueRow.rule_id)
            .limit(limit)
        )
        if after is not None:
            statement = statement.where(tuple_(CopyDueRow.file_id, CopyDueRow.rule_id) > after)
        return tuple(
            StoppedCopy(
                file_id=FileId(row.file_id),
                rule_id=RuleId(row.rule_id),
                name=FileName.trusted(row.name),
                peer=SiteName(row.peer),
                rule=RuleName(row.rule),
                size=row.size,
                state=DueState(row.state),
                attempts=row.attempts,
                code=row.code,
                reason=row.reason,
                since=row.since,
            )
            for row in await self._connection.execute(statement)
        )

    def _among(self, chosen: Selection) -> list[ColumnElement[bool]]:
        among: list[ColumnElement[bool]] = []
        if chosen.files is not None:
            among.append(CopyDueRow.file_id.in_(select(self._table("chosen", file_id=rows.BIGINT).c.file_id)))
        if chosen.peer is not None:
            among.append(CopyDueRow.peer_id == chosen.peer)
        return among

    async def _go_on(self, *conditions: ColumnElement[bool], given: dict[str, str]) -> list[rows.Found]:
        """Copies are due now, as if new; how many, by rule, as the database counts: they may be millions."""
        if self._is_sqlite:
            goes = select(CopyDueRow.rule_id, CopyDueRow.peer_id, CopyDueRow.size).where(*conditions).subquery()
            found = (await self._connection.execute(_by_rule(goes), given)).all()
            await self._connection.execute(_due_now(*conditions), given)
        else:
            columns = (CopyDueRow.rule_id, CopyDueRow.peer_id, CopyDueRow.size)
            went = _due_now(*conditions).returning(*columns).cte("went")
            found = (await self._connection.execute(_by_rule(went), given)).all()
        return list(found)

    async def _move(self, moved: Sequence[tuple[rows.Found, str]], *, sign: int) -> None:
        """Add copies to what is in quarantine, and take them from what is due; or reverse. Each with its rule's way."""
        files: defaultdict[str, int] = defaultdict(int)
        size: defaultdict[str, int] = defaultdict(int)
        for row, way in moved:
            aside, due = quarantined_subject(PeerId(row.peer_id)), due_totals.waiting_subject(row, way)
            for subject, direction in ((aside, sign), (due, -sign)):
                files[subject] += direction * row.files
                size[subject] += direction * int(row.bytes)
        totals = {subject: Tally(files=files[subject], bytes=size[subject]) for subject in files}
        await Tallies(self._connection, self._dialect).add_many(totals)


def _by_rule(copies: FromClause) -> rows.Chosen:
    files, size = func.count().label("files"), func.sum(copies.c.size).label("bytes")
    return (
        select(copies.c.rule_id, copies.c.peer_id, RuleRow.way, files, size)
        .join_from(copies, RuleRow, RuleRow.id == copies.c.rule_id)
        .group_by(copies.c.rule_id, copies.c.peer_id, RuleRow.way)
    )


def _due_now(*conditions: ColumnElement[bool]) -> Update:
    now = utc_now()
    return (
        update(CopyDueRow)
        .where(*conditions)
        .values(state=DueState.DUE, next_try_at=now, since=now, attempts=0, failures=0, code=None, reason=None)
    )


def _is_waiting(now: datetime) -> ColumnElement[bool]:
    """Blocked, or due again later after a failure; a file that is too young for its rule has not failed."""
    waits = and_(rows.one_of(CopyDueRow.state, DueState.DUE), CopyDueRow.next_try_at > now, CopyDueRow.attempts > 0)
    return or_(rows.one_of(CopyDueRow.state, DueState.BLOCKED), waits)


def _given(chosen: Selection) -> dict[str, str]:
    return {} if chosen.files is None else {"chosen": rows.pack((file_id,) for file_id in chosen.files)}


def _narrowed(peer: PeerId | None, states: Sequence[DueState]) -> list[ColumnElement[bool]]:
    narrowed = [] if peer is None else [CopyDueRow.peer_id == peer]
    return [*narrowed, CopyDueRow.state.in_(states)] if states else narrowed
