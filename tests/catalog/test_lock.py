"""One owner per catalog."""

import os
from pathlib import Path

import pytest

from librarian.catalog.lock import NETWORK_FILE_SYSTEMS, file_system_of, owner_lock
from librarian.errors import DatabaseUnavailable, OwnedElsewhere


@pytest.fixture
async def lock(database_url):
    lock = owner_lock(database_url)
    yield lock
    await lock.release()


async def test_a_second_owner_is_refused_and_told_who_the_first_is(lock, database_url):
    await lock.take()
    second = owner_lock(database_url)

    with pytest.raises(OwnedElsewhere, match=f"pid {os.getpid()}"):
        await second.take()

    await second.release()


async def test_a_released_lock_can_be_taken_again(lock, database_url):
    await lock.take()
    await lock.release()
    second = owner_lock(database_url)

    await second.take()
    await second.confirm()

    await second.release()


async def test_an_owner_confirms_as_long_as_it_holds(lock):
    await lock.take()

    await lock.confirm()


async def test_a_replaced_lock_file_is_noticed(sqlite_url):
    lock = owner_lock(sqlite_url)
    await lock.take()
    path = Path(sqlite_url.partition(":///")[2] + ".owner")
    path.unlink()
    path.touch()

    with pytest.raises(OwnedElsewhere):
        await lock.confirm()

    await lock.release()


async def test_a_lost_connection_is_noticed(databases):
    if databases.cluster is None:
        pytest.skip("needs: PostgreSQL")
    name = databases.new_postgresql()
    lock = owner_lock(databases.cluster.url(name))
    await lock.take()
    databases.cluster.drop(name)

    with pytest.raises(DatabaseUnavailable):
        await lock.confirm()

    await lock.release()


def test_the_file_system_of_a_local_folder_is_not_a_network_one(tmp_path):
    assert file_system_of(tmp_path) not in {"", *NETWORK_FILE_SYSTEMS}
