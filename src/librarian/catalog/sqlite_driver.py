"""SQLite in few trips: what costs is the hop to the connection's thread and back, not the small statement.

The adapter that SQLAlchemy brings makes four hops for each statement (cursor, execute, fetch, close). Here a statement
makes one; BEGIN, and statements whose answer nobody needs (execution option ``later``), travel along with the next
statement or with COMMIT; and nobody waits for the end of a transaction that only read.
"""

from __future__ import annotations

import collections
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import aiosqlite
from sqlalchemy import event
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.util.concurrency import await_

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine.interfaces import ExecutionContext
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")


class NotTheOwner(sqlite3.Error):
    """Another process has begun a generation of the catalog."""


class _Outcome(NamedTuple):
    """What is left of a statement when its cursor is closed."""

    rows: Sequence[tuple[object, ...]] = ()
    description: Sequence[tuple[object, ...]] | None = None
    rowcount: int = -1
    lastrowid: int | None = None


def _execute(connection: sqlite3.Connection, operation: str, given: Any, many: bool) -> _Outcome:
    cursor = connection.cursor()
    try:
        (cursor.executemany if many else cursor.execute)(operation, given)
        rows = cursor.fetchall() if cursor.description else ()
        return _Outcome(rows, cursor.description, cursor.rowcount, cursor.lastrowid)
    finally:
        cursor.close()


def _run_all(
    connection: sqlite3.Connection, first: Sequence[Callable[[sqlite3.Connection], object]], run: Callable[..., T]
) -> T:
    for each in first:
        each(connection)
    return run(connection)


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

    def later(self, operation: str, given: Any, *, many: bool) -> None:
        """Let the statement travel along with the next one; its answer is dropped."""
        cast("OneTripConnection", self._adapt_connection).later(
            partial(_execute, operation=operation, given=given, many=many)
        )

    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        await self._in_one_trip(operation, () if parameters is None else parameters, many=False)

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> Any:
        await self._in_one_trip(operation, seq_of_parameters, many=True)

    async def _in_one_trip(self, operation: str, given: Any, *, many: bool) -> None:
        connection = cast("OneTripConnection", self._adapt_connection)
        async with connection._execute_mutex:
            self._outcome = await connection.trip(partial(_execute, operation=operation, given=given, many=many))
        self._rows = collections.deque(self._outcome.rows)


class OneTripConnection(AsyncAdapt_aiosqlite_connection):
    """A connection that gathers what need not be answered at once."""

    __slots__ = ("_has_begun", "_is_reader", "_mode", "_waiting")
    _cursor_cls = _Cursor  # type: ignore[assignment]

    def __init__(self, dbapi: OneTripDriver, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self._waiting: list[Callable[[sqlite3.Connection], object]] = []
        #: Whether the thread was asked to begin a transaction that has not ended.
        self._has_begun = False
        #: Of the transaction that is open.
        self._is_reader = False
        #: Whether the connection refuses to write now; None: nobody said yet. Only the thread changes it.
        self._mode: bool | None = None

    def begin(self, *, reads_only: bool, is_ours: Callable[[int], bool] | None) -> None:
        """Begin a transaction with the next trip; *is_ours* is asked about the catalog's generation there."""
        self._is_reader = reads_only
        self._waiting = [partial(self._begin, reads_only=reads_only, is_ours=is_ours)]

    def _begin(
        self, connection: sqlite3.Connection, *, reads_only: bool, is_ours: Callable[[int], bool] | None
    ) -> None:
        if self._mode is not reads_only:
            connection.execute(f"PRAGMA query_only={int(reads_only)}").close()
            self._mode = reads_only
        # A writer takes its lock at once: a deferred one fails in the middle when another wrote meanwhile.
        connection.execute("BEGIN" if reads_only else "BEGIN IMMEDIATE").close()
        if is_ours is not None:
            ((generation,),) = connection.execute("SELECT generation FROM site WHERE id = 1").fetchall()
            if not is_ours(generation):
                raise NotTheOwner(f"the catalog is now at generation {generation}")

    def later(self, run: Callable[[sqlite3.Connection], object]) -> None:
        """Let *run* travel along with the next trip."""
        self._waiting.append(run)

    async def trip(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Run what waits, then *run*, in the connection's thread; the first error ends the trip."""
        thread: Any = self._connection
        waiting, self._waiting = self._waiting, []
        self._has_begun = True
        return cast("T", await thread._execute(_run_all, thread._conn, waiting, run))

    def commit(self) -> None:
        """Commit, together with what waits."""
        # Without a trip so far, the first that waits is BEGIN itself.
        if self._is_reader and len(self._waiting) <= (not self._has_begun):
            self.rollback()
            return
        try:
            await_(self.trip(sqlite3.Connection.commit))
        except (sqlite3.Error, ValueError) as error:
            self._handle_exception(error)
        self._has_begun = False

    def rollback(self) -> None:
        """Drop what waits, and undo the rest; what only read has nothing to undo, and nobody waits for its end."""
        self._waiting = []
        if not self._has_begun:
            return
        self._has_begun = False
        thread: Any = self._connection
        if self._is_reader and thread._running:
            thread._tx.put_nowait((None, thread._conn.rollback))
            return
        super().rollback()


class OneTripDriver(AsyncAdapt_aiosqlite_dbapi):
    """The driver module that ``create_async_engine(module=…)`` takes."""

    def __init__(self) -> None:
        super().__init__(aiosqlite, sqlite3)

    def connect(self, *arg: Any, **kw: Any) -> AsyncAdapt_aiosqlite_connection:
        """Open a connection with a thread that does not hold up the end of the process."""
        connection = aiosqlite.connect(*arg, **kw)
        connection._thread.daemon = True
        return OneTripConnection(self, await_(connection))


def heed_later(engine: AsyncEngine) -> None:
    """Have *engine* heed the execution option ``later``."""

    def one(cursor: _Cursor, statement: str, parameters: Any, context: ExecutionContext) -> bool:
        return _put_off(cursor, statement, parameters, context, many=False)

    def many(cursor: _Cursor, statement: str, parameters: Any, context: ExecutionContext) -> bool:
        return _put_off(cursor, statement, parameters, context, many=True)

    event.listen(engine.sync_engine, "do_execute", one)
    event.listen(engine.sync_engine, "do_executemany", many)


def _put_off(cursor: _Cursor, statement: str, given: Any, context: ExecutionContext, *, many: bool) -> bool:
    if not context.execution_options.get("later"):
        return False
    cursor.later(statement, given, many=many)
    # SQLAlchemy takes a statement that awaits nothing for a mistake.
    await_(_nothing())
    return True


async def _nothing() -> None:
    return
