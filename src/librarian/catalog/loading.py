"""Loading: copies that are due on stores and drives of ours, from the claim to the copy that rests there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import Integer, and_, cast, delete, exists, func, literal_column, or_, select, tuple_, union_all, update

from librarian.catalog import due_totals, rows
from librarian.catalog.columns import to_micros
from librarian.catalog.incoming_rows import INCOMING_COLUMNS, STORE_NAME, incoming_of, is_live
from librarian.catalog.records import Tally
from librarian.catalog.repository import Repository
from librarian.catalog.rules import RULE_COLUMNS, rule_of
from librarian.catalog.schema import (
    CopyDueRow,
    DriveRow,
    FileRow,
    IncomingRow,
    ManifestRow,
    MemberListingRow,
    RuleRow,
    StoreRow,
)
from librarian.catalog.waiting import WaitingRule, first_due
from librarian.checksum import Checksum
from librarian.names import FileId, FileName, PeerId, RuleId, StoreId, StoreName, TransferId
from librarian.states import Arrival, DriveState, DueState, Kind, RuleWay, TransferState
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Subquery

    from librarian.catalog.records import Incoming

#: Of a copy that may be on any of its rule's stores.
ANY_STORE: Final = StoreId(0)
_IS_LOADED_SO: Final = RuleRow.way.in_([RuleWay.CARRIED, RuleWay.LOCAL])
_IS_DUE: Final = rows.one_of(CopyDueRow.state, DueState.DUE)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A store that copies may be made onto."""

    id: StoreId
    name: StoreName
    is_open: bool
    #: Of a drive: its state, its size, and the thousandth parts of that at which it counts as full.
    drive: DriveState | None
    size: int
    full_at: int
    #: The peer that it is sealed for in this round.
    bound_for: PeerId | None
    #: What is on its way there.
    expected: Tally


@dataclass(frozen=True, kw_only=True)
class Loadable:
    """A copy that may be made now."""

    file_id: FileId
    rule_id: RuleId
    #: ``ANY_STORE``, or the one that it must be on.
    store_id: StoreId
    name: FileName
    kind: Kind
    size: int
    members: int
    checksum: Checksum
    uploader: str
    origin: str
    created_at: datetime
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Owed:
    """One row: which copy."""

    file_id: FileId
    rule_id: RuleId
    #: Where it rests, or is to rest, now.
    store: StoreName


@dataclass(frozen=True, kw_only=True)
class Setback:
    """A copy that was not made, and when it is tried again; BLOCKED waits for a source instead."""

    owed: Owed
    state: DueState
    next_try_at: datetime
    code: str
    reason: str
    failed: bool = False


