"""Transactions: isolated, guarded, and honest about a database that is away."""

import asyncio

import pytest

from librarian.catalog.database import Catalog
from librarian.catalog.records import Happening
from librarian.errors import Bug, DatabaseUnavailable
from librarian.guard import forbid_io_in_transaction


@pytest.fixture
async def catalog(database_url):
    async with Catalog(database_url) as opened:
        yield opened


async def test_fifty_concurrent_additions_lose_none(catalog):
    async def add_one() -> None:
        async with catalog.begin() as tx:
            before = await tx.tallies.of("held")
            await asyncio.sleep(0)
            await tx.tallies.add("held", files=1, bytes=before.bytes * 0 + 10)

    await asyncio.gather(*(add_one() for _ in range(50)))

    async with catalog.read() as tx:
        total = await tx.tallies.of("held")
    assert (total.files, total.bytes) == (50, 500)


async def test_an_exception_rolls_everything_back(catalog):
    with pytest.raises(ZeroDivisionError):
        async with catalog.begin() as tx:
            await tx.tallies.add("held", files=1, bytes=1)
            raise ZeroDivisionError

    async with catalog.read() as tx:
        assert (await tx.tallies.of("held")).files == 0


async def test_readers_do_not_wait_for_the_writer(catalog):
    async with catalog.begin() as writing:
        await writing.tallies.add("held", files=1, bytes=1)

        async with catalog.read() as reading:
            seen = await reading.tallies.of("held")

    assert seen.files == 0


async def test_a_reader_cannot_write(catalog):
    with pytest.raises(Exception, match=r"read-only|readonly"):
        async with catalog.read() as tx:
            await tx.tallies.add("held", files=1, bytes=1)


async def test_nothing_may_touch_a_disk_inside_a_transaction(catalog):
    async with catalog.begin():
        with pytest.raises(Bug, match="publish"):
            forbid_io_in_transaction("publish")

    forbid_io_in_transaction("publish")


async def test_a_cancelled_transaction_gives_its_connection_back(catalog):
    async def hang() -> None:
        async with catalog.begin() as tx:
            await tx.tallies.add("held", files=1, bytes=1)
            await asyncio.Event().wait()

    for _ in range(12):
        task = asyncio.create_task(hang())
        while not task.done() and catalog.statements == 0:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async with catalog.begin() as tx:
        assert (await tx.tallies.of("held")).files == 0


async def test_a_database_that_is_away_is_called_unavailable():
    async with Catalog("postgresql+asyncpg://nobody@127.0.0.1:1/none") as catalog:
        with pytest.raises(DatabaseUnavailable) as refusal:
            async with catalog.begin():
                pass

    assert refusal.value.remedy


async def test_a_thousand_milestones_are_one_statement(catalog):
    async with catalog.begin() as tx:
        before = catalog.statements
        await tx.events.tell([Happening(subject=f"n{i}", what="ingested", who="ingest") for i in range(1000)])
        used = catalog.statements - before

    assert used == 1


async def test_a_story_keeps_its_order_and_every_character(catalog):
    told = [Happening(subject="a'b\"c/ü", what=f"step {i}", who="ana", why="because \\ 'why' \n") for i in range(3)]

    async with catalog.begin() as tx:
        await tx.events.tell(told)
    async with catalog.read() as tx:
        story = await tx.events.story_of("a'b\"c/ü")

    assert [(h.what, h.why) for h in story] == [(h.what, h.why) for h in told]


async def test_an_alert_counts_and_an_acknowledgement_ends_with_the_next_report(catalog):
    async with catalog.begin() as tx:
        await tx.alerts.raise_alert("peer:nersc", message="away", remedy="call them")
        await tx.alerts.acknowledge(["peer:nersc"])
        assert await tx.alerts.open_ones() == ()
        await tx.alerts.raise_alert("peer:nersc", message="still away", remedy="call them")

    async with catalog.read() as tx:
        (alert,) = await tx.alerts.open_ones()
    assert (alert.count, alert.message) == (2, "still away")
