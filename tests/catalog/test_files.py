"""Files and instances: rows never change, and names form a tree together with what is arriving."""

import pytest
from sqlalchemy import event, update

from librarian.catalog.database import Catalog
from librarian.catalog.files import Listing, NewFile
from librarian.catalog.incoming_rows import Commit
from librarian.catalog.instances import NewInstance
from librarian.catalog.schema import InstanceRow
from librarian.names import FileName, StoreName
from librarian.states import Intent, Kind, Presence, VerifiedFrom
from librarian.timing import utc_now
from tests.catalog.test_incoming import OTHER, SUM, catalog, opened, opening

__all__ = ["catalog"]
FAST = StoreName("fast")


def new_file(name: str, *, checksum=SUM) -> NewFile:
    return NewFile(
        name=FileName(name),
        kind=Kind.FILE,
        size=10,
        checksum=checksum,
        uploader="ana",
        origin="here",
        created_at=utc_now(),
    )


async def held(catalog, *names: str, presence=Presence.PRESENT, intent=Intent.KEEP) -> None:
    async with catalog.begin() as tx:
        ids = await tx.files.add([new_file(name) for name in names])
        await tx.instances.add(
            [
                NewInstance(file_id=id_, store=FAST, verified_at=utc_now(), verified_from=VerifiedFrom.CACHE)
                for id_ in ids.values()
            ]
        )
        await tx._connection.execute(update(InstanceRow).values(presence=presence, intent=intent))


async def obstacle(catalog, name: str):
    async with catalog.read() as tx:
        return (await tx.files.conflicts([FileName(name)])).get(FileName(name))


async def test_a_free_name_has_no_obstacle(catalog):
    await held(catalog, "a/b")

    assert await obstacle(catalog, "a/c") is None


async def test_a_held_name_is_found_with_its_file(catalog):
    await held(catalog, "a/b")

    found = await obstacle(catalog, "a/b")

    assert (found.file.name, found.is_healthy, found.is_somewhere, found.arriving) == ("a/b", True, True, None)


@pytest.mark.parametrize(
    ("presence", "intent", "healthy", "somewhere"),
    [
        (Presence.PRESENT, Intent.KEEP, True, True),
        (Presence.PRESENT, Intent.WITHDRAW, False, True),
        (Presence.SUSPECT, Intent.KEEP, False, True),
        (Presence.MISSING, Intent.KEEP, False, False),
        (Presence.CORRUPT, Intent.KEEP, False, False),
        (Presence.REMOVED, Intent.WITHDRAW, False, False),
    ],
)
async def test_a_row_alone_is_not_a_copy(catalog, presence, intent, healthy, somewhere):
    await held(catalog, "a", presence=presence, intent=intent)

    found = await obstacle(catalog, "a")

    assert (found.is_healthy, found.is_somewhere) == (healthy, somewhere)


async def test_an_arriving_name_is_found_with_its_transfer(catalog):
    (transfer,) = await opened(catalog, opening("a/b"))

    assert (await obstacle(catalog, "a/b")).arriving == transfer


async def test_an_arrival_that_ended_is_no_obstacle(catalog):
    (transfer,) = await opened(catalog, opening("a/b"))
    async with catalog.begin() as tx:
        await tx.incoming.cancel([transfer.id])

    assert await obstacle(catalog, "a/b") is None
    assert await obstacle(catalog, "a") is None


@pytest.mark.parametrize("state", ["held", "arriving"])
async def test_ancestors_and_descendants_are_found_both_ways(catalog, state):
    await (held(catalog, "a/b/c") if state == "held" else opened(catalog, opening("a/b/c")))

    above, below = await obstacle(catalog, "a"), await obstacle(catalog, "a/b/c/d/e")

    assert (above.encloses, above.nested_in) == ("a/b/c", None)
    assert (below.nested_in, below.encloses) == ("a/b/c", None)


@pytest.mark.parametrize("name", ["a/b/c0", "a/b/c-d", "a/b/c.d", "A/b/c", "a/b/", "ä"])
async def test_neighbours_in_the_order_of_names_are_no_relatives(catalog, name):
    await held(catalog, "a/b/c")

    async with catalog.read() as tx:
        assert await tx.files.conflicts([FileName.trusted(name)]) == {}


async def test_many_names_are_asked_about_in_one_statement(catalog):
    await held(catalog, *(f"d/{number}" for number in range(0, 1000, 2)))
    before = catalog.statements
    async with catalog.read() as tx:
        found = await tx.files.conflicts([FileName(f"d/{number}") for number in range(1000)])

    assert len(found) == 500
    assert catalog.statements - before <= 3


async def test_the_question_is_answered_along_indexes(sqlite_url):
    asked = []
    async with Catalog(sqlite_url) as catalog:
        event.listen(
            catalog._engine.sync_engine, "before_cursor_execute", lambda *call: asked.append((call[2], call[3]))
        )
        async with catalog.read() as tx:
            await tx.files.conflicts([FileName("a/b")])
            statement, parameters = asked[-1]
            plan = await tx._connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)

            scanned = {row[3] for row in plan if row[3].startswith("SCAN") and "json" not in row[3]}

            # "asked" is the question itself.
            assert scanned <= {"SCAN asked"}


async def test_a_file_that_exists_is_left_as_it_is(catalog):
    await held(catalog, "a")
    async with catalog.begin() as tx:
        added = await tx.files.add([new_file("a", checksum=OTHER), new_file("b")])
        kept = (await tx.files.named([FileName("a")]))[FileName("a")]

    assert (set(added), kept.checksum) == ({"b"}, SUM)


async def test_a_copy_that_comes_back_is_present_and_kept_again(catalog):
    await held(catalog, "a", presence=Presence.MISSING, intent=Intent.WITHDRAW)
    async with catalog.begin() as tx:
        file = (await tx.files.named([FileName("a")]))[FileName("a")]
        await tx.instances.add(
            [NewInstance(file_id=file.id, store=FAST, verified_at=utc_now(), verified_from=VerifiedFrom.MEDIUM)]
        )
        (copy,) = await tx.instances.of_files([file.id])

    assert (copy.presence, copy.intent, copy.verified_from) == (Presence.PRESENT, Intent.KEEP, VerifiedFrom.MEDIUM)


async def test_a_listing_is_kept_once(catalog):
    await held(catalog, "a")
    async with catalog.begin() as tx:
        file = (await tx.files.named([FileName("a")]))[FileName("a")]
        await tx.files.add_listings([Listing(file_id=file.id, count=2, packed=b"first")])
        await tx.files.add_listings([Listing(file_id=file.id, count=3, packed=b"second")])

        assert await tx.files.listing_of(file.id) == Listing(file_id=file.id, count=2, packed=b"first")


async def test_a_committed_arrival_still_occupies_its_name(catalog):
    (transfer,) = await opened(catalog, opening("a"))
    async with catalog.begin() as tx:
        await tx.incoming.commit([Commit(uuid=transfer.uuid, checksum=SUM)], account="ana")

    assert (await obstacle(catalog, "a")).arriving.uuid == transfer.uuid