class Loading(Repository):
    """Copies that are made onto stores and drives of ours."""

    async def rules(self, now: datetime) -> tuple[WaitingRule, ...]:
        """The rules in force that owe something on stores or drives of ours by *now*, by their ids."""
        since = first_due(now).label("since")
        found = await self._connection.execute(
            select(*RULE_COLUMNS, since).where(RuleRow.is_enabled, _IS_LOADED_SO).order_by(RuleRow.id)
        )
        return tuple(WaitingRule(rule=rule_of(row), since=row.since) for row in found if row.since is not None)

    async def targets(self) -> tuple[Target, ...]:
        """Every store, by name."""
        expected = (
            select(IncomingRow.store_id, func.count().label("files"), func.sum(IncomingRow.size).label("bytes"))
            .where(is_live(IncomingRow.state))
            .group_by(IncomingRow.store_id)
            .subquery()
        )
        found = await self._connection.execute(
            select(
                StoreRow.id,
                StoreRow.name,
                StoreRow.is_open,
                DriveRow.state,
                DriveRow.size,
                DriveRow.full_at,
                ManifestRow.peer_id,
                func.coalesce(expected.c.files, literal_column("0")).label("expected_files"),
                func.coalesce(expected.c.bytes, literal_column("0")).label("expected_bytes"),
            )
            .outerjoin(expected, expected.c.store_id == StoreRow.id)
            .outerjoin(DriveRow, DriveRow.store_id == StoreRow.id)
            .outerjoin(ManifestRow, and_(ManifestRow.drive_id == DriveRow.id, ManifestRow.round == DriveRow.round))
            .order_by(StoreRow.name)
        )
        return tuple(
            Target(
                id=StoreId(row.id),
                name=StoreName.trusted(row.name),
                is_open=row.is_open,
                drive=None if row.state is None else DriveState(row.state),
                size=row.size or 0,
                full_at=row.full_at or 0,
                bound_for=None if row.peer_id is None else PeerId(row.peer_id),
                expected=Tally(files=int(row.expected_files), bytes=int(row.expected_bytes)),
            )
            for row in found
        )

    async def candidates(
        self, rule: RuleId, *, store: StoreId, now: datetime, since: datetime | None, largest: int, limit: int
    ) -> tuple[Loadable, ...]:
        """What *rule* owes on *store*, due *since* then and by *now*, the longest first, of at most *largest* bytes."""
        on_store = [CopyDueRow.store_id == store]
        if store != ANY_STORE:
            # Repeated, or the index of such rows is not used.
            on_store.append(CopyDueRow.store_id > literal_column("0"))
        if since is not None:
            on_store.append(CopyDueRow.next_try_at >= since)
        found = await self._connection.execute(
            select(
                CopyDueRow.file_id,
                CopyDueRow.store_id,
                CopyDueRow.attempts,
                FileRow.name,
                FileRow.kind,
                FileRow.size,
                FileRow.checksum,
                FileRow.uploader,
                FileRow.origin,
                FileRow.created_at,
                func.coalesce(MemberListingRow.count, literal_column("1")).label("members"),
            )
            .join(FileRow, FileRow.id == CopyDueRow.file_id)
            .outerjoin(MemberListingRow, MemberListingRow.file_id == CopyDueRow.file_id)
            .where(
                CopyDueRow.rule_id == rule,
                _IS_DUE,
                CopyDueRow.next_try_at <= now,
                CopyDueRow.size <= largest,
                *on_store,
            )
            .order_by(CopyDueRow.next_try_at, CopyDueRow.file_id)
            .limit(limit)
        )
        return tuple(
            Loadable(
                file_id=FileId(row.file_id),
                rule_id=rule,
                store_id=StoreId(row.store_id),
                name=FileName.trusted(row.name),
                kind=Kind(row.kind),
                size=row.size,
                members=row.members,
                checksum=Checksum.trusted(row.checksum),
                uploader=row.uploader,
                origin=row.origin,
                created_at=row.created_at,
                attempts=row.attempts,
            )
            for row in found
        )

    async def claim(self, copies: Sequence[Loadable]) -> None:
        """*copies*, which were due as this transaction looked, are being made; what rests or was put aside stays so."""
        claimed = self._table("claimed", file_id=rows.BIGINT, rule_id=rows.BIGINT, store_id=rows.BIGINT)
        await self._connection.execute(
            update(CopyDueRow)
            .where(
                CopyDueRow.file_id == claimed.c.file_id,
                CopyDueRow.rule_id == claimed.c.rule_id,
                CopyDueRow.store_id == claimed.c.store_id,
                ~rows.one_of(CopyDueRow.state, DueState.QUARANTINED, DueState.LOADED),
            )
            .values(state=DueState.SENDING, since=utc_now(), code=None, reason=None),
            {"claimed": rows.pack((each.file_id, each.rule_id, each.store_id) for each in copies)},
        )

    async def staged(self, transfers: Sequence[Incoming]) -> frozenset[TransferId]:
        """The bytes of these copies are all there, and need no more room; ingest goes on with those that are returned.

        The others were given up meanwhile.
        """
        asked = self._table("asked", id=rows.BIGINT)
        now = utc_now()
        moved = await self._connection.execute(
            update(IncomingRow)
            .where(
                IncomingRow.id.in_(select(asked.c.id)),
                rows.one_of(IncomingRow.state, TransferState.INITIATED),
            )
            .values(state=TransferState.STAGED, reserved=0, progressed_at=now, next_try_at=now)
            .returning(IncomingRow.id),
            {"asked": rows.pack((each.id,) for each in transfers)},
        )
        return frozenset(TransferId(row.id) for row in moved)

    async def paid(self, owed: Sequence[Owed]) -> None:
        """These copies rest where they should: on a drive until its peer has confirmed it, or for good."""
        if not owed:
            return
        paid = self._owed()
        packed = {"owed": self._pack(owed)}
        carried = exists().where(RuleRow.id == CopyDueRow.rule_id, rows.one_of(RuleRow.way, RuleWay.CARRIED))
        is_carried = carried.correlate(CopyDueRow)
        loaded = await self._connection.execute(
            update(CopyDueRow)
            .where(*_is(paid), is_carried, ~rows.one_of(CopyDueRow.state, DueState.LOADED, DueState.QUARANTINED))
            .values(
                state=DueState.LOADED,
                code=None,
                reason=literal_column("'on '").concat(paid.c.store),
                since=utc_now(),
            )
            .returning(CopyDueRow.rule_id, CopyDueRow.size),
            packed,
        )
        await self._count(loaded, sign=-1)
        # The files lead SQLite to the index, which it does not use for whole keys.
        anywhere = select(paid.c.file_id, paid.c.rule_id, literal_column("0"))
        there = select(paid.c.file_id, paid.c.rule_id, StoreRow.id).join(StoreRow, StoreRow.name == paid.c.store)
        key = tuple_(CopyDueRow.file_id, CopyDueRow.rule_id, CopyDueRow.store_id)
        is_paid = key.in_(union_all(anywhere, there))
        is_of_these = CopyDueRow.file_id.in_(select(paid.c.file_id))
        gone = await self._connection.execute(
            delete(CopyDueRow).where(is_of_these, is_paid, ~is_carried).returning(CopyDueRow.rule_id, CopyDueRow.size),
            packed,
        )
        await self._count(gone, sign=-1)

    async def put_off(self, setbacks: Sequence[Setback]) -> None:
        """These copies were not made: they are due again, or wait for a source."""
        if not setbacks:
            return
        late = self._table(
            "late",
            file_id=rows.BIGINT,
            rule_id=rows.BIGINT,
            store=rows.TEXT,
            state=rows.TEXT,
            at=rows.BIGINT,
            code=rows.TEXT,
            reason=rows.TEXT,
            failed=rows.BIGINT,
        )
        packed = rows.pack(
            (
                *_cells(each.owed),
                each.state,
                to_micros(each.next_try_at),
                *rows.why(each.code, each.reason),
                int(each.failed),
            )
            for each in setbacks
        )
        await self._connection.execute(
            update(CopyDueRow)
            .where(*_is(late), rows.one_of(CopyDueRow.state, DueState.SENDING, DueState.DUE))
            .values(
                state=late.c.state,
                next_try_at=late.c.at,
                code=late.c.code,
                reason=late.c.reason,
                attempts=CopyDueRow.attempts + cast(late.c.failed, Integer),
                since=utc_now(),
            ),
            {"late": packed},
        )

    async def unload(self, files: Sequence[FileId], *, rules: Sequence[RuleId] | None = None) -> None:
        """What was loaded of *files* (for *rules* alone) may be on its way no more: it is due, and a look tells."""
        if not files:
            return
        of_rules = [] if rules is None else [CopyDueRow.rule_id.in_(rules)]
        lost = self._table("lost", file_id=rows.BIGINT)
        now = utc_now()
        freed = await self._connection.execute(
            update(CopyDueRow)
            .where(CopyDueRow.file_id.in_(select(lost.c.file_id)), rows.one_of(CopyDueRow.state, DueState.LOADED))
            .where(*of_rules)
            .values(state=DueState.DUE, next_try_at=now, since=now, attempts=0, code=None, reason=None)
            .returning(CopyDueRow.rule_id, CopyDueRow.size),
            {"lost": rows.pack((file_id,) for file_id in files)},
        )
        await self._count(freed, sign=1)

    async def abandon(self, store: StoreId | None, *, reason: str) -> list[Incoming]:
        """Cancel the copies that are being made onto *store* (None: onto any), and make them due again.

        Those that ingest has in its hands are left to it; on None those that are staged, too: it goes on with them.
        """
        onto = [] if store is None else [IncomingRow.store_id == store]
        states = [TransferState.INITIATED, *([] if store is None else [TransferState.STAGED])]
        ended = await self._connection.execute(
            update(IncomingRow)
            .where(
                rows.one_of(IncomingRow.state, *states),
                is_live(IncomingRow.state),
                IncomingRow.arrival == Arrival.COPY,
                *onto,
            )
            .values(state=TransferState.CANCELLED, code="interrupted", reason=reason, reserved=0)
            .returning(*INCOMING_COLUMNS, STORE_NAME)
        )
        cancelled = [incoming_of(row) for row in ended]
        await self._reclaim()
        return cancelled

    async def expected_on(self, store: StoreId) -> int:
        """How many files are on their way to *store*."""
        live = select(func.count()).where(IncomingRow.store_id == store, is_live(IncomingRow.state))
        return int(await self._connection.scalar(live) or 0)

    async def _reclaim(self) -> None:
        """Copies that are being made by no transfer are due again."""
        # One file row for each claim, of which there are few.
        is_made = exists(
            select(IncomingRow.id)
            .join(FileRow, FileRow.name == IncomingRow.name)
            .where(
                FileRow.id == CopyDueRow.file_id,
                IncomingRow.rule_id == CopyDueRow.rule_id,
                CopyDueRow.store_id.in_([literal_column("0"), IncomingRow.store_id]),
                is_live(IncomingRow.state),
            )
            .correlate(CopyDueRow)
        )
        now = utc_now()
        await self._connection.execute(
            update(CopyDueRow)
            .where(rows.one_of(CopyDueRow.state, DueState.SENDING), ~due_totals.IS_SENT, ~is_made)
            .values(state=DueState.DUE, next_try_at=now, since=now)
        )

    def _owed(self) -> Subquery:
        return self._table("owed", file_id=rows.BIGINT, rule_id=rows.BIGINT, store=rows.TEXT)

    def _pack(self, owed: Sequence[Owed]) -> str:
        return rows.pack(map(_cells, owed))

    async def _count(self, changed: Iterable[rows.Found], *, sign: int) -> None:
        await due_totals.add_loading(self._connection, self._dialect, changed, sign=sign)


def _cells(owed: Owed) -> tuple[rows.Cell, ...]:
    return owed.file_id, owed.rule_id, owed.store


def _is(owed: Subquery) -> tuple[ColumnElement[bool], ...]:
    """The row that speaks of *owed*: for any store, or for that very one."""
    store = select(StoreRow.id).where(StoreRow.name == owed.c.store).correlate(owed).scalar_subquery()
    return (
        CopyDueRow.file_id == owed.c.file_id,
        CopyDueRow.rule_id == owed.c.rule_id,
        or_(CopyDueRow.store_id == literal_column("0"), CopyDueRow.store_id == store),
    )
