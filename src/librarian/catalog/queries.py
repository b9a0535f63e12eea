"""What may be asked of the files, and which index answers it.

A condition has two forms. *Indexed*: the planner may use an index for it. *Bare*: written around an expression, so
that no planner can, whatever its statistics say; the row is looked at, and counts against the scan budget.

Statements are built once per *shape* (which conditions, which order, which index): building one takes longer than
running it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVarTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    exists,
    func,
    literal,
    literal_column,
    select,
    tuple_,
    type_coerce,
)

from librarian.catalog import globbing
from librarian.catalog.columns import to_micros
from librarian.catalog.files import FILE_COLUMNS
from librarian.catalog.schema import FileRow, InstanceRow, StoreRow
from librarian.states import Kind, Presence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from librarian.globs import Glob

Condition = ColumnElement[bool]
Value = str | int
Columns = TypeVarTuple("Columns")

#: Shapes that are remembered; there are far fewer in use.
_SHAPES: Final = 512
#: Presences under which a file counts as being on a store.
_THERE: Final = (Presence.PRESENT.value, Presence.SUSPECT.value)
#: Instants as the integers they are stored as.
_AT: Final = type_coerce(FileRow.created_at, BigInteger)
_ZERO: Final = literal_column("0", BigInteger)
_NOTHING: Final = literal_column("''", Text())


class Order(StrEnum):
    """What comes first."""

    NEWEST = "newest"
    NAME = "name"


class Index(StrEnum):
    """An index of the files that narrows a search down, or that a search walks along."""

    AGE = "age"
    NAME = "name"
    SIZE = "size"
    UPLOADER = "uploader"
    ORIGIN = "origin"


@dataclass(frozen=True, kw_only=True)
class FileQuery:
    """Which files, in which order; every condition must hold. ``until`` is excluded, ``max_size`` included."""

    glob: Glob | None = None
    since: datetime | None = None
    until: datetime | None = None
    uploader: str | None = None
    origin: str | None = None
    store: str | None = None
    kind: Kind | None = None
    min_size: int | None = None
    max_size: int | None = None
    order: Order = Order.NEWEST


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a page ended: with order NAME the name decides, with NEWEST the instant and the id."""

    created_at: datetime
    id: int
    name: str


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What makes two searches the same statement: the order, and which parameters are given."""

    order: Order
    given: frozenset[str]
    #: The glob asks for nothing that a range of names does not say.
    is_range: bool

    @property
    def walked(self) -> frozenset[Index]:
        """The conditions that the index of the order decides by itself."""
        if self.order is Order.NAME:
            return frozenset({Index.NAME})
        if "uploader" in self.given:
            return frozenset({Index.AGE, Index.UPLOADER})
        if "origin" in self.given:
            return frozenset({Index.AGE, Index.ORIGIN})
        return frozenset({Index.AGE})

    @property
    def candidates(self) -> tuple[Index, ...]:
        """The indexes that might narrow it down to so few rows that sorting them is cheapest."""
        given = dict.fromkeys(index for index, _ in _ranges(self, is_bare=False))
        return tuple(index for index in given if index not in self.walked)

    def has_bare(self, indexes: frozenset[Index]) -> bool:
        """Whether something must be decided row by row when *indexes* are used."""
        return bool(_bare(self, indexes))


def shape_of(query: FileQuery, values: dict[str, Value]) -> Shape:
    """The shape of *query*, whose parameters are *values*."""
    glob = query.glob
    return Shape(
        order=query.order,
        given=frozenset(values),
        is_range=glob is not None and (glob.is_exact or glob.is_prefix),
    )


def values_of(query: FileQuery, dialect: str) -> dict[str, Value]:
    """The parameters of *query*; those that are absent ask for nothing."""
    values: dict[str, Value | None] = {
        "since": None if query.since is None else to_micros(query.since),
        "until": None if query.until is None else to_micros(query.until),
        "uploader": query.uploader,
        "origin": query.origin,
        "store": query.store,
        "kind": None if query.kind is None else query.kind.value,
        "min_size": query.min_size,
        "max_size": query.max_size,
    }
    given: dict[str, Value] = {name: value for name, value in values.items() if value is not None}
    return given if query.glob is None else {**given, **globbing.values_of(query.glob, dialect)}


def position_values(prefix: str, position: Position) -> dict[str, Value]:
    """The parameters of a position, named after *prefix* (``after`` or ``fence``)."""
    return {
        f"{prefix}_at": to_micros(position.created_at),
        f"{prefix}_id": position.id,
        f"{prefix}_name": position.name,
    }


def _number(name: str) -> ColumnElement[int]:
    return bindparam(name, type_=BigInteger())


def _text(name: str) -> ColumnElement[str]:
    return bindparam(name, type_=Text())


def _ranges(shape: Shape, *, is_bare: bool) -> Iterator[tuple[Index, Condition]]:
    """Every condition that some index can decide, with that index."""
    at = _AT + _ZERO if is_bare else _AT
    size = FileRow.size + _ZERO if is_bare else FileRow.size
    uploader = FileRow.uploader + _NOTHING if is_bare else FileRow.uploader
    origin = FileRow.origin + _NOTHING if is_bare else FileRow.origin
    conditions: list[tuple[str, Index, Condition]] = [
        ("since", Index.AGE, at >= _number("since")),
        ("until", Index.AGE, at < _number("until")),
        ("min_size", Index.SIZE, size >= _number("min_size")),
        ("max_size", Index.SIZE, size <= _number("max_size")),
        ("uploader", Index.UPLOADER, uploader == _text("uploader")),
        ("origin", Index.ORIGIN, origin == _text("origin")),
    ]
    if not is_bare:
        # Row by row the pattern itself decides.
        conditions += [
            ("name", Index.NAME, FileRow.name == _text("name")),
            ("prefix", Index.NAME, FileRow.name >= _text("prefix")),
            ("prefix_end", Index.NAME, FileRow.name < _text("prefix_end")),
        ]
    for parameter, index, condition in conditions:
        if parameter in shape.given:
            yield index, condition


def _indexed(shape: Shape, indexes: frozenset[Index]) -> list[Condition]:
    """The conditions that *indexes* decide, so written that they can."""
    return [condition for index, condition in _ranges(shape, is_bare=False) if index in indexes]


def _bare(shape: Shape, indexes: frozenset[Index]) -> list[Condition]:
    """All other conditions, decided row by row."""
    found = [condition for index, condition in _ranges(shape, is_bare=True) if index not in indexes]
    if not (Index.NAME in indexes and shape.is_range):
        found += globbing.matches(FileRow.name, shape.given)
    if "kind" in shape.given:
        found.append(FileRow.kind == _text("kind"))
    if "store" in shape.given:
        store = select(StoreRow.id).where(StoreRow.name == _text("store")).scalar_subquery()
        found.append(
            exists().where(
                InstanceRow.file_id == FileRow.id, InstanceRow.store_id == store, InstanceRow.presence.in_(_THERE)
            )
        )
    return found


def _past(order: Order, *, is_bare: bool) -> Condition:
    """Only what comes after the position ``after``."""
    if order is Order.NAME:
        return (FileRow.name + _NOTHING if is_bare else FileRow.name) > _text("after_name")
    here = tuple_(_number("after_at"), _number("after_id"))
    return (tuple_(_AT + _ZERO, FileRow.id + _ZERO) if is_bare else tuple_(_AT, FileRow.id)) < here


def _up_to(order: Order) -> Condition:
    """Only what comes no later than the position ``fence``."""
    if order is Order.NAME:
        return FileRow.name <= _text("fence_name")
    return tuple_(_AT, FileRow.id) >= tuple_(_number("fence_at"), _number("fence_id"))


def _sorted(statement: Select[*Columns], order: Order, *, is_bare: bool) -> Select[*Columns]:
    if order is Order.NAME:
        return statement.order_by(FileRow.name + _NOTHING if is_bare else FileRow.name)
    if is_bare:
        return statement.order_by((_AT + _ZERO).desc(), (FileRow.id + _ZERO).desc())
    return statement.order_by(_AT.desc(), FileRow.id.desc())


@lru_cache(maxsize=_SHAPES)
def page_statement(
    shape: Shape, narrow: Index | None, *, has_after: bool, has_fence: bool
) -> Select[int, str, str, int, str, str, str, datetime]:
    """A page of ``:limit`` files: sorting what *narrow* leaves, or (None) walking the index of the order."""
    indexes = shape.walked if narrow is None else frozenset({narrow})
    statement = select(*FILE_COLUMNS).where(*_indexed(shape, indexes), *_bare(shape, indexes))
    if has_after:
        statement = statement.where(_past(shape.order, is_bare=narrow is not None))
    if has_fence:
        statement = statement.where(_up_to(shape.order))
    return _sorted(statement, shape.order, is_bare=narrow is not None).limit(bindparam("limit", type_=Integer()))


@lru_cache(maxsize=_SHAPES)
def fence_statement(shape: Shape, *, has_after: bool) -> Select[int, str, datetime]:
    """The row of the walk that has ``:skipped`` others before it."""
    statement = select(FileRow.id, FileRow.name, FileRow.created_at)
    statement = statement.where(*_indexed(shape, shape.walked))
    if has_after:
        statement = statement.where(_past(shape.order, is_bare=False))
    return _sorted(statement, shape.order, is_bare=False).limit(1).offset(bindparam("skipped", type_=Integer()))


@lru_cache(maxsize=_SHAPES)
def count_statement(shape: Shape, indexes: tuple[Index, ...]) -> Select[*tuple[Any, ...]]:
    """How many rows each of *indexes* leaves, counting no further than ``:enough``."""
    counts = [
        select(func.count())
        .select_from(
            select(literal(1))
            .select_from(FileRow)
            .where(*_indexed(shape, frozenset({index})))
            .limit(bindparam("enough", type_=Integer()))
            .subquery()
        )
        .scalar_subquery()
        for index in indexes
    ]
    return select(*counts)
