"""What every repository shares: the open connection and its dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Subquery
    from sqlalchemy.ext.asyncio import AsyncConnection

from librarian.catalog import rows


class Repository:
    """One noun's statements, within one transaction. One method is one statement where possible."""

    def __init__(self, connection: AsyncConnection, dialect: str) -> None:
        self._connection = connection
        self._dialect = dialect

    @property
    def _is_sqlite(self) -> bool:
        return self._dialect == "sqlite"

    def _table(self, alias: str, **columns: rows.ColumnType) -> Subquery:
        """Rows passed as one JSON parameter named *alias*; see ``rows``."""
        return rows.table_of(self._dialect, alias, **columns)
