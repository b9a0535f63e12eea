"""What may be asked of the files, and which index answers it.

A condition has two forms. *Indexed*: the planner may use an index for it. *Bare*: written around an expression, so
that no planner can, whatever its statistics say; the row is looked at, and counts against the scan budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, ColumnElement, Text, exists, literal, select, tuple_, type_coerce

from librarian.catalog import globbing
from librarian.catalog.columns import to_micros
from librarian.catalog.schema import FileRow, InstanceRow, StoreRow
from librarian.states import Kind, Presence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy import UnaryExpression

    from librarian.globs import Glob

Condition = ColumnElement[bool]

#: Presences under which a file counts as being on a store.
_THERE: Final = (Presence.PRESENT.value, Presence.SUSPECT.value)
#: Instants as the integers they are stored as.
AT: Final = type_coerce(FileRow.created_at, BigInteger)
_ZERO: Final = literal(0, BigInteger)
_NOTHING: Final = literal("", Text())


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


def walked(query: FileQuery) -> frozenset[Index]:
    """The conditions that the index of the walk decides by itself."""
    if query.order is Order.NAME:
        return frozenset({Index.NAME})
    if query.uploader is not None:
        return frozenset({Index.AGE, Index.UPLOADER})
    if query.origin is not None:
        return frozenset({Index.AGE, Index.ORIGIN})
    return frozenset({Index.AGE})


def candidates(query: FileQuery) -> tuple[Index, ...]:
    """The indexes that might narrow *query* down to so few rows that sorting them is cheapest."""
    given = tuple(dict.fromkeys(index for index, _ in _ranges(query, is_bare=False)))
    return tuple(index for index in given if index not in walked(query))


def indexed_conditions(query: FileQuery, indexes: frozenset[Index]) -> list[Condition]:
    """The conditions that *indexes* decide, so written that they can."""
    return [condition for index, condition in _ranges(query, is_bare=False) if index in indexes]


def bare_conditions(query: FileQuery, indexes: frozenset[Index], dialect: str) -> list[Condition]:
    """All other conditions, decided row by row."""
    found = [condition for index, condition in _ranges(query, is_bare=True) if index not in indexes]
    glob = query.glob
    if glob is not None and not glob.is_everything and not (Index.NAME in indexes and _is_range(glob)):
        found.append(globbing.matches(FileRow.name, glob, dialect))
    if query.kind is not None:
        found.append(FileRow.kind == query.kind.value)
    if query.store is not None:
        found.append(
            exists().where(
                InstanceRow.file_id == FileRow.id,
                InstanceRow.store_id == select(StoreRow.id).where(StoreRow.name == query.store).scalar_subquery(),
                InstanceRow.presence.in_(_THERE),
            )
        )
    return found


def _is_range(glob: Glob) -> bool:
    return glob.is_exact or glob.is_prefix


def _ranges(query: FileQuery, *, is_bare: bool) -> Iterator[tuple[Index, Condition]]:
    """Every condition that some index can decide, with that index."""
    at = AT + _ZERO if is_bare else AT
    size = FileRow.size + _ZERO if is_bare else FileRow.size
    if query.since is not None:
        yield Index.AGE, at >= to_micros(query.since)
    if query.until is not None:
        yield Index.AGE, at < to_micros(query.until)
    if query.min_size is not None:
        yield Index.SIZE, size >= query.min_size
    if query.max_size is not None:
        yield Index.SIZE, size <= query.max_size
    if query.uploader is not None:
        yield Index.UPLOADER, (FileRow.uploader + _NOTHING if is_bare else FileRow.uploader) == query.uploader
    if query.origin is not None:
        yield Index.ORIGIN, (FileRow.origin + _NOTHING if is_bare else FileRow.origin) == query.origin
    if query.glob is not None and query.glob.prefix and not is_bare:
        # Row by row the pattern itself decides.
        exact = query.glob.is_exact
        yield (
            Index.NAME,
            (FileRow.name == query.glob.prefix if exact else globbing.prefix_range(FileRow.name, query.glob.prefix)),
        )


def past(order: Order, after: Position, *, is_bare: bool) -> Condition:
    """Only what comes after *after*."""
    if order is Order.NAME:
        return (FileRow.name + _NOTHING if is_bare else FileRow.name) > after.name
    here = tuple_(literal(to_micros(after.created_at), BigInteger), literal(after.id, BigInteger))
    return (tuple_(AT + _ZERO, FileRow.id + _ZERO) if is_bare else tuple_(AT, FileRow.id)) < here


def up_to(order: Order, last: Position) -> Condition:
    """Only what comes no later than *last*."""
    if order is Order.NAME:
        return FileRow.name <= last.name
    return tuple_(AT, FileRow.id) >= tuple_(
        literal(to_micros(last.created_at), BigInteger), literal(last.id, BigInteger)
    )


def ordering(order: Order, *, is_bare: bool) -> tuple[UnaryExpression[str] | UnaryExpression[int], ...]:
    """What to sort by."""
    if order is Order.NAME:
        return ((FileRow.name + _NOTHING if is_bare else FileRow.name).asc(),)
    if is_bare:
        return ((AT + _ZERO).desc(), (FileRow.id + _ZERO).desc())
    return (AT.desc(), FileRow.id.desc())
