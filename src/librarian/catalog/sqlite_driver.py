"""SQLite in one trip: a statement, its rows and the end of its cursor cost one hop to the connection's thread.

The adapter that SQLAlchemy brings makes four hops for each statement (cursor, execute, fetch, close), and a hop costs
more than a small statement.
"""

from __future__ import annotations

import collections
import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.util.concurrency import await_

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class _Outcome(NamedTuple):
    """What is left of a statement when its cursor is closed."""

    rows: Sequence[tuple[object, ...]] = ()
    description: Sequence[tuple[object, ...]] | None = None
    rowcount: int = -1
    lastrowid: int | None = None


def _run(connection: sqlite3.Connection, run: Callable[[sqlite3.Cursor], sqlite3.Cursor]) -> _Outcome:
    cursor = connection.cursor()
    try:
        run(cursor)
        rows = cursor.fetchall() if cursor.description else ()
        return _Outcome(rows, cursor.description, cursor.rowcount, cursor.lastrowid)
    finally:
        cursor.close()


def _begin(connection: sqlite3.Connection, statements: Sequence[str], asks: str | None) -> object:
    for statement in statements:
        connection.execute(statement).close()
    return None if asks is None else connection.execute(asks).fetchone()[0]


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    """A cursor that lives in the thread only while a statement runs."""

    __slots__ = ("_outcome",)

    def __init__(self, adapt_connection: AsyncAdapt_aiosqlite_connection) -> None:
        # Not the base's: it would make a cursor in the thread at once, and close it in two more trips.
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection
        self._rows = collections.deque()
        self._outcome = _Outcome()

    @property
    def description(self) -> Any:
        return self._outcome.description

    @property
    def rowcount(self) -> int:
        return self._outcome.rowcount

    @property
    def lastrowid(self) -> int:
        return self._outcome.lastrowid or 0

    async def _async_soft_close(self) -> None:
        return

    def close(self) -> None:
        self._rows.clear()

    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        given = () if parameters is None else parameters
        return await self._in_one_trip(lambda cursor: cursor.execute(operation, given))

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> Any:
        return await self._in_one_trip(lambda cursor: cursor.executemany(operation, seq_of_parameters))

    async def _in_one_trip(self, run: Callable[[sqlite3.Cursor], sqlite3.Cursor]) -> None:
        thread: Any = self._connection
        async with self._adapt_connection._execute_mutex:
            self._outcome = await thread._execute(_run, thread._conn, run)
        self._rows = collections.deque(self._outcome.rows)


class OneTripConnection(AsyncAdapt_aiosqlite_connection):
    """A connection whose cursors make one trip per statement."""

    __slots__ = ("_reads_only",)
    _cursor_cls = _Cursor  # type: ignore[assignment]

    def begin(self, *, reads_only: bool, asks: str | None) -> object:
        """Begin a transaction, and answer the scalar query *asks* within it: all of it one trip."""
        thread: Any = self._connection
        switch = reads_only is not getattr(self, "_reads_only", None)
        # Unknown until we hear of it: a caller that is cancelled does not know what the thread still did.
        self._reads_only: bool | None = None
        # A writer takes its lock at once: a deferred one fails in the middle when another wrote meanwhile.
        begin = "BEGIN" if reads_only else "BEGIN IMMEDIATE"
        statements = ([f"PRAGMA query_only={int(reads_only)}"] if switch else []) + [begin]
        answer = await_(thread._execute(_begin, thread._conn, statements, asks))
        self._reads_only = reads_only
        return answer


class OneTripDriver(AsyncAdapt_aiosqlite_dbapi):
    """The driver module that ``create_async_engine(module=…)`` takes."""

    def __init__(self) -> None:
        super().__init__(aiosqlite, sqlite3)

    def connect(self, *arg: Any, **kw: Any) -> AsyncAdapt_aiosqlite_connection:
        """Open a connection with a thread that does not hold up the end of the process."""
        connection = aiosqlite.connect(*arg, **kw)
        connection._thread.daemon = True
        return OneTripConnection(self, await_(connection))  # type: ignore[arg-type]
