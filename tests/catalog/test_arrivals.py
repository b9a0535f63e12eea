"""Arrivals: what came for a rule within a week, by day."""

from datetime import UTC, datetime, timedelta

import pytest

from librarian.catalog.arrivals import span_of_week
from librarian.catalog.database import Catalog
from librarian.catalog.records import Tally
from librarian.names import RuleId

NOW = datetime(2026, 11, 25, 6, tzinfo=UTC)
DAY = timedelta(days=1)
RULE, OTHER = RuleId(1), RuleId(12)


@pytest.fixture
async def catalog(database_url):
    async with Catalog(database_url) as opened:
        yield opened


async def came(catalog, rule, count, *, at=NOW) -> None:
    async with catalog.begin() as tx:
        await tx.arrivals.add({rule: Tally(files=count, bytes=count * 10)}, at=at)


async def week(catalog, *, at=NOW) -> list[Tally]:
    async with catalog.read() as tx:
        found = await tx.arrivals.of_week([RULE, OTHER], at=at)
    return [found[RULE], found[OTHER]]


async def test_what_came_within_seven_days_is_summed_up_by_rule(catalog):
    await came(catalog, RULE, 1)
    await came(catalog, RULE, 2, at=NOW - 6 * DAY)
    await came(catalog, OTHER, 4)

    assert await week(catalog) == [Tally(files=3, bytes=30), Tally(files=4, bytes=40)]


async def test_what_came_before_does_not_count(catalog):
    await came(catalog, RULE, 1, at=NOW - 7 * DAY)

    assert await week(catalog) == [Tally(files=0, bytes=0)] * 2


async def test_days_end_at_midnight_in_utc(catalog):
    await came(catalog, RULE, 1, at=NOW - 6 * DAY - timedelta(hours=5))
    await came(catalog, RULE, 2, at=NOW - 6 * DAY - timedelta(hours=7))

    assert (await week(catalog))[0].files == 1
    assert span_of_week(NOW) == 6 * DAY + timedelta(hours=6)


async def test_old_days_are_forgotten_and_others_kept(catalog):
    await came(catalog, RULE, 1, at=NOW - 6 * DAY)
    await came(catalog, RULE, 2, at=NOW - 8 * DAY)
    async with catalog.begin() as tx:
        await tx.tallies.add("held", files=5, bytes=5)
        await tx.arrivals.forget(at=NOW)
    async with catalog.read() as tx:
        held = await tx.tallies.of("held")

    assert held.files == 5
    assert (await week(catalog))[0].files == 1
    assert (await week(catalog, at=NOW - 2 * DAY))[0].files == 1
