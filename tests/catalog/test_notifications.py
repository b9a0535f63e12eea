"""Notifications: told once per cause, again when it is news again, and not for ever."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from librarian.catalog.database import Catalog
from librarian.notifying import notify
from librarian.timing import utc_now

CAUSE = "store-unavailable:fast"
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.fixture
async def catalog(database_url):
    async with Catalog(database_url) as opened:
        yield opened


@pytest.fixture
def clock():
    with time_machine.travel(datetime(2026, 11, 25, tzinfo=UTC), tick=False) as stopped:
        yield stopped


async def put(catalog, cause=CAUSE, message="it is gone") -> None:
    async with catalog.begin() as tx:
        await notify(tx, cause=cause, text=message)


async def alert(catalog) -> None:
    async with catalog.begin() as tx:
        await tx.alerts.raise_alert(CAUSE, message="it is gone", remedy="Mount it.")


async def acknowledge(catalog) -> None:
    async with catalog.begin() as tx:
        await tx.alerts.acknowledge([CAUSE])


async def waiting(catalog) -> list[tuple[str, str, int]]:
    async with catalog.read() as tx:
        found = await tx.notifications.waiting(utc_now(), limit=100)
    return [(each.cause, each.message, each.count) for each in found]


async def tell(catalog) -> None:
    async with catalog.begin() as tx:
        found = await tx.notifications.waiting(utc_now(), limit=100)
        await tx.notifications.told(found, now=utc_now())


async def forget(catalog) -> int:
    async with catalog.begin() as tx:
        return await tx.notifications.forget(utc_now())


async def test_every_alert_is_to_be_told_with_its_remedy(catalog):
    await alert(catalog)

    assert await waiting(catalog) == [(CAUSE, "it is gone\nMount it.", 1)]


async def test_an_alert_that_is_rolled_back_is_told_to_nobody(catalog):
    with pytest.raises(ZeroDivisionError):
        async with catalog.begin() as tx:
            await tx.alerts.raise_alert(CAUSE, message="it is gone", remedy="")
            raise ZeroDivisionError

    assert await waiting(catalog) == []


async def test_what_waits_is_told_once_as_it_was_put_last(catalog):
    await put(catalog, message="one of them")
    await put(catalog, message="two of them")

    assert await waiting(catalog) == [(CAUSE, "two of them", 2)]


async def test_the_oldest_is_told_first(catalog, clock):
    await put(catalog, "b")
    clock.shift(MINUTE)
    await put(catalog, "a")

    assert [cause for cause, _, _ in await waiting(catalog)] == ["b", "a"]


async def test_what_was_told_waits_no_more(catalog):
    await put(catalog)
    await tell(catalog)

    assert await waiting(catalog) == []


async def test_what_comes_back_soon_waits_a_while(catalog, clock):
    await put(catalog)
    await tell(catalog)
    clock.shift(MINUTE)
    await put(catalog)

    soon = await waiting(catalog)
    clock.shift(10 * MINUTE)

    assert (soon, await waiting(catalog)) == ([], [(CAUSE, "it is gone", 1)])


async def test_what_comes_while_it_is_being_told_is_not_lost(catalog, clock):
    await put(catalog)
    async with catalog.read() as tx:
        found = await tx.notifications.waiting(utc_now(), limit=100)
    await put(catalog, message="and again")
    async with catalog.begin() as tx:
        await tx.notifications.told(found, now=utc_now())

    clock.shift(DAY)

    assert await waiting(catalog) == [(CAUSE, "and again", 1)]


async def test_an_alert_that_stands_open_is_told_again_after_a_day(catalog, clock):
    await alert(catalog)
    await tell(catalog)
    await alert(catalog)
    clock.shift(DAY - MINUTE)
    await alert(catalog)

    before = await waiting(catalog)
    clock.shift(MINUTE)

    assert (before, await waiting(catalog)) == ([], [(CAUSE, "it is gone\nMount it.", 2)])


async def test_nobody_is_reminded_of_what_somebody_has_acknowledged(catalog, clock):
    await alert(catalog)
    await tell(catalog)
    await alert(catalog)
    await acknowledge(catalog)

    clock.shift(DAY)

    assert await waiting(catalog) == []


async def test_an_alert_that_was_acknowledged_is_news_when_it_is_raised_again(catalog, clock):
    await alert(catalog)
    await tell(catalog)
    await alert(catalog)
    await acknowledge(catalog)
    clock.shift(10 * MINUTE)

    await alert(catalog)

    assert await waiting(catalog) == [(CAUSE, "it is gone\nMount it.", 2)]


async def test_an_alert_that_was_acknowledged_at_once_is_still_told(catalog):
    await alert(catalog)

    await acknowledge(catalog)

    assert await waiting(catalog) == [(CAUSE, "it is gone\nMount it.", 1)]


async def test_what_is_days_old_is_not_told_any_more(catalog, clock):
    await put(catalog)
    clock.shift(3 * DAY)
    before = await forget(catalog)
    clock.shift(MINUTE)

    assert (before, await forget(catalog), await waiting(catalog)) == (0, 1, [])


async def test_what_was_told_is_forgotten_after_a_day(catalog, clock):
    await put(catalog)
    await tell(catalog)
    clock.shift(DAY + MINUTE)

    await forget(catalog)
    await put(catalog)

    assert await waiting(catalog) == [(CAUSE, "it is gone", 1)]
