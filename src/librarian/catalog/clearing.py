"""Clearing: what rests on a drive that was released or lost, counted before and forgotten after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import ColumnElement, Integer, and_, case, exists, func, literal_column, or_, select, update
from sqlalchemy.orm import aliased

from librarian.catalog import rows
from librarian.catalog.repository import Repository
from librarian.catalog.schema import (
    CopyDueRow,
    DriveRow,
    FileRow,
    InstanceRow,
    ManifestRow,
    OutgoingRow,
    RemoteInstanceRow,
)
from librarian.checksum import Checksum
from librarian.names import FileId, FileName
from librarian.states import OUTGOING_MOVES, DriveState, DueState, Intent, Kind, Presence, TransferState, sources_of
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.manifests import ManifestRecord
    from librarian.names import PeerId

_OTHER: Final = aliased(InstanceRow)
_COUNTED: Final[tuple[ColumnElement[int], ...]] = (literal_column("1", Integer()), FileRow.size + 0)
_MAY_BE_GOOD: Final = (Presence.PRESENT, Presence.SUSPECT)
#: Stores that are given up with what they hold, also before that is forgotten.
_GIVEN_UP: Final = select(DriveRow.store_id).where(
    rows.one_of(DriveRow.state, DriveState.RELEASED, DriveState.LOST, DriveState.WIPING)
)


@dataclass(frozen=True, kw_only=True)
class Stakes:
    """What is on a drive; of that what its peer has not confirmed; and of that what is nowhere else, as we know.

    Of a lost drive that was found, what is somewhere else is due from there, and is not waited for.
    """

    files: int
    bytes: int
    unconfirmed_files: int
    unconfirmed_bytes: int
    last_files: int
    last_bytes: int
    #: Some names of the last.
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Resting:
    """A copy on a drive."""

    file_id: FileId
    name: FileName
    size: int
    checksum: Checksum


def _rests_on(drive: DriveRecord) -> tuple[ColumnElement[bool], ...]:
    return (InstanceRow.store_id == drive.store_id, InstanceRow.presence.in_(_MAY_BE_GOOD))


def _is_kept(copy: type[InstanceRow]) -> ColumnElement[bool]:
    return and_(copy.presence == Presence.PRESENT, copy.intent == Intent.KEEP, copy.store_id.not_in(_GIVEN_UP))


def _is_elsewhere_here() -> ColumnElement[bool]:
    return exists().where(
        _OTHER.file_id == InstanceRow.file_id, _OTHER.store_id != InstanceRow.store_id, _is_kept(_OTHER)
    )


def _is_held_by(peer: PeerId | None) -> ColumnElement[bool]:
    by_peer = [] if peer is None else [RemoteInstanceRow.peer_id == peer]
    return exists().where(RemoteInstanceRow.file_id == InstanceRow.file_id, RemoteInstanceRow.is_held, *by_peer)


def _is_waited_for() -> ColumnElement[bool]:
    return exists().where(
        CopyDueRow.file_id == InstanceRow.file_id,
        CopyDueRow.peer_id.is_not(None),
        rows.one_of(CopyDueRow.state, DueState.LOADED),
    )


def _is_in_vain(manifest: ManifestRecord) -> ColumnElement[bool]:
    return exists().where(
        OutgoingRow.file_id == InstanceRow.file_id,
        OutgoingRow.manifest_id == manifest.id,
        rows.one_of(OutgoingRow.state, TransferState.FAILED),
    )


class Clearing(Repository):
    """What rests on a drive that was released or lost."""

    async def stakes(self, drive: DriveRecord, manifest: ManifestRecord | None) -> Stakes:
        """What would be at stake if *drive* were wiped now, which *manifest* is of in its present round.

        Before it is sealed, what it holds is confirmed when a peer holds it, and each that it was loaded for. What it
        has carried in vain waits for it no longer, as long as a good copy is here: what a peer could not read is at
        stake where it is nowhere else.
        """
        if manifest is None:
            confirmed = and_(_is_held_by(None), ~_is_waited_for())
        else:
            confirmed = or_(_is_held_by(manifest.peer_id), and_(_is_elsewhere_here(), _is_in_vain(manifest)))
        is_safe = or_(_is_elsewhere_here(), _is_held_by(None))
        is_last = and_(~confirmed, ~is_safe)
        was_lost = drive.state is DriveState.LOST
        may_stand = InstanceRow.presence.in_((*_MAY_BE_GOOD, *((Presence.MISSING,) if was_lost else ())))
        rests = (
            InstanceRow.store_id == drive.store_id,
            or_(may_stand, and_(InstanceRow.presence == Presence.CORRUPT, is_last)),
        )
        joined = select().select_from(InstanceRow).join(FileRow, FileRow.id == InstanceRow.file_id)
        sums = [
            func.coalesce(func.sum(case((condition, each), else_=0)), 0)
            for condition in (FileRow.id.is_not(None), is_last if was_lost else ~confirmed, is_last)
            for each in _COUNTED
        ]
        found = (await self._connection.execute(joined.add_columns(*sums).where(*rests))).one()
        names = await self._connection.scalars(
            joined.add_columns(FileRow.name).where(*rests, is_last).order_by(InstanceRow.file_id).limit(5)
        )
        return Stakes(
            files=int(found[0]),
            bytes=int(found[1]),
            unconfirmed_files=int(found[2]),
            unconfirmed_bytes=int(found[3]),
            last_files=int(found[4]),
            last_bytes=int(found[5]),
            examples=tuple(names),
        )

    async def left_on(self, drive: DriveRecord, *, after: FileId, limit: int) -> tuple[Resting, ...]:
        """Copies on *drive*, by file, those after *after*."""
        found = await self._connection.execute(
            select(InstanceRow.file_id, FileRow.name, FileRow.size, FileRow.checksum)
            .join(FileRow, FileRow.id == InstanceRow.file_id)
            .where(*_rests_on(drive), InstanceRow.file_id > after)
            .order_by(InstanceRow.file_id)
            .limit(limit)
        )
        return tuple(
            Resting(
                file_id=FileId(row.file_id),
                name=FileName.trusted(row.name),
                size=row.size,
                checksum=Checksum.trusted(row.checksum),
            )
            for row in found
        )

    async def forget(self, drive: DriveRecord, files: Sequence[FileId], *, presence: Presence) -> None:
        """The copies of *files* on *drive* are REMOVED, or MISSING."""
        asked = self._table("asked", file_id=rows.BIGINT)
        await self._connection.execute(
            update(InstanceRow)
            .where(InstanceRow.file_id.in_(select(asked.c.file_id)), *_rests_on(drive))
            .values(presence=presence),
            {"asked": rows.pack((file_id,) for file_id in files)},
        )

    async def accounted_for(
        self, drive: DriveRecord, names: Sequence[FileName], *, with_own: bool
    ) -> Mapping[FileName, Kind]:
        """Of *names*, the files of which a good copy is known that is not on *drive*, here or at a peer.

        *with_own*: and those that *drive* is known to carry, or to have carried until it was released: they were given
        up then. Where another copy was known, which is good no more, nobody has given them up.
        """
        asked = self._table("asked", name=rows.TEXT)
        is_own = exists().where(InstanceRow.file_id == FileRow.id, InstanceRow.store_id == drive.store_id)
        was_elsewhere = exists().where(
            InstanceRow.file_id == FileRow.id,
            InstanceRow.store_id != drive.store_id,
            InstanceRow.presence != Presence.REMOVED,
        )
        was_held = exists().where(RemoteInstanceRow.file_id == FileRow.id)
        is_elsewhere = exists().where(
            InstanceRow.file_id == FileRow.id, InstanceRow.store_id != drive.store_id, _is_kept(InstanceRow)
        )
        is_held = exists().where(RemoteInstanceRow.file_id == FileRow.id, RemoteInstanceRow.is_held)
        found = await self._connection.execute(
            select(FileRow.name, FileRow.kind)
            .join(asked, asked.c.name == FileRow.name)
            .where(or_(is_elsewhere, is_held, *([and_(is_own, ~was_elsewhere, ~was_held)] if with_own else []))),
            {"asked": rows.pack((name,) for name in names)},
        )
        return {FileName.trusted(row.name): Kind(row.kind) for row in found}

    async def empty(self, drive: DriveRecord) -> None:
        """*drive* was wiped: what was corrupt on it, or missing, is REMOVED as all else was."""
        await self._connection.execute(
            update(InstanceRow)
            .where(
                InstanceRow.store_id == drive.store_id,
                rows.one_of(InstanceRow.presence, Presence.CORRUPT, Presence.MISSING),
            )
            .values(presence=Presence.REMOVED)
        )

    async def call_off(self, drive: DriveRecord, files: Sequence[FileId], *, code: str, reason: str) -> None:
        """The transfers of *files* that *drive* carries in its present round fail, those that are not over."""
        asked = self._table("asked", file_id=rows.BIGINT)
        manifest = select(ManifestRow.id).where(ManifestRow.drive_id == drive.id, ManifestRow.round == drive.round)
        await self._connection.execute(
            update(OutgoingRow)
            .where(
                OutgoingRow.manifest_id.in_(manifest),
                OutgoingRow.file_id.in_(select(asked.c.file_id)),
                OutgoingRow.state.in_(sorted(sources_of(OUTGOING_MOVES, TransferState.FAILED))),
            )
            .values(state=TransferState.FAILED, code=code, reason=reason, progressed_at=utc_now()),
            {"asked": rows.pack((file_id,) for file_id in files)},
        )
