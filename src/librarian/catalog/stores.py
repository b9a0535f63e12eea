"""Stores as rows: what the catalog knows of them. Their paths live in the settings alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from librarian.catalog.records import StoreRecord
from librarian.catalog.repository import Repository
from librarian.catalog.schema import StoreRow
from librarian.errors import NotFound
from librarian.names import StoreId, StoreName
from librarian.timing import utc_now

if TYPE_CHECKING:
    from sqlalchemy import Row

_COLUMNS = (StoreRow.id, StoreRow.name, StoreRow.uuid, StoreRow.kind, StoreRow.is_open, StoreRow.created_at)


class StoreRows(Repository):
    """Local places for payloads, as rows."""

    async def register(self, name: StoreName, *, uuid: str, kind: str) -> StoreRecord:
        """Make the row of a store that was never seen; it is open."""
        row = await self._connection.execute(
            insert(StoreRow)
            .values(name=name, uuid=uuid, kind=kind, is_open=True, created_at=utc_now())
            .returning(*_COLUMNS)
        )
        return _store(row.one())

    async def all(self) -> tuple[StoreRecord, ...]:
        """Every store ever registered, by name."""
        rows = await self._connection.execute(select(*_COLUMNS).order_by(StoreRow.name))
        return tuple(map(_store, rows))

    async def by_name(self) -> dict[StoreName, StoreRecord]:
        """Every store ever registered."""
        return {store.name: store for store in await self.all()}

    async def set_open(self, name: StoreName, *, is_open: bool) -> StoreRecord:
        """Say whether new files may go to the store. A repeat does nothing.

        Raises
        ------
        NotFound
        """
        row = (
            await self._connection.execute(
                update(StoreRow).where(StoreRow.name == name).values(is_open=is_open).returning(*_COLUMNS)
            )
        ).first()
        if row is None:
            raise NotFound(f"there is no store '{name}'", remedy="See 'librarian.admin store list'.")
        return _store(row)


def _store(row: Row[*tuple[object, ...]]) -> StoreRecord:
    values = row._mapping
    return StoreRecord(
        id=StoreId(values["id"]),
        name=StoreName(values["name"]),
        uuid=values["uuid"],
        kind=values["kind"],
        is_open=values["is_open"],
        created_at=values["created_at"],
    )
