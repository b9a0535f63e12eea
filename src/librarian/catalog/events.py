"""Events: the story of everything, append-only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from librarian.catalog import rows
from librarian.catalog.columns import to_micros
from librarian.catalog.records import Happening
from librarian.catalog.repository import Repository
from librarian.catalog.schema import EventRow
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Executable, Subquery


class Events(Repository):
    """The story of everything."""

    async def tell(self, happenings: Sequence[Happening]) -> None:
        """Append *happenings*, in order; ``at`` defaults to now."""
        if not happenings:
            return
        now = to_micros(utc_now())
        statement = self._once(
            lambda: _tell(
                self._table("told", at=rows.BIGINT, subject=rows.TEXT, what=rows.TEXT, who=rows.TEXT, why=rows.TEXT)
            )
        )
        packed = rows.pack((to_micros(h.at) if h.at else now, h.subject, h.what, h.who, h.why) for h in happenings)
        await self._later(statement, {"told": packed})

    async def story_of(self, subject: str, *, limit: int = 1000) -> tuple[Happening, ...]:
        """What happened to *subject*, oldest first; the newest *limit* milestones."""
        newest = await self._connection.execute(
            select(EventRow.subject, EventRow.what, EventRow.who, EventRow.why, EventRow.at)
            .where(EventRow.subject == subject)
            .order_by(EventRow.id.desc())
            .limit(limit)
        )
        return tuple(Happening(**row._mapping) for row in reversed(newest.all()))


def _tell(told: Subquery) -> Executable:
    return insert(EventRow).from_select(["at", "subject", "what", "who", "why"], select(told))
