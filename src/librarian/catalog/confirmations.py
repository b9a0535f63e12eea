"""Confirmations: what peers say of what drives carry, as the manifests count it and the drives show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import exists, func, literal_column, select, update

from librarian.catalog import rows
from librarian.catalog.repository import Repository
from librarian.catalog.schema import (
    DriveRow,
    FileRow,
    InstanceRow,
    ManifestRow,
    OutgoingRow,
    RemoteInstanceRow,
    StoreRow,
)
from librarian.names import FileId, FileName, StoreName
from librarian.states import DRIVE_MOVES, DriveState, Presence, TransferState, sources_of
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Subquery
    from sqlalchemy.orm import InstrumentedAttribute

    from librarian.names import PeerId

_IS_SPOKEN_OF: Final = ManifestRow.confirmed_files + ManifestRow.failed_files >= ManifestRow.files


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A drive that has come into another state, and what it carries to its peer."""

    drive: StoreName
    round: int
    files: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A drive whose peer has answered for all that it carried, and could not take some of it."""

    drive: StoreName
    round: int
    confirmed_files: int
    failed_files: int


@dataclass(frozen=True, kw_only=True)
class Spoilt:
    """A copy on a drive that is not what it was."""

    name: FileName
    drive: StoreName
    size: int


class Confirmations(Repository):
    """What peers say of what drives carry."""

    def _asked(self) -> Subquery:
        return self._table("asked", uuid=rows.TEXT)

    async def confirmed(self, uuids: Sequence[str]) -> None:
        """The transfers *uuids* have come to COMPLETED now: those of drives count for their manifests."""
        await self._count(uuids, files=ManifestRow.confirmed_files, size=ManifestRow.confirmed_bytes)

    async def failed(self, uuids: Sequence[str]) -> None:
        """The transfers *uuids* have come to FAILED now: those of drives count for their manifests."""
        await self._count(uuids, files=ManifestRow.failed_files, size=ManifestRow.failed_bytes)

    async def _count(
        self, uuids: Sequence[str], *, files: InstrumentedAttribute[int], size: InstrumentedAttribute[int]
    ) -> None:
        if not uuids:
            return
        asked = self._asked()
        counted = (
            select(
                OutgoingRow.manifest_id.label("id"),
                func.count().label("files"),
                func.sum(OutgoingRow.size).label("bytes"),
            )
            .join(asked, asked.c.uuid == OutgoingRow.uuid)
            .where(OutgoingRow.manifest_id.is_not(None))
            .group_by(OutgoingRow.manifest_id)
            .subquery("counted")
        )
        await self._connection.execute(
            update(ManifestRow)
            .where(ManifestRow.id == counted.c.id)
            .values({files: files + counted.c.files, size: size + counted.c.bytes}),
            {"asked": rows.pack((uuid,) for uuid in uuids)},
        )

    async def heard_from(self, uuids: Sequence[str], *, who: str) -> tuple[Moved, ...]:
        """A peer speaks of the transfers *uuids*: the drives that carry them are there; returns those that came now.

        A drive that has begun another round is not moved by what is said of an earlier one.
        """
        if not uuids:
            return ()
        asked = self._asked()
        spoken_of = (
            select(OutgoingRow.manifest_id)
            .join(asked, asked.c.uuid == OutgoingRow.uuid)
            .where(OutgoingRow.manifest_id.is_not(None))
        )
        return await self._move(
            DriveState.RECEIVED,
            (ManifestRow.id.in_(spoken_of),),
            who=who,
            given={"asked": rows.pack((uuid,) for uuid in uuids)},
        )

    async def all_answered(self, uuids: Sequence[str]) -> tuple[Answered, ...]:
        """Drives, RECEIVED, of which nothing is waited for since the transfers *uuids* ended; something has failed."""
        if not uuids:
            return ()
        asked = self._asked()
        ended = select(OutgoingRow.manifest_id).join(asked, asked.c.uuid == OutgoingRow.uuid)
        found = await self._connection.execute(
            select(StoreRow.name, DriveRow.round, ManifestRow.confirmed_files, ManifestRow.failed_files)
            .join(DriveRow, DriveRow.store_id == StoreRow.id)
            .join(ManifestRow, (ManifestRow.drive_id == DriveRow.id) & (ManifestRow.round == DriveRow.round))
            .where(
                ManifestRow.id.in_(ended),
                rows.one_of(DriveRow.state, DriveState.RECEIVED),
                ManifestRow.failed_files > literal_column("0"),
                _IS_SPOKEN_OF,
            )
            .order_by(StoreRow.name),
            {"asked": rows.pack((uuid,) for uuid in uuids)},
        )
        return tuple(
            Answered(
                drive=StoreName.trusted(row.name),
                round=row.round,
                confirmed_files=row.confirmed_files,
                failed_files=row.failed_files,
            )
            for row in found
        )

    async def all_confirmed(self, peer: PeerId, files: Sequence[FileId], *, who: str) -> tuple[Moved, ...]:
        """*peer* holds *files*: the drives to it that carry some of them, and nothing that it lacks, are confirmed.

        What failed and came on another way is no longer lacking. Returns those that were confirmed now.
        """
        if not files:
            return ()
        held = self._table("held", file_id=rows.BIGINT)
        carrying = select(OutgoingRow.manifest_id).where(
            OutgoingRow.file_id.in_(select(held.c.file_id)),
            OutgoingRow.peer_id == peer,
            OutgoingRow.manifest_id.is_not(None),
        )
        is_there = exists().where(
            RemoteInstanceRow.file_id == OutgoingRow.file_id,
            RemoteInstanceRow.peer_id == OutgoingRow.peer_id,
            RemoteInstanceRow.is_held,
        )
        lacks = exists().where(
            OutgoingRow.manifest_id == ManifestRow.id,
            OutgoingRow.state != TransferState.COMPLETED.value,
            ~is_there,
        )
        moved = await self._move(
            DriveState.CONFIRMED,
            (
                ManifestRow.id.in_(carrying),
                ManifestRow.seal.is_not(None),
                # Counted before it is looked at: while some are waited for, nothing needs to be looked at.
                _IS_SPOKEN_OF | (DriveRow.state == DriveState.LOST.value),
                ~lacks,
            ),
            who=who,
            given={"held": rows.pack((file_id,) for file_id in files)},
        )
        await self._count_found([drive.drive for drive in moved])
        return moved

    async def _count_found(self, drives: Sequence[StoreName]) -> None:
        """Of *drives*, which are confirmed, those that were given up for lost: what was called off did arrive."""
        if not drives:
            return
        present = (
            select(ManifestRow.id)
            .join(DriveRow, (DriveRow.id == ManifestRow.drive_id) & (DriveRow.round == ManifestRow.round))
            .join(StoreRow, StoreRow.id == DriveRow.store_id)
            .where(StoreRow.name.in_(drives))
        )
        await self._connection.execute(
            update(ManifestRow)
            .where(ManifestRow.id.in_(present))
            .values(
                confirmed_files=ManifestRow.files - ManifestRow.failed_files,
                confirmed_bytes=ManifestRow.bytes - ManifestRow.failed_bytes,
            )
        )

    async def _move(
        self, to: DriveState, of_manifests: Sequence[ColumnElement[bool]], *, who: str, given: dict[str, str]
    ) -> tuple[Moved, ...]:
        moving = (
            select(DriveRow.id)
            .join(ManifestRow, (ManifestRow.drive_id == DriveRow.id) & (ManifestRow.round == DriveRow.round))
            .where(rows.one_of(DriveRow.state, *sorted(sources_of(DRIVE_MOVES, to))), *of_manifests)
        )
        moved = await self._connection.scalars(
            update(DriveRow)
            .where(DriveRow.id.in_(moving))
            .values(state=to, since=utc_now(), who=who)
            .returning(DriveRow.id),
            given,
        )
        ids = list(moved)
        if not ids:
            return ()
        found = await self._connection.execute(
            select(StoreRow.name, DriveRow.round, ManifestRow.files, ManifestRow.bytes)
            .join(DriveRow, DriveRow.store_id == StoreRow.id)
            .join(ManifestRow, (ManifestRow.drive_id == DriveRow.id) & (ManifestRow.round == DriveRow.round))
            .where(DriveRow.id.in_(ids))
            .order_by(StoreRow.name)
        )
        return tuple(
            Moved(drive=StoreName.trusted(row.name), round=row.round, files=row.files, bytes=row.bytes) for row in found
        )

    async def spoil(self, uuids: Sequence[str]) -> tuple[Spoilt, ...]:
        """What the drives hold for the transfers *uuids* is not what it was: their copies are corrupt.

        Returns those that were not known to be so.
        """
        if not uuids:
            return ()
        asked = self._asked()
        bad = (
            select(OutgoingRow.file_id, DriveRow.store_id)
            .join(asked, asked.c.uuid == OutgoingRow.uuid)
            .join(ManifestRow, ManifestRow.id == OutgoingRow.manifest_id)
            .join(DriveRow, DriveRow.id == ManifestRow.drive_id)
            .where(ManifestRow.round == DriveRow.round)
            .subquery("bad")
        )
        spoilt = await self._connection.execute(
            update(InstanceRow)
            .where(
                InstanceRow.file_id == bad.c.file_id,
                InstanceRow.store_id == bad.c.store_id,
                InstanceRow.presence.in_([Presence.PRESENT.value, Presence.SUSPECT.value]),
            )
            .values(presence=Presence.CORRUPT)
            .returning(InstanceRow.file_id, InstanceRow.store_id),
            {"asked": rows.pack((uuid,) for uuid in uuids)},
        )
        pairs = self._table("pairs", file_id=rows.BIGINT, store_id=rows.BIGINT)
        found = await self._connection.execute(
            select(FileRow.name, FileRow.size, StoreRow.name.label("drive"))
            .join(pairs, pairs.c.file_id == FileRow.id)
            .join(StoreRow, StoreRow.id == pairs.c.store_id),
            {"pairs": rows.pack((row.file_id, row.store_id) for row in spoilt)},
        )
        return tuple(
            Spoilt(name=FileName.trusted(row.name), drive=StoreName.trusted(row.drive), size=row.size) for row in found
        )
