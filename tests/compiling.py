"""SQL that is made from statements once per test process, not once per site of each test."""

from collections import defaultdict

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

#: More than there are different statements.
STATEMENTS = 2000


def compile_once() -> None:
    """Let all engines of one kind share what they have compiled, as all connections of one engine do."""
    compiled: dict[type, LRUCache] = defaultdict(lambda: LRUCache(STATEMENTS))

    @event.listens_for(Engine, "engine_connect")
    def share(connection: Connection) -> None:
        connection.execution_options(compiled_cache=compiled[type(connection.dialect)])

    # What is kept is found by the dialect, among others: those of two engines are made from the same options here.
    DefaultDialect.__eq__ = lambda self, other: type(self) is type(other)
    DefaultDialect.__hash__ = lambda self: hash(type(self))
