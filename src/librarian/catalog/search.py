"""Search: finding files.

A search walks the index of its order (by age, by name, by uploader or origin and age) from where the last page
ended. Conditions that the index cannot decide are checked row by row within a *scan budget*: a page may hold fewer
files than asked for, or none, and still have a next one. Where one condition is selective by itself (few names with
that prefix, few files of that size) its rows are taken and sorted instead. No search reads the whole table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, literal, select

from librarian.catalog import queries
from librarian.catalog.files import FILE_COLUMNS, file_of
from librarian.catalog.queries import FileQuery, Index, Order, Position
from librarian.catalog.repository import Repository
from librarian.catalog.schema import FileRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.queries import Condition
    from librarian.catalog.records import File

__all__ = ["FileQuery", "FoundFiles", "Order", "Position", "Search"]

#: Rows that one page may look at beyond what its index decides: some 20 ms of PostgreSQL.
SCAN_BUDGET: Final = 50_000
#: A condition that leaves at most so many rows is worth sorting them.
NARROW: Final = 5_000


@dataclass(frozen=True, kw_only=True)
class FoundFiles:
    """One page; ``next_after`` is None on the last."""

    files: tuple[File, ...]
    next_after: Position | None


class Search(Repository):
    """Finding files."""

    async def find(
        self, query: FileQuery, *, after: Position | None = None, limit: int = 64, budget: int = SCAN_BUDGET
    ) -> FoundFiles:
        """The page of at most *limit* files that comes after *after*.

        A page may be short, even empty, while ``next_after`` says where to go on: *budget* rows were looked at.
        """
        narrow = await self._narrow(query)
        is_walk = narrow is None
        indexes = queries.walked(query) if narrow is None else frozenset({narrow})
        indexed = queries.indexed_conditions(query, indexes)
        if after is not None:
            indexed.append(queries.past(query.order, after, is_bare=not is_walk))
        bare = queries.bare_conditions(query, indexes, self._dialect)
        fence = await self._fence(query.order, indexed, budget=budget) if is_walk and bare else None
        if fence is not None:
            indexed.append(queries.up_to(query.order, fence))
        files = await self._page(query.order, [*indexed, *bare], is_walk=is_walk, limit=limit + 1)
        if len(files) > limit:
            return FoundFiles(files=files[:limit], next_after=_position_of(files[limit - 1]))
        return FoundFiles(files=files, next_after=fence)

    async def _narrow(self, query: FileQuery) -> Index | None:
        """The most selective index outside the walk, when its rows are few enough to sort them all."""
        if query.glob is not None and query.glob.is_exact:
            return Index.NAME
        indexes = queries.candidates(query)
        if not indexes:
            return None
        # Counting stops early: a common prefix costs no more than a rare one.
        counts = [
            select(func.count())
            .select_from(
                select(literal(1))
                .select_from(FileRow)
                .where(*queries.indexed_conditions(query, frozenset({index})))
                .limit(NARROW + 1)
                .subquery()
            )
            .scalar_subquery()
            for index in indexes
        ]
        row = (await self._connection.execute(select(*counts))).one()
        fewest, index = min(zip(row, indexes, strict=True))
        return index if fewest <= NARROW else None

    async def _fence(self, order: Order, indexed: Sequence[Condition], *, budget: int) -> Position | None:
        """The last row that *budget* allows to look at, or None when the walk ends before."""
        found = (
            await self._connection.execute(
                select(FileRow.id, FileRow.name, FileRow.created_at)
                .where(*indexed)
                .order_by(*queries.ordering(order, is_bare=False))
                .limit(1)
                .offset(budget - 1)
            )
        ).first()
        return None if found is None else Position(created_at=found.created_at, id=found.id, name=found.name)

    async def _page(
        self, order: Order, conditions: Sequence[Condition], *, is_walk: bool, limit: int
    ) -> tuple[File, ...]:
        found = await self._connection.execute(
            select(*FILE_COLUMNS)
            .where(*conditions)
            .order_by(*queries.ordering(order, is_bare=not is_walk))
            .limit(limit)
        )
        return tuple(map(file_of, found))


def _position_of(file: File) -> Position:
    return Position(created_at=file.created_at, id=file.id, name=file.name)
