"""The site's own row, and stores as rows."""

import pytest

from librarian.catalog.database import Catalog
from librarian.errors import NotFound, OwnedElsewhere
from librarian.names import SiteName, StoreName


@pytest.fixture
async def catalog(database_url):
    async with Catalog(database_url) as opened:
        yield opened


async def test_generations_grow_by_one(catalog):
    async with catalog.begin() as tx:
        await tx.site.found(SiteName("chajnantor"))

        generations = [await tx.site.next_generation() for _ in range(3)]

    assert generations == [1, 2, 3]


async def test_a_restored_catalog_gets_a_later_epoch_and_catches_up_with_its_stores(catalog):
    async with catalog.begin() as tx:
        before = await tx.site.found(SiteName("chajnantor"))

        after = await tx.site.mark_restored("the store 'fast' is at generation 9", at_least=9)

    assert after.epoch > 1_700_000_000_000 > before.epoch
    assert after.generation == 9
    assert after.restored_at is not None


async def test_epochs_grow_even_when_the_clock_stands_still(catalog):
    async with catalog.begin() as tx:
        await tx.site.found(SiteName("chajnantor"))
        first = await tx.site.mark_restored("one")

        second = await tx.site.mark_restored("two")

    assert second.epoch > first.epoch
    assert (second.restored_at, second.restored_why) == (first.restored_at, "one")


async def test_an_acknowledgement_ends_the_restored_state_once(catalog):
    async with catalog.begin() as tx:
        await tx.site.found(SiteName("chajnantor"))
        await tx.site.mark_restored("why")

        answers = [await tx.site.acknowledge_restored(), await tx.site.acknowledge_restored()]
        site = await tx.site.get()

    assert answers == [True, False]
    assert site.restored_at is None


async def test_a_process_that_was_overtaken_cannot_write(catalog):
    async with catalog.begin() as tx:
        await tx.site.found(SiteName("chajnantor"))
        catalog.generations = (await tx.site.next_generation(),)
        await tx.site.next_generation()

    with pytest.raises(OwnedElsewhere):
        async with catalog.begin():
            pass


async def test_a_store_is_registered_open_and_can_be_closed(catalog):
    async with catalog.begin() as tx:
        await tx.stores.register(StoreName("fast"), uuid="u" * 36, kind="local")

        closed = await tx.stores.set_open(StoreName("fast"), is_open=False)
        known = await tx.stores.by_name()

    assert not closed.is_open
    assert known == {"fast": closed}


async def test_an_unknown_store_cannot_be_closed(catalog):
    async with catalog.begin() as tx:
        with pytest.raises(NotFound):
            await tx.stores.set_open(StoreName("none"), is_open=False)
