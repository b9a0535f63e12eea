"""Drives as rows: where each stands, and who brought it there."""

import uuid

import pytest

from librarian.catalog.database import Catalog
from librarian.catalog.drives import NewDrive
from librarian.errors import NotFound
from librarian.names import StoreName
from librarian.states import DRIVE_MOVES, DriveState

A07 = StoreName("A07")


S = DriveState
#: How each state is come to.
ROADS = {
    S.LOADING: (),
    S.FULL: (S.FULL,),
    S.SEALING: (S.SEALING,),
    S.SEALED: (S.SEALING, S.SEALED),
    S.IN_TRANSIT: (S.SEALING, S.SEALED, S.IN_TRANSIT),
    S.RECEIVED: (S.SEALING, S.SEALED, S.RECEIVED),
    S.CONFIRMED: (S.SEALING, S.SEALED, S.CONFIRMED),
    S.RELEASED: (S.RELEASED,),
    S.WIPING: (S.RELEASED, S.WIPING),
    S.LOST: (S.LOST,),
}


@pytest.fixture
async def catalog(database_url):
    async with Catalog(database_url) as opened:
        yield opened


async def made(catalog, name=A07):
    new = NewDrive(
        name=name,
        uuid=str(uuid.uuid4()),
        serial="WD-1",
        filesystem="ext4",
        size=1000,
        full_at=980,
        path="/media/a07",
        who="ana",
    )
    async with catalog.begin() as tx:
        return await tx.drives.add(new)


@pytest.fixture
async def drive(catalog):
    """A drive that was just made."""
    return await made(catalog)


async def found(catalog):
    async with catalog.read() as tx:
        return await tx.drives.get(A07)


async def test_a_new_drive_is_a_store_that_loads(catalog, drive):
    assert await found(catalog) == drive
    assert (drive.state, drive.round, drive.is_plugged, drive.files) == (DriveState.LOADING, 1, False, 0)
    async with catalog.read() as tx:
        assert [(store.name, store.kind) for store in await tx.stores.all()] == [("A07", "drive")]
        assert await tx.incoming.shelves() == ()
        assert [shelf.store for shelf in await tx.incoming.shelves("drive")] == ["A07"]


@pytest.mark.parametrize(("state", "road"), ROADS.items(), ids=str)
async def test_a_drive_moves_as_its_table_says_and_in_no_other_way(catalog, state, road):
    moved = set()
    for number, target in enumerate(DriveState):
        drive = await made(catalog, StoreName(f"d{number}"))
        async with catalog.begin() as tx:
            assert all([await tx.drives.advance(drive.id, to=step, who="ana") for step in road])
            moved |= {target} if await tx.drives.advance(drive.id, to=target, who="ben") else set()

    assert moved == DRIVE_MOVES[state]


async def test_what_a_drive_holds_is_counted(catalog, drive):
    async with catalog.begin() as tx:
        await tx.tallies.add("store:A07", files=2, bytes=30)

    assert ((await found(catalog)).files, (await found(catalog)).bytes) == (2, 30)


async def test_a_drive_that_nobody_made_is_not_found(catalog):
    async with catalog.read() as tx:
        with pytest.raises(NotFound):
            await tx.drives.get(A07)
