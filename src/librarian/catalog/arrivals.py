"""Arrivals: what came for rules that load drives, by day, so that a rate costs a few rows and no look at files."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete

from librarian.catalog.records import Tally
from librarian.catalog.repository import Repository
from librarian.catalog.schema import TallyRow
from librarian.catalog.tallies import Tallies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from librarian.names import RuleId

#: Days that a rate is made of, the present one included.
DAYS: Final = 7


class Arrivals(Repository):
    """What came for rules, by day (UTC)."""

    async def add(self, counts: Mapping[RuleId, Tally], *, at: datetime) -> None:
        """New files came at *at*, for each of the rules so many."""
        day = at.astimezone(UTC).date()
        tallies = Tallies(self._connection, self._dialect)
        await tallies.add_many({_subject(rule, day): count for rule, count in counts.items()})

    async def of_week(self, rules: Sequence[RuleId], *, at: datetime) -> dict[RuleId, Tally]:
        """What came for each of *rules* on the last ``DAYS`` days up to *at*."""
        today = at.astimezone(UTC).date()
        days = [today - timedelta(days=back) for back in range(DAYS)]
        found = await Tallies(self._connection, self._dialect).of_many(
            [_subject(rule, day) for rule in rules for day in days]
        )
        return {rule: _sum([found[_subject(rule, day)] for day in days]) for rule in rules}

    async def forget(self, *, at: datetime) -> None:
        """Drop the days that no rate is made of any more."""
        first = at.astimezone(UTC).date() - timedelta(days=DAYS)
        await self._connection.execute(
            delete(TallyRow).where(TallyRow.subject >= _PREFIX, TallyRow.subject < f"{_PREFIX}{first}")
        )


def span_of_week(at: datetime) -> timedelta:
    """How long ago the first of the days up to *at* began."""
    first = at.astimezone(UTC).date() - timedelta(days=DAYS - 1)
    return at - datetime(first.year, first.month, first.day, tzinfo=UTC)


#: The day comes first, so that old ones stand together.
_PREFIX: Final = "arrived:"


def _subject(rule: RuleId, day: date) -> str:
    return f"{_PREFIX}{day}:{rule}"


def _sum(tallies: Sequence[Tally]) -> Tally:
    return Tally(files=sum(each.files for each in tallies), bytes=sum(each.bytes for each in tallies))
