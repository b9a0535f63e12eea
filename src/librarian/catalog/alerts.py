"""Alerts: what a person must look at, one row per cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import null, select, update
from sqlalchemy.dialects import postgresql, sqlite

from librarian.catalog.notifications import Notifications
from librarian.catalog.records import Alert
from librarian.catalog.repository import Repository
from librarian.catalog.schema import AlertRow
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement


class Alerts(Repository):
    """What a person must look at."""

    async def raise_alert(self, cause: str, *, message: str, remedy: str) -> None:
        """Report *cause*, and have people told. A repeat counts up, renews the message, takes back an acknowledgement.

        While nobody has acknowledged it, people are reminded once in a while; then it is news again.
        """
        now = utc_now()
        # Before the alert is written: whether it is news is seen by what it was.
        await Notifications(self._connection, self._dialect).put(cause, f"{message}\n{remedy}")
        insert = sqlite.insert if self._is_sqlite else postgresql.insert
        statement = insert(AlertRow).values(
            cause=cause, message=message, remedy=remedy, count=1, first_at=now, last_at=now
        )
        await self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=["cause"],
                set_={
                    "message": message,
                    "remedy": remedy,
                    "count": AlertRow.count + 1,
                    "last_at": now,
                    "acknowledged_at": null(),
                },
            )
        )

    async def acknowledge(self, causes: Sequence[str]) -> None:
        """A person has seen them; unknown and already acknowledged ones are left alone."""
        await self._connection.execute(
            update(AlertRow)
            .where(AlertRow.cause.in_(causes), AlertRow.acknowledged_at.is_(None))
            .values(acknowledged_at=utc_now())
        )

    async def acknowledge_all(self) -> int:
        """A person has seen all there are; returns how many were new."""
        seen = await self._connection.execute(
            update(AlertRow)
            .where(AlertRow.acknowledged_at.is_(None))
            .values(acknowledged_at=utc_now())
            .returning(AlertRow.id)
        )
        return len(seen.all())

    async def open_ones(self, *, limit: int = 1000) -> tuple[Alert, ...]:
        """Alerts nobody has acknowledged, newest first."""
        return await self._newest(AlertRow.acknowledged_at.is_(None), limit=limit)

    async def all(self, *, limit: int = 1000) -> tuple[Alert, ...]:
        """Alerts that were ever raised, newest first."""
        return await self._newest(limit=limit)

    async def named(self, causes: Sequence[str]) -> tuple[Alert, ...]:
        """The alerts of *causes*; unknown ones are left out."""
        return await self._newest(AlertRow.cause.in_(causes), limit=len(causes))

    async def _newest(self, *conditions: ColumnElement[bool], limit: int) -> tuple[Alert, ...]:
        found = await self._connection.execute(
            select(
                AlertRow.cause,
                AlertRow.message,
                AlertRow.remedy,
                AlertRow.count,
                AlertRow.first_at,
                AlertRow.last_at,
                AlertRow.acknowledged_at,
            )
            .where(*conditions)
            .order_by(AlertRow.last_at.desc())
            .limit(limit)
        )
        return tuple(Alert(**row._mapping) for row in found)
