"""Suspects: copies of ours that may be bad. No source of others until they were read again, which decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, literal_column, select, tuple_, update

from librarian.catalog import rows
from librarian.catalog.columns import to_micros
from librarian.catalog.repository import Repository
from librarian.catalog.schema import FileRow, InstanceRow, StoreRow
from librarian.checksum import Checksum
from librarian.names import FileId, FileName, StoreId, StoreName
from librarian.states import Presence, VerifiedFrom

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

#: Added to a store's id, it hides it from SQLite, which would rather walk everything that the store holds.
_ZERO: Final = literal_column("0", BigInteger())
_IS_SUSPECT = rows.one_of(InstanceRow.presence, Presence.SUSPECT)


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A copy that is to be read again, and what it must be found to be."""

    file_id: FileId
    store_id: StoreId
    name: FileName
    size: int
    checksum: Checksum
    store: StoreName


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a suspect was found to be, at ``at``: PRESENT, CORRUPT or MISSING."""

    suspect: Suspect
    presence: Presence
    at: datetime


class Suspects(Repository):
    """Copies of ours that may be bad."""

    async def mark(self, files: Sequence[FileId], *, store: StoreName | None = None) -> int:
        """The copies of *files* on *store* (None: on every store) may be bad; returns how many were held for good."""
        if not files:
            return 0
        doubted = self._table("doubted", file_id=rows.BIGINT)
        on_store = [] if store is None else [StoreRow.name == store]
        stores = select(StoreRow.id).where(*on_store)
        marked = await self._connection.execute(
            update(InstanceRow)
            .where(
                InstanceRow.file_id.in_(select(doubted.c.file_id)),
                (InstanceRow.store_id + _ZERO).in_(stores),
                InstanceRow.presence == Presence.PRESENT,
            )
            .values(presence=Presence.SUSPECT)
            .returning(InstanceRow.id),
            {"doubted": rows.pack((file_id,) for file_id in files)},
        )
        return len(marked.all())

    async def page(
        self, *, after: tuple[FileId, StoreId], stores: Collection[StoreName], limit: int
    ) -> tuple[Suspect, ...]:
        """Suspects on *stores*, by file and store, those after *after*, at most *limit*."""
        found = await self._connection.execute(
            select(
                InstanceRow.file_id,
                InstanceRow.store_id,
                FileRow.name,
                FileRow.size,
                FileRow.checksum,
                StoreRow.name.label("store"),
            )
            .join(FileRow, FileRow.id == InstanceRow.file_id)
            .join(StoreRow, StoreRow.id == InstanceRow.store_id + _ZERO)
            .where(
                _IS_SUSPECT,
                StoreRow.name.in_(stores),
                tuple_(InstanceRow.file_id, InstanceRow.store_id) > after,
            )
            .order_by(InstanceRow.file_id, InstanceRow.store_id)
            .limit(limit)
        )
        return tuple(
            Suspect(
                file_id=FileId(row.file_id),
                store_id=StoreId(row.store_id),
                name=FileName.trusted(row.name),
                size=row.size,
                checksum=Checksum.trusted(row.checksum),
                store=StoreName(row.store),
            )
            for row in found
        )

    async def decide(self, findings: Sequence[Finding]) -> frozenset[tuple[FileId, StoreId]]:
        """Suspects are what they were found to be; returns those that were suspects still."""
        if not findings:
            return frozenset()
        found = self._table(
            "found", file_id=rows.BIGINT, store_id=rows.BIGINT, presence=rows.TEXT, verified_at=rows.BIGINT
        )
        is_good = found.c.presence == Presence.PRESENT.value
        decided: set[tuple[FileId, StoreId]] = set()
        for is_meant, values in (
            # When it was found bad it was not verified: that instant says when it was good last.
            (is_good, {"verified_at": found.c.verified_at, "verified_from": VerifiedFrom.CACHE}),
            (~is_good, {}),
        ):
            moved = await self._connection.execute(
                update(InstanceRow)
                .where(
                    InstanceRow.file_id == found.c.file_id,
                    InstanceRow.store_id == found.c.store_id,
                    InstanceRow.presence == Presence.SUSPECT,
                    is_meant,
                )
                .values(presence=found.c.presence, **values)
                .returning(InstanceRow.file_id, InstanceRow.store_id),
                {
                    "found": rows.pack(
                        (f.suspect.file_id, f.suspect.store_id, f.presence, to_micros(f.at)) for f in findings
                    )
                },
            )
            decided |= {(FileId(row.file_id), StoreId(row.store_id)) for row in moved}
        return frozenset(decided)
