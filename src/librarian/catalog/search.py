"""Search: finding files.

A search walks the index of its order (by age, by name, by uploader or origin and age) from where the last page
ended. Conditions that the index cannot decide are checked row by row within a *scan budget*: a page may hold fewer
files than asked for, or none, and still have a next one. Where one condition is selective by itself (few names with
that prefix, few files of that size) its rows are taken and sorted instead. No search reads the whole table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from librarian.catalog import queries
from librarian.catalog.files import file_of
from librarian.catalog.queries import FileQuery, Index, Order, Position
from librarian.catalog.repository import Repository

if TYPE_CHECKING:
    from librarian.catalog.queries import Shape, Value
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
        values = queries.values_of(query, self._dialect)
        shape = queries.shape_of(query, values)
        narrow = await self._narrow(shape, values)
        if after is not None:
            values |= queries.position_values("after", after)
        fence = None
        if narrow is None and shape.has_bare(shape.walked):
            fence = await self._fence(shape, values, has_after=after is not None, budget=budget)
        if fence is not None:
            values |= queries.position_values("fence", fence)
        statement = queries.page_statement(shape, narrow, has_after=after is not None, has_fence=fence is not None)
        found = await self._connection.execute(statement, values | {"limit": limit + 1})
        files = tuple(map(file_of, found))
        if len(files) > limit:
            return FoundFiles(files=files[:limit], next_after=_position_of(files[limit - 1]))
        return FoundFiles(files=files, next_after=fence)

    async def _narrow(self, shape: Shape, values: dict[str, Value]) -> Index | None:
        """The most selective index outside the walk, when its rows are few enough to sort them all."""
        if "name" in shape.given:
            return Index.NAME
        indexes = shape.candidates
        if not indexes:
            return None
        # Counting stops early: a common prefix costs no more than a rare one.
        statement = queries.count_statement(shape, indexes)
        counts = (await self._connection.execute(statement, values | {"enough": NARROW + 1})).one()
        fewest, index = min(zip(map(int, counts), indexes, strict=True))
        return index if fewest <= NARROW else None

    async def _fence(self, shape: Shape, values: dict[str, Value], *, has_after: bool, budget: int) -> Position | None:
        """The last row that *budget* allows to look at, or None when the walk ends before."""
        statement = queries.fence_statement(shape, has_after=has_after)
        row = (await self._connection.execute(statement, values | {"skipped": budget - 1})).first()
        return None if row is None else Position(created_at=row.created_at, id=row.id, name=row.name)


def _position_of(file: File) -> Position:
    return Position(created_at=file.created_at, id=file.id, name=file.name)
