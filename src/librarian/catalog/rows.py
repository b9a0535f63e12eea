"""Set-based statements over many rows: one JSON parameter becomes a table.

``insert().values([...])`` compiles anew for every length, and executemany cannot RETURN; a JSON array of arrays
is one parameter of one cached statement on both databases.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
    Integer,
    Row,
    Select,
    String,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Subquery
    from sqlalchemy.orm import InstrumentedAttribute

Cell = str | int | bool | float | None
ColumnType = Text | BigInteger | Boolean
#: Longest reason and code that are kept: peers may say anything.
REASON_LENGTH: Final = 2000
CODE_LENGTH: Final = 100
#: A row that a statement found; its attributes are the columns that the statement selected, which types cannot say.
Found: TypeAlias = Row[*tuple[Any, ...]]

#: A statement that finds such rows.
Chosen: TypeAlias = Select[*tuple[Any, ...]]

TEXT = Text()
BIGINT = BigInteger()
BOOL = Boolean()
__all__ = ["BIGINT", "BOOL", "TEXT", "Cell", "Chosen", "ColumnType", "Found", "one_of", "pack", "table_of", "why"]


def pack(rows: Iterable[Sequence[Cell]]) -> str:
    """The parameter's value: a JSON array of arrays, cells in the order of the columns."""
    return json.dumps(list(rows), ensure_ascii=False, separators=(",", ":"))


def why(code: str | None, reason: str | None) -> tuple[str | None, str | None]:
    """Code and reason, cut to what is kept of them."""
    return code and code[:CODE_LENGTH], reason and reason[:REASON_LENGTH]


def table_of(dialect: str, alias: str, **columns: ColumnType) -> Subquery:
    """A subquery named *alias* whose rows come from the parameter ``:<alias>`` (see ``pack``).

    Columns keep the given order; on both databases ``.c.<name>`` has the given type. Instants are passed as
    BIGINT microseconds (``schema.to_micros``).
    """
    if dialect == "sqlite":
        parameter = bindparam(alias, type_=String())
        each = func.json_each(parameter).table_valued("value", "key", name=f"{alias}_json")
        picks = [
            cast(func.json_extract(each.c.value, f"$[{i}]"), kind).label(name)
            if not isinstance(kind, (BigInteger, Integer, Text))
            else func.json_extract(each.c.value, literal_column(f"'$[{i}]'"), type_=kind).label(name)
            for i, (name, kind) in enumerate(columns.items())
        ]
        # The limit keeps SQLite from merging the rows into the statement around them, where it may parse all of the
        # JSON anew for every row of the table that it is joined to.
        return select(*picks).select_from(each).limit(literal_column("-1")).subquery(alias)
    parameter = bindparam(alias, type_=Text())
    each = func.jsonb_array_elements(cast(parameter, JSONB)).table_valued(column("value", JSONB), name=f"{alias}_json")
    picks = [
        cast(each.c.value.op("->>")(literal_column(str(i))), kind).label(name)
        for i, (name, kind) in enumerate(columns.items())
    ]
    return select(*picks).select_from(each).subquery(alias)


def one_of(column: ColumnElement[str] | InstrumentedAttribute[str], *states: str) -> ColumnElement[bool]:
    """*column* has one of *states* (values of our enums), written out: partial indexes are used for literals only."""
    literals: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state in states]
    # SQLite does not see that "IN ('due')" implies an index's "= 'due'".
    return column == literals[0] if len(literals) == 1 else column.in_(literals)
