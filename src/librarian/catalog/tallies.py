"""Tallies: totals that people look at, kept in the transaction that changes what they count."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from librarian.catalog.records import Tally
from librarian.catalog.repository import Repository
from librarian.catalog.schema import TallyRow


class Tallies(Repository):
    """Totals that people look at."""

    async def add(self, subject: str, *, files: int, bytes: int) -> None:  # noqa: A002 - the unit is the name
        """Add to (or with negative numbers take from) the total of *subject*."""
        insert = sqlite.insert if self._is_sqlite else postgresql.insert
        statement = insert(TallyRow).values(subject=subject, files=files, bytes=bytes)
        await self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=["subject"],
                set_={
                    "files": TallyRow.files + statement.excluded.files,
                    "bytes": TallyRow.bytes + statement.excluded.bytes,
                },
            )
        )

    async def of(self, subject: str) -> Tally:
        """The total of *subject*; zero when nothing was ever added."""
        row = (
            await self._connection.execute(select(TallyRow.files, TallyRow.bytes).where(TallyRow.subject == subject))
        ).first()
        return Tally(files=row.files, bytes=row.bytes) if row else Tally(files=0, bytes=0)
