"""Column types that mean the same on both databases, and the metadata that tables belong to.

Instants are stored as microseconds since 1970 UTC, so that both databases order them alike and keep them exactly.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, Integer, Text
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970 UTC, exactly."""
    return (instant - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The instant that lies *micros* after 1970 UTC."""
    return _EPOCH + timedelta(microseconds=micros)


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant, kept as a BIGINT of microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Write."""
        return None if value is None else to_micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Read."""
        return None if value is None else from_micros(value)


#: Row numbers: 64 bits on PostgreSQL; SQLite only autoincrements a column of type INTEGER (also 64 bits there).
RowId = BigInteger().with_variant(Integer(), "sqlite")
#: Text that sorts by bytes on both databases, so that prefix searches can use the index.
Name = Text().with_variant(Text(collation="C"), "postgresql")


class Base(DeclarativeBase):
    """The catalog's metadata."""
