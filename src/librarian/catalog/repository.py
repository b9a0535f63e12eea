"""What every repository shares: the open connection and its dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar, cast

from sqlalchemy import Executable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import CodeType

    from sqlalchemy import Subquery
    from sqlalchemy.ext.asyncio import AsyncConnection

from librarian.catalog import rows

Statement = TypeVar("Statement", bound=Executable)

#: Statements by the code that builds them and the dialect they are for; a cache, filled as they are first used.
_STATEMENTS: Final[dict[tuple[CodeType, str], Executable]] = {}


class Repository:
    """One noun's statements, within one transaction. One method is one statement where possible."""

    def __init__(self, connection: AsyncConnection, dialect: str) -> None:
        self._connection = connection
        self._dialect = dialect

    @property
    def _is_sqlite(self) -> bool:
        return self._dialect == "sqlite"

    def _once(self, build: Callable[[], Statement]) -> Statement:
        """The statement that *build* makes, made once per dialect: building costs more than running.

        *build* is a lambda that uses nothing but ``self`` and constants; what varies goes through ``bindparam``.
        """
        key = (build.__code__, self._dialect)
        if key not in _STATEMENTS:
            _STATEMENTS[key] = build()
        return cast("Statement", _STATEMENTS[key])

    async def _later(self, statement: Executable, given: Mapping[str, object] | Sequence[Mapping[str, object]]) -> None:
        """Execute *statement*, whose answer nobody needs.

        It reaches the database with the next statement or with COMMIT at the latest; so do its errors.
        """
        await self._connection.execute(statement, given, execution_options={"later": True})

    def _table(self, alias: str, **columns: rows.ColumnType) -> Subquery:
        """Rows passed as one JSON parameter named *alias*; see ``rows``."""
        return rows.table_of(self._dialect, alias, **columns)
