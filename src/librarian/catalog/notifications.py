"""Notifications: what people are told where they are, once per cause."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import (
    BigInteger,
    Integer,
    and_,
    bindparam,
    case,
    delete,
    exists,
    not_,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from librarian.catalog.columns import Instant
from librarian.catalog.records import Notification
from librarian.catalog.repository import Repository
from librarian.catalog.schema import AlertRow, NotificationRow
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Executable
    from sqlalchemy.orm import InstrumentedAttribute

#: What comes and goes is told so often at most.
AGAIN: Final = timedelta(minutes=10)
#: Of what stands open and is reported again and again, people are reminded so often at most.
REMIND: Final = timedelta(days=1)
#: What could not be told for so long is not told any more; an alert stays in the list of alerts.
STALE: Final = timedelta(days=3)
#: Longest text that is kept.
_LONGEST: Final = 2000


class Notifications(Repository):
    """What people are told where they are."""

    async def put(self, cause: str, text: str) -> None:
        """Have people told *text*. What waits already is told once, as it was put last, and how often.

        What was told a short while ago waits; how long depends on whether an alert of that cause stands open.
        """
        given = {"of_cause": cause, "of_message": text[:_LONGEST], "now": utc_now()}
        await self._later(self._once(lambda: _put(self._is_sqlite)), given)

    async def waiting(self, now: datetime, *, limit: int) -> tuple[Notification, ...]:
        """What is to be told *now*, the oldest first. Nobody is reminded of what somebody has acknowledged."""
        found = await self._connection.execute(
            select(NotificationRow.cause, NotificationRow.message, NotificationRow.count, NotificationRow.first_at)
            .where(NotificationRow.count > 0, NotificationRow.tell_at <= now)
            .where(or_(NotificationRow.told_at.is_(None), not_(_alert(is_open=False))))
            .order_by(NotificationRow.first_at, NotificationRow.id)
            .limit(limit)
        )
        return tuple(Notification(**row._mapping) for row in found)

    async def told(self, told: Sequence[Notification], *, now: datetime) -> None:
        """People know *told*; what was reported meanwhile waits for its time."""
        if not told:
            return
        await self._connection.execute(
            update(NotificationRow)
            .where(NotificationRow.cause == bindparam("of_cause"))
            .values(
                count=NotificationRow.count - bindparam("of_count", type_=Integer()),
                first_at=now,
                told_at=now,
                tell_at=now + REMIND,
            )
            .execution_options(synchronize_session=None),
            [{"of_cause": each.cause, "of_count": each.count} for each in told],
        )

    async def forget(self, now: datetime) -> int:
        """Drop what is too old to be told, or to be remembered as told; how many of them nobody was told."""
        await self._connection.execute(
            delete(NotificationRow).where(
                NotificationRow.told_at < now - REMIND, or_(NotificationRow.count == 0, _alert(is_open=False))
            )
        )
        stale = await self._connection.execute(
            delete(NotificationRow)
            .where(NotificationRow.count > 0, NotificationRow.first_at < now - STALE)
            .returning(NotificationRow.id)
        )
        return len(stale.all())


def _alert(*, is_open: bool) -> ColumnElement[bool]:
    """Whether there is an alert of the same cause that nobody has acknowledged, or that somebody has."""
    seen_at = AlertRow.acknowledged_at
    return exists().where(
        AlertRow.cause == NotificationRow.cause, seen_at.is_(None) if is_open else seen_at.is_not(None)
    )


def _put(is_sqlite: bool) -> Executable:
    insert = sqlite.insert if is_sqlite else postgresql.insert
    now = bindparam("now", type_=Instant)
    statement = insert(NotificationRow).values(
        cause=bindparam("of_cause"), message=bindparam("of_message"), count=1, first_at=now, tell_at=now
    )
    waits = NotificationRow.count > 0
    stands_open = _alert(is_open=True)
    return statement.on_conflict_do_update(
        index_elements=["cause"],
        set_={
            "message": statement.excluded.message,
            "count": NotificationRow.count + 1,
            "first_at": case((waits, NotificationRow.first_at), else_=now),
            "tell_at": case(
                (NotificationRow.told_at.is_(None), NotificationRow.tell_at),
                (and_(stands_open, waits), NotificationRow.tell_at),
                (stands_open, _after(NotificationRow.told_at, REMIND)),
                else_=_after(NotificationRow.told_at, AGAIN),
            ),
        },
    )


def _after(instant: InstrumentedAttribute[datetime | None], span: timedelta) -> ColumnElement[int]:
    return type_coerce(instant, BigInteger()) + span // timedelta(microseconds=1)
