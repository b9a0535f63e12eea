"""The SQLite driver: few trips, and nothing lost by them."""

import asyncio

import pytest
from sqlalchemy.exc import IntegrityError

from librarian.catalog.database import Catalog
from librarian.catalog.records import Tally


@pytest.fixture
async def catalog(sqlite_url):
    async with Catalog(sqlite_url) as catalog:
        yield catalog


@pytest.fixture
def trips(monkeypatch):
    """Counts hops to the threads of connections."""
    import aiosqlite

    counted = []
    original = aiosqlite.Connection._execute

    async def count(self, run, *given, **named):
        counted.append(run)
        return await original(self, run, *given, **named)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", count)
    return counted


async def test_begin_travels_with_the_first_statement_and_what_nobody_asks_with_commit(catalog, trips):
    async with catalog.begin() as tx:
        await tx.tallies.of("held")
        trips.clear()
    trips.clear()

    async with catalog.begin() as tx:
        await tx.tallies.of("held")
        await tx.tallies.add("held", files=1, bytes=2)
        await tx.tallies.add("held", files=1, bytes=2)

    assert len(trips) == 2


async def test_nobody_waits_for_the_end_of_what_only_read(catalog, trips):
    async with catalog.read() as tx:
        await tx.tallies.of("held")
    trips.clear()

    async with catalog.read() as tx:
        await tx.tallies.of("held")

    assert len(trips) == 1


async def test_a_statement_sees_what_was_put_off_before_it(catalog):
    async with catalog.begin() as tx:
        await tx.tallies.add("held", files=1, bytes=2)

        assert await tx.tallies.of("held") == Tally(files=1, bytes=2)


async def test_what_was_put_off_is_durable_after_the_commit(catalog, sqlite_url):
    async with catalog.begin() as tx:
        await tx.tallies.add("held", files=1, bytes=2)

    async with Catalog(sqlite_url) as other, other.read() as tx:
        assert await tx.tallies.of("held") == Tally(files=1, bytes=2)


async def test_what_was_put_off_is_undone_with_its_transaction(catalog):
    with pytest.raises(RuntimeError):
        async with catalog.begin() as tx:
            await tx.tallies.add("held", files=1, bytes=2)
            raise RuntimeError

    async with catalog.read() as tx:
        assert await tx.tallies.of("held") == Tally(files=0, bytes=0)


async def test_an_error_of_what_was_put_off_comes_with_the_commit_and_undoes_all(catalog):
    async def write() -> None:
        async with catalog.begin() as tx:
            await tx.tallies.add("held", files=1, bytes=2)
            await tx.tallies.add(None, files=1, bytes=2)

    with pytest.raises(IntegrityError):
        await write()
    async with catalog.read() as tx:
        assert await tx.tallies.of("held") == Tally(files=0, bytes=0)


async def test_a_connection_serves_again_after_a_cancelled_transaction(catalog):
    async def hang() -> None:
        async with catalog.begin() as tx:
            await tx.tallies.add("held", files=1, bytes=2)
            await tx.tallies.of("held")
            await asyncio.Event().wait()

    for _ in range(10):
        hanging = asyncio.create_task(hang())
        await asyncio.sleep(0.01)
        hanging.cancel()
        await asyncio.wait([hanging])

    async with catalog.begin() as tx:
        await tx.tallies.add("held", files=5, bytes=5)
    async with catalog.read() as tx:
        assert await tx.tallies.of("held") == Tally(files=5, bytes=5)
