"""Misfits: files that one of our stores cannot keep, by its file system's nature; another one may."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from librarian.catalog import rows
from librarian.catalog.repository import Repository
from librarian.catalog.schema import CopyDueRow, MisfitRow, StoreRow
from librarian.names import FileId, StoreName
from librarian.states import DueState
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.names import StoreId

#: What is said of a copy that no store takes that is here now.
MISFIT: Final = "misfit"


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """A file that a store cannot keep, and why."""

    file_id: FileId
    store: StoreName
    reason: str


class Misfits(Repository):
    """Which file goes onto which store never."""

    async def add(self, misfits: Sequence[Misfit]) -> None:
        """Remember *misfits*. A repeat changes nothing."""
        found = self._table("found", file_id=rows.BIGINT, store=rows.TEXT, reason=rows.TEXT)
        known = select(found.c.file_id, StoreRow.id, found.c.reason).join(StoreRow, StoreRow.name == found.c.store)
        insert = sqlite.insert if self._is_sqlite else postgresql.insert
        statement = insert(MisfitRow).from_select(["file_id", "store_id", "reason"], known.where(StoreRow.id > 0))
        await self._connection.execute(
            statement.on_conflict_do_nothing(),
            {"found": rows.pack((each.file_id, each.store, each.reason[: rows.REASON_LENGTH]) for each in misfits)},
        )

    async def of_files(self, files: Sequence[FileId]) -> dict[FileId, dict[StoreName, str]]:
        """The stores that cannot keep *files*, each with its reason; files without any are left out."""
        asked = self._table("asked", file_id=rows.BIGINT)
        found = await self._connection.execute(
            select(MisfitRow.file_id, StoreRow.name, MisfitRow.reason)
            .join(StoreRow, StoreRow.id == MisfitRow.store_id)
            .where(MisfitRow.file_id.in_(select(asked.c.file_id))),
            {"asked": rows.pack((file_id,) for file_id in files)},
        )
        misfits: defaultdict[FileId, dict[StoreName, str]] = defaultdict(dict)
        for row in found:
            misfits[FileId(row.file_id)][StoreName.trusted(row.name)] = row.reason
        return dict(misfits)

    async def forget(self, store: StoreId | None = None) -> None:
        """*store* (None: every one) may keep now what it could not: it was emptied, or stands elsewhere."""
        await self._connection.execute(
            delete(MisfitRow).where(*([] if store is None else [MisfitRow.store_id == store]))
        )

    async def look_again(self) -> None:
        """Another store is here now: what no other could keep is tried at once."""
        now = utc_now()
        await self._connection.execute(
            update(CopyDueRow)
            .where(
                CopyDueRow.file_id.in_(select(MisfitRow.file_id)),
                rows.one_of(CopyDueRow.state, DueState.DUE),
                CopyDueRow.code == MISFIT,
            )
            .values(next_try_at=now)
        )
