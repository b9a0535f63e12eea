"""Instances: copies of files on our own stores."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import exists, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite

from librarian.catalog import rows
from librarian.catalog.columns import to_micros
from librarian.catalog.records import InstanceRecord
from librarian.catalog.repository import Repository
from librarian.catalog.schema import InstanceRow, StoreRow
from librarian.names import FileId, StoreName
from librarian.states import Intent, Presence, VerifiedFrom

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Executable, Subquery


@dataclass(frozen=True, kw_only=True)
class NewInstance:
    """A copy that was just measured and found good."""

    file_id: FileId
    store: StoreName
    verified_at: datetime
    verified_from: VerifiedFrom


def _add(is_sqlite: bool, new: Subquery) -> Executable:
    chosen = select(
        new.c.file_id,
        StoreRow.id,
        literal_column(f"'{Presence.PRESENT}'"),
        literal_column(f"'{Intent.KEEP}'"),
        new.c.verified_at,
        new.c.verified_from,
        new.c.verified_at.label("created_at"),
    ).where(StoreRow.name == new.c.store)
    insert = sqlite.insert if is_sqlite else postgresql.insert
    statement = insert(InstanceRow).from_select(
        ["file_id", "store_id", "presence", "intent", "verified_at", "verified_from", "created_at"], chosen
    )
    renewed = {name: statement.excluded[name] for name in ("presence", "intent", "verified_at", "verified_from")}
    return statement.on_conflict_do_update(index_elements=["file_id", "store_id"], set_=renewed)


class Instances(Repository):
    """Copies of files on our own stores."""

    async def add(self, instances: Sequence[NewInstance]) -> None:
        """Record *instances* as present and kept.

        A row that exists (a copy that was lost and came back) is renewed. A repeat changes nothing but
        ``verified_at``.
        """
        if not instances:
            return
        statement = self._once(
            lambda: _add(
                self._is_sqlite,
                self._table(
                    "new", file_id=rows.BIGINT, store=rows.TEXT, verified_at=rows.BIGINT, verified_from=rows.TEXT
                ),
            )
        )
        packed = rows.pack(
            (each.file_id, each.store, to_micros(each.verified_at), each.verified_from) for each in instances
        )
        await self._later(statement, {"new": packed})

    async def healthy(self, files: Sequence[FileId]) -> dict[FileId, tuple[StoreName, ...]]:
        """The stores with a good copy that we keep, by name, for each of *files* that has one."""
        stores: defaultdict[FileId, tuple[StoreName, ...]] = defaultdict(tuple)
        # What is good is chosen here: of a table without statistics the database would guess that none is, and read
        # all that was asked about once for each.
        for copy in await self.of_files(files):
            if copy.presence is Presence.PRESENT and copy.intent is Intent.KEEP:
                stores[copy.file_id] += (copy.store,)
        return stores

    async def left_of(self, files: Sequence[FileId]) -> frozenset[FileId]:
        """Those of *files* of which a copy is left that we keep, and that is good as far as anybody knows."""
        if not files:
            return frozenset()
        asked = self._table("asked", file_id=rows.BIGINT)
        may_do = exists().where(
            InstanceRow.file_id == asked.c.file_id,
            InstanceRow.presence.in_((Presence.PRESENT, Presence.SUSPECT)),
            InstanceRow.intent == Intent.KEEP,
        )
        found = await self._connection.scalars(
            select(asked.c.file_id).where(may_do), {"asked": rows.pack((file,) for file in files)}
        )
        return frozenset(FileId(file) for file in found)

    async def pin(self, files: Sequence[FileId]) -> frozenset[FileId]:
        """Those of *files* with a good copy that we keep: what they are is changed by nobody before we commit."""
        asked = self._table("asked", file_id=rows.BIGINT)
        found = await self._connection.scalars(
            select(InstanceRow.file_id)
            .where(
                InstanceRow.file_id.in_(select(asked.c.file_id)),
                InstanceRow.presence == Presence.PRESENT,
                InstanceRow.intent == Intent.KEEP,
            )
            .order_by(InstanceRow.file_id, InstanceRow.store_id)
            .with_for_update(read=True),
            {"asked": rows.pack((file,) for file in files)},
        )
        return frozenset(FileId(file) for file in found)

    async def of_files(self, files: Sequence[FileId]) -> tuple[InstanceRecord, ...]:
        """Every copy of *files* that the catalog knows, lost ones included, by file and store."""
        if not files:
            return ()
        asked = self._table("asked", file_id=rows.BIGINT)
        found = await self._connection.execute(
            select(
                InstanceRow.file_id,
                StoreRow.name.label("store"),
                InstanceRow.presence,
                InstanceRow.intent,
                InstanceRow.verified_at,
                InstanceRow.verified_from,
            )
            .select_from(asked)
            .join(InstanceRow, InstanceRow.file_id == asked.c.file_id)
            .join(StoreRow, StoreRow.id == InstanceRow.store_id)
            .order_by(InstanceRow.file_id, StoreRow.name),
            {"asked": rows.pack((file,) for file in files)},
        )
        return tuple(
            InstanceRecord(
                file_id=FileId(row.file_id),
                store=StoreName(row.store),
                presence=Presence(row.presence),
                intent=Intent(row.intent),
                verified_at=row.verified_at,
                verified_from=VerifiedFrom(row.verified_from),
            )
            for row in found
        )
