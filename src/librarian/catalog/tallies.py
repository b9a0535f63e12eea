"""Tallies: totals that people look at, kept in the transaction that changes what they count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from librarian.catalog.records import Tally
from librarian.catalog.repository import Repository
from librarian.catalog.schema import TallyRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Executable


class Tallies(Repository):
    """Totals that people look at."""

    async def add(self, subject: str, *, files: int, bytes: int) -> None:  # noqa: A002 - the unit is the name
        """Add to (or with negative numbers take from) the total of *subject*."""
        await self.add_many({subject: Tally(files=files, bytes=bytes)})

    async def add_many(self, changes: Mapping[str, Tally]) -> None:
        """Add to the total of each subject."""
        if not changes:
            return
        await self._later(
            self._once(lambda: _add(self._is_sqlite)),
            # Always in one order: two transactions that lock the same totals must not wait for each other.
            [{"subject": each, "files": changes[each].files, "bytes": changes[each].bytes} for each in sorted(changes)],
        )

    async def of(self, subject: str) -> Tally:
        """The total of *subject*; zero when nothing was ever added."""
        row = (
            await self._connection.execute(select(TallyRow.files, TallyRow.bytes).where(TallyRow.subject == subject))
        ).first()
        return Tally(files=row.files, bytes=row.bytes) if row else Tally(files=0, bytes=0)

    async def of_many(self, subjects: Sequence[str]) -> dict[str, Tally]:
        """The total of each of *subjects*; zero where nothing was ever added."""
        found = await self._connection.execute(
            select(TallyRow.subject, TallyRow.files, TallyRow.bytes).where(TallyRow.subject.in_(subjects))
        )
        return dict.fromkeys(subjects, Tally(files=0, bytes=0)) | {
            row.subject: Tally(files=row.files, bytes=row.bytes) for row in found
        }


def _add(is_sqlite: bool) -> Executable:
    insert = sqlite.insert if is_sqlite else postgresql.insert
    statement = insert(TallyRow)
    return statement.on_conflict_do_update(
        index_elements=["subject"],
        set_={
            "files": TallyRow.files + statement.excluded.files,
            "bytes": TallyRow.bytes + statement.excluded.bytes,
        },
    )
