"""Manifests: what a drive carries to a peer in one round, portion by portion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import and_, exists, func, insert, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from librarian.catalog import rows
from librarian.catalog.columns import to_micros
from librarian.catalog.files import FILE_COLUMNS
from librarian.catalog.repository import Repository
from librarian.catalog.schema import (
    CopyDueRow,
    DriveRow,
    FileRow,
    IncomingRow,
    InstanceRow,
    ManifestPartRow,
    ManifestRow,
    MemberListingRow,
    OutgoingRow,
    PeerRow,
    StoreRow,
)
from librarian.names import FileId, ManifestId, PeerId, SiteName, StoreName
from librarian.states import DueState, Intent, Presence, TransferState
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from librarian.catalog.drives import DriveId, DriveRecord
    from librarian.names import RuleId

_COLUMNS = (
    ManifestRow.id,
    ManifestRow.uuid,
    ManifestRow.drive_id,
    ManifestRow.round,
    ManifestRow.peer_id,
    PeerRow.name.label("peer"),
    ManifestRow.head,
    ManifestRow.seal,
    ManifestRow.files,
    ManifestRow.bytes,
    ManifestRow.confirmed_files,
    ManifestRow.confirmed_bytes,
    ManifestRow.failed_files,
    ManifestRow.failed_bytes,
    ManifestRow.sealed_at,
    ManifestRow.sealed_by,
)
_IS_THERE: Final = (InstanceRow.presence == Presence.PRESENT, InstanceRow.intent == Intent.KEEP)


@dataclass(frozen=True, kw_only=True)
class ManifestRecord:
    """What a drive carries to a peer in one round; ``seal`` is None until it is complete."""

    id: ManifestId
    uuid: str
    drive_id: int
    round: int
    peer_id: PeerId
    peer: SiteName
    head: str
    seal: str | None
    files: int
    bytes: int
    confirmed_files: int
    confirmed_bytes: int
    failed_files: int
    failed_bytes: int
    sealed_at: datetime
    sealed_by: str


class Carried(NamedTuple):
    """A file that a drive carries, with the packed listing of a book. There may be a million."""

    file_id: FileId
    name: str
    kind: str
    size: int
    checksum: str
    uploader: str
    origin: str
    created_at: datetime
    listing: bytes | None


class Consigned(NamedTuple):
    """A transfer that a drive carries."""

    uuid: str
    file_id: FileId
    size: int


@dataclass(frozen=True, kw_only=True)
class Place:
    """How far a manifest is written: the number of its next part, and the last file of those before."""

    number: int
    after: FileId


def _manifest(row: rows.Found) -> ManifestRecord:
    values = dict(row._mapping)
    return ManifestRecord(
        **values
        | {
            "id": ManifestId(values["id"]),
            "peer_id": PeerId(values["peer_id"]),
            "peer": SiteName.trusted(values["peer"]),
        }
    )


def _select() -> rows.Chosen:
    return select(*_COLUMNS).join(PeerRow, PeerRow.id == ManifestRow.peer_id)


class Manifests(Repository):
    """What drives carry to peers."""

    async def begin(self, drive: DriveRecord, *, peer: PeerId, uuid: str, head: str, sealed_by: str) -> None:
        """Write the manifest of *drive* for its present round, empty. A repeat does nothing."""
        dialect_insert = sqlite.insert if self._is_sqlite else postgresql.insert
        await self._connection.execute(
            dialect_insert(ManifestRow)
            .values(
                uuid=uuid,
                drive_id=drive.id,
                round=drive.round,
                peer_id=peer,
                head=head,
                files=0,
                bytes=0,
                sealed_at=utc_now(),
                sealed_by=sealed_by,
            )
            .on_conflict_do_nothing(index_elements=["drive_id", "round"])
        )

    async def of(self, drive: DriveRecord) -> ManifestRecord | None:
        """The manifest of *drive* in its present round, if there is one."""
        return await self.of_round(drive.id, drive.round)

    async def of_round(self, drive: DriveId, number: int) -> ManifestRecord | None:
        """The manifest of *drive* in its round *number*, if there is one."""
        row = (
            await self._connection.execute(_select().where(ManifestRow.drive_id == drive, ManifestRow.round == number))
        ).first()
        return None if row is None else _manifest(row)

    async def present(self) -> dict[int, ManifestRecord]:
        """The manifests of all drives in their present rounds, by drive."""
        found = await self._connection.execute(
            _select().join(DriveRow, (DriveRow.id == ManifestRow.drive_id) & (DriveRow.round == ManifestRow.round))
        )
        return {row.drive_id: _manifest(row) for row in found}

    async def drives_of(self, manifests: Sequence[ManifestId]) -> dict[ManifestId, StoreName]:
        """On which drive each of *manifests* is, or was."""
        if not manifests:
            return {}
        found = await self._connection.execute(
            select(ManifestRow.id, StoreRow.name)
            .join(DriveRow, DriveRow.id == ManifestRow.drive_id)
            .join(StoreRow, StoreRow.id == DriveRow.store_id)
            .where(ManifestRow.id.in_(manifests))
        )
        return {ManifestId(row.id): StoreName.trusted(row.name) for row in found}

    async def loaded_for(
        self, drive: DriveRecord, peers: Iterable[PeerId], *, asking: Sequence[RuleId]
    ) -> list[PeerId]:
        """Of *peers* those for which something on *drive* was loaded that they have not confirmed.

        So was what one of the rules *asking*, which name the drive, has come to ask for since it was full.
        """
        is_due = and_(rows.one_of(CopyDueRow.state, DueState.DUE), CopyDueRow.rule_id.in_(asking))
        found: list[PeerId] = []
        for peer in peers:
            is_for = exists().where(
                CopyDueRow.peer_id == peer,
                or_(rows.one_of(CopyDueRow.state, DueState.LOADED), is_due),
                InstanceRow.file_id == CopyDueRow.file_id,
                InstanceRow.store_id == drive.store_id,
                *_IS_THERE,
            )
            if await self._connection.scalar(select(is_for)):
                found.append(peer)
        return found

    async def failed_on(self, files: Iterable[FileId]) -> frozenset[tuple[FileId, StoreName]]:
        """Of *files* those that a drive carried to its peer in its present round in vain, with that drive."""
        asked = self._table("asked", file_id=rows.BIGINT)
        found = await self._connection.execute(
            select(OutgoingRow.file_id, StoreRow.name)
            .join(asked, asked.c.file_id == OutgoingRow.file_id)
            .join(ManifestRow, ManifestRow.id == OutgoingRow.manifest_id)
            .join(DriveRow, (DriveRow.id == ManifestRow.drive_id) & (DriveRow.round == ManifestRow.round))
            .join(StoreRow, StoreRow.id == DriveRow.store_id)
            .where(rows.one_of(OutgoingRow.state, TransferState.FAILED)),
            {"asked": rows.pack((file_id,) for file_id in files)},
        )
        return frozenset((FileId(row.file_id), StoreName.trusted(row.name)) for row in found)

    async def is_unsettled(self, drive: DriveRecord) -> bool:
        """Whether something is still on its way onto *drive*, or stands in its staging."""
        is_there = exists().where(IncomingRow.store_id == drive.store_id, IncomingRow.has_staging)
        return bool(await self._connection.scalar(select(is_there)))

    async def place(self, manifest: ManifestId) -> Place:
        """How far *manifest* is written."""
        number = await self._connection.scalar(
            select(func.max(ManifestPartRow.number)).where(ManifestPartRow.manifest_id == manifest)
        )
        after = await self._connection.scalar(
            select(OutgoingRow.file_id)
            .where(OutgoingRow.manifest_id == manifest)
            .order_by(OutgoingRow.id.desc())
            .limit(1)
        )
        return Place(number=0 if number is None else int(number) + 1, after=FileId(after or 0))

    async def page(self, drive: DriveRecord, *, after: FileId, files: int, members: int) -> tuple[Carried, ...]:
        """What is present and kept on *drive*, by file, those after *after*.

        At most *files*, and about as many as have *members* in all: their listings are read.
        """
        found = await self._connection.execute(
            select(*FILE_COLUMNS, func.coalesce(MemberListingRow.count, 0).label("members"))
            .select_from(InstanceRow)
            .join(FileRow, FileRow.id == InstanceRow.file_id)
            .outerjoin(MemberListingRow, MemberListingRow.file_id == InstanceRow.file_id)
            .where(InstanceRow.store_id == drive.store_id, InstanceRow.file_id > after, *_IS_THERE)
            .order_by(InstanceRow.file_id)
            .limit(files)
        )
        chosen: list[rows.Found] = []
        books: list[FileId] = []
        for row in found.all():
            chosen.append(row)
            if row[-1]:
                books.append(FileId(row.id))
                members -= row.members
                if members <= 0:
                    break
        listings = await self._listings(books)
        return tuple(Carried._make((*row[:-1], listings.get(row[0]))) for row in chosen)

    async def _listings(self, books: Sequence[FileId]) -> dict[FileId, bytes]:
        if not books:
            return {}
        asked = self._table("asked", file_id=rows.BIGINT)
        found = await self._connection.execute(
            select(MemberListingRow.file_id, MemberListingRow.listing).join(
                asked, asked.c.file_id == MemberListingRow.file_id
            ),
            {"asked": rows.pack((book,) for book in books)},
        )
        return {FileId(row.file_id): row.listing for row in found}

    async def append(
        self, manifest: ManifestRecord, *, number: int, lines: bytes, consigned: Sequence[Consigned]
    ) -> None:
        """Write part *number* of *manifest*, compressed *lines*, and open the transfers that it speaks of."""
        await self._connection.execute(
            insert(ManifestPartRow).values(manifest_id=manifest.id, number=number, lines=lines)
        )
        now = literal(to_micros(utc_now()))
        new = self._table("new", uuid=rows.TEXT, file_id=rows.BIGINT, size=rows.BIGINT)
        await self._connection.execute(
            insert(OutgoingRow).from_select(
                ["uuid", "peer_id", "manifest_id", "file_id", "size", "state", "created_at", "progressed_at"],
                select(
                    new.c.uuid,
                    literal(manifest.peer_id),
                    literal(manifest.id),
                    new.c.file_id,
                    new.c.size,
                    literal(TransferState.ONGOING.value),
                    now,
                    now,
                ).order_by(new.c.file_id),
            ),
            {"new": rows.pack(consigned)},
        )
        await self._connection.execute(
            update(ManifestRow)
            .where(ManifestRow.id == manifest.id)
            .values(
                files=ManifestRow.files + len(consigned),
                bytes=ManifestRow.bytes + sum(each.size for each in consigned),
            )
        )

    async def parts(self, manifest: ManifestId, *, first: int, limit: int) -> tuple[bytes, ...]:
        """The parts of *manifest* from number *first* on, compressed, at most *limit*."""
        found = await self._connection.scalars(
            select(ManifestPartRow.lines)
            .where(ManifestPartRow.manifest_id == manifest, ManifestPartRow.number >= first)
            .order_by(ManifestPartRow.number)
            .limit(limit)
        )
        return tuple(found)

    async def finish(self, manifest: ManifestId, *, head: str, seal: str) -> None:
        """*manifest* is complete: these are its first and its last line. A repeat changes nothing."""
        await self._connection.execute(
            update(ManifestRow).where(ManifestRow.id == manifest).values(head=head, seal=seal)
        )

    async def contents(self, manifest: ManifestId) -> tuple[tuple[str, int, int], ...]:
        """What *manifest* lists, by the first part of the names: that, files, and bytes."""
        locate = func.instr(FileRow.name, "/") if self._is_sqlite else func.strpos(FileRow.name, "/")
        top = func.substr(FileRow.name, 1, locate).label("top")
        found = await self._connection.execute(
            select(top, func.count().label("files"), func.sum(OutgoingRow.size).label("bytes"))
            .join(FileRow, FileRow.id == OutgoingRow.file_id)
            .where(OutgoingRow.manifest_id == manifest)
            .group_by(top)
            .order_by(top)
        )
        return tuple((row.top, int(row.files), int(row.bytes)) for row in found)
