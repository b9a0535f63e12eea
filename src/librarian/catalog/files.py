"""Files: immutable named payloads and their member listings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from librarian.catalog import obstacles, rows
from librarian.catalog.columns import to_micros
from librarian.catalog.records import File
from librarian.catalog.repository import Repository
from librarian.catalog.schema import FileRow, MemberListingRow
from librarian.checksum import Checksum
from librarian.names import FileId, FileName
from librarian.states import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Executable, Select, Subquery


FILE_COLUMNS = (
    FileRow.id,
    FileRow.name,
    FileRow.kind,
    FileRow.size,
    FileRow.checksum,
    FileRow.uploader,
    FileRow.origin,
    FileRow.created_at,
)


@dataclass(frozen=True, kw_only=True)
class NewFile:
    """A file that has just been verified and published."""

    name: FileName
    kind: Kind
    size: int
    checksum: Checksum
    uploader: str
    origin: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a book holds: ``packed`` is ``checksum.pack_members`` of its members."""

    file_id: FileId
    count: int
    packed: bytes


def file_of(row: rows.Found) -> File:
    """The record of a row that selected ``FILE_COLUMNS``."""
    return File(
        id=FileId(row.id),
        name=FileName.trusted(row.name),
        kind=Kind(row.kind),
        size=row.size,
        checksum=Checksum.trusted(row.checksum),
        uploader=row.uploader,
        origin=row.origin,
        created_at=row.created_at,
    )


_NEW_COLUMNS: Final[dict[str, rows.ColumnType]] = {
    "name": rows.TEXT,
    "kind": rows.TEXT,
    "size": rows.BIGINT,
    "checksum": rows.TEXT,
    "uploader": rows.TEXT,
    "origin": rows.TEXT,
    "created_at": rows.BIGINT,
}


def _named(asked: Subquery) -> Select[*tuple[object, ...]]:
    return select(*FILE_COLUMNS).select_from(asked).join(FileRow, FileRow.name == asked.c.name)


def _add(is_sqlite: bool, new: Subquery) -> Executable:
    insert = sqlite.insert if is_sqlite else postgresql.insert
    return (
        insert(FileRow)
        # A condition is needed: SQLite cannot tell "ON CONFLICT" from a join's "ON" otherwise.
        .from_select(list(_NEW_COLUMNS), select(new).where(new.c.name.is_not(None)))
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(FileRow.id, FileRow.name)
    )


class Files(Repository):
    """Immutable named payloads and their member listings."""

    async def conflicts(self, names: Sequence[FileName]) -> dict[FileName, obstacles.Obstacle]:
        """What stands in the way of new arrivals under *names*; a name that is free is absent.

        Looks at held files and live arrivals: of the same name, of every ancestor, of any descendant. Names of
        the same request are the caller's to compare. One statement. A transaction that is to open what it finds free
        must be one that ``opens_names``.
        """
        return await obstacles.find(self._connection, self._dialect, names)

    async def named(self, names: Sequence[FileName]) -> dict[FileName, File]:
        """The files of these names; unknown names are absent."""
        if not names:
            return {}
        statement = self._once(lambda: _named(self._table("asked", name=rows.TEXT)))
        found = await self._connection.execute(statement, {"asked": rows.pack((name,) for name in names)})
        return {file.name: file for file in map(file_of, found)}

    async def add(self, files: Sequence[NewFile]) -> dict[FileName, FileId]:
        """Insert *files*, and return the id of each that was new.

        A name that exists is left as it is and absent from the answer: rows never change.
        """
        if not files:
            return {}
        statement = self._once(lambda: _add(self._is_sqlite, self._table("new", **_NEW_COLUMNS)))
        packed = rows.pack(
            (f.name, f.kind, f.size, f.checksum, f.uploader, f.origin, to_micros(f.created_at)) for f in files
        )
        added = await self._connection.execute(statement, {"new": packed})
        return {FileName.trusted(row.name): FileId(row.id) for row in added}

    async def add_listings(self, listings: Sequence[Listing]) -> None:
        """Keep what books hold. A repeat changes nothing."""
        if not listings:
            return
        insert = sqlite.insert if self._is_sqlite else postgresql.insert
        statement = insert(MemberListingRow).on_conflict_do_nothing(index_elements=["file_id"])
        await self._later(
            statement, [{"file_id": each.file_id, "count": each.count, "listing": each.packed} for each in listings]
        )

    async def listing_of(self, file: FileId) -> Listing | None:
        """What a book holds, or None for what is no book."""
        row = (
            await self._connection.execute(
                select(MemberListingRow.count.label("members"), MemberListingRow.listing).where(
                    MemberListingRow.file_id == file
                )
            )
        ).first()
        return Listing(file_id=file, count=row.members, packed=row.listing) if row else None
