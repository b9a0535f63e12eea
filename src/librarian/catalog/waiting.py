"""Waiting copies: those that may be offered now. Looking costs what there is to do, not what there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, select

from librarian.catalog import rows
from librarian.catalog.incoming_rows import is_live
from librarian.catalog.records import Rule, Tally
from librarian.catalog.repository import Repository
from librarian.catalog.rules import RULE_COLUMNS, rule_of
from librarian.catalog.schema import CopyDueRow, FileRow, InstanceRow, OutgoingRow, PeerRow, RuleRow, StoreRow
from librarian.checksum import Checksum
from librarian.names import FileId, FileName, PeerId, RuleId, StoreName
from librarian.states import DueState, Intent, Kind, Presence, RuleWay

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, ScalarSelect


@dataclass(frozen=True, kw_only=True)
class WaitingRule:
    """A rule with copies that may be offered now, the first of them since *since*."""

    rule: Rule
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A copy that may be offered now, with all that an offer says."""

    file_id: FileId
    name: FileName
    kind: Kind
    size: int
    checksum: Checksum
    uploader: str
    origin: str
    created_at: datetime
    attempts: int
    #: Why the last attempt failed, if it did.
    code: str | None
    #: A healthy copy of ours; None when there is none.
    store: StoreName | None
    #: The transfer that is already open for this copy; it is offered again under the same uuid.
    uuid: str | None


@dataclass(frozen=True, kw_only=True)
class DueGroup:
    """Copies that a rule owes, in one state and for one reason; *example* is the whole reason of one of them."""

    state: DueState
    code: str | None
    files: int
    bytes: int
    example: str | None


_IS_SENT = rows.one_of(RuleRow.way, RuleWay.NETWORK)


def _is_due(rule: ColumnElement[int] | int, now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (CopyDueRow.rule_id == rule, rows.one_of(CopyDueRow.state, DueState.DUE), CopyDueRow.next_try_at <= now)


def first_due(now: datetime) -> ScalarSelect[datetime]:
    """When the copy that has waited longest for the rule of the statement around became due."""
    # One look into the index per rule. EXISTS may be made a join, which reads all that is due.
    return (
        select(func.min(CopyDueRow.next_try_at)).where(*_is_due(RuleRow.__table__.c.id, now)).correlate(RuleRow)
    ).scalar_subquery()


class WaitingCopies(Repository):
    """Copies that may be offered over the network now."""

    async def peers(self, now: datetime) -> tuple[PeerId, ...]:
        """Enabled peers that are not held, to which something is due by *now*."""
        found = await self._connection.scalars(
            select(PeerRow.id)
            .join(RuleRow, RuleRow.peer_id == PeerRow.id)
            .where(
                PeerRow.is_enabled,
                PeerRow.held_because.is_(None),
                RuleRow.is_enabled,
                _IS_SENT,
                first_due(now).is_not(None),
            )
            .distinct()
            .order_by(PeerRow.id)
        )
        return tuple(PeerId(peer) for peer in found)

    async def rules(self, peer: PeerId, *, now: datetime) -> tuple[WaitingRule, ...]:
        """The rules in force that owe something to *peer* by *now*, by their ids."""
        since = first_due(now).label("since")
        found = await self._connection.execute(
            select(*RULE_COLUMNS, since)
            .where(RuleRow.peer_id == peer, RuleRow.is_enabled, _IS_SENT)
            .order_by(RuleRow.id)
        )
        return tuple(WaitingRule(rule=rule_of(row), since=row.since) for row in found if row.since is not None)

    async def sample(self, rule: RuleId, *, now: datetime, limit: int) -> Tally:
        """How many files and bytes the first *limit* copies have that *rule* owes by *now*."""
        first = (
            select(CopyDueRow.size)
            .where(*_is_due(rule, now))
            .order_by(CopyDueRow.next_try_at, CopyDueRow.file_id)
            .limit(limit)
            .subquery()
        )
        row = (await self._connection.execute(select(func.count(), func.coalesce(func.sum(first.c.size), 0)))).one()
        return Tally(files=int(row[0]), bytes=int(row[1]))

    async def groups(self, rule: RuleId) -> tuple[DueGroup, ...]:
        """All that *rule* is owed, by state and code; reads every row of it, for a person who asks."""
        found = await self._connection.execute(
            select(
                CopyDueRow.state,
                CopyDueRow.code,
                func.count().label("files"),
                func.sum(CopyDueRow.size).label("bytes"),
                func.min(CopyDueRow.reason).label("example"),
            )
            .where(CopyDueRow.rule_id == rule)
            .group_by(CopyDueRow.state, CopyDueRow.code)
            .order_by(CopyDueRow.state, CopyDueRow.code)
        )
        return tuple(
            DueGroup(
                state=DueState(row.state),
                code=row.code,
                files=int(row.files),
                bytes=int(row.bytes),
                example=row.example,
            )
            for row in found
        )

    async def candidates(self, rule: RuleId, *, now: datetime, limit: int) -> tuple[Candidate, ...]:
        """What *rule* owes by *now*, longest waiting first, at most *limit*."""
        source = (
            select(func.min(StoreRow.name))
            .join(InstanceRow, InstanceRow.store_id == StoreRow.id)
            .where(
                InstanceRow.file_id == CopyDueRow.file_id,
                InstanceRow.presence == Presence.PRESENT,
                InstanceRow.intent == Intent.KEEP,
            )
            .scalar_subquery()
        )
        found = await self._connection.execute(
            select(
                CopyDueRow.file_id,
                CopyDueRow.attempts,
                CopyDueRow.code,
                FileRow.name,
                FileRow.kind,
                FileRow.size,
                FileRow.checksum,
                FileRow.uploader,
                FileRow.origin,
                FileRow.created_at,
                source.label("store"),
                OutgoingRow.uuid,
            )
            .join(FileRow, FileRow.id == CopyDueRow.file_id)
            .outerjoin(
                OutgoingRow,
                and_(
                    OutgoingRow.peer_id == CopyDueRow.peer_id,
                    OutgoingRow.file_id == CopyDueRow.file_id,
                    # What travels on a drive is no matter of the network.
                    OutgoingRow.manifest_id.is_(None),
                    is_live(OutgoingRow.state),
                ),
            )
            .where(*_is_due(rule, now))
            .order_by(CopyDueRow.next_try_at, CopyDueRow.file_id)
            .limit(limit)
        )
        return tuple(
            Candidate(
                file_id=FileId(row.file_id),
                name=FileName.trusted(row.name),
                kind=Kind(row.kind),
                size=row.size,
                checksum=Checksum.trusted(row.checksum),
                uploader=row.uploader,
                origin=row.origin,
                created_at=row.created_at,
                attempts=row.attempts,
                code=row.code,
                store=None if row.store is None else StoreName(row.store),
                uuid=row.uuid,
            )
            for row in found
        )
