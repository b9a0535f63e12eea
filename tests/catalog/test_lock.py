"""One owner per catalog."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from librarian.catalog.lock import NETWORK_FILE_SYSTEMS, file_system_of, owner_lock
from librarian.errors import ConfigurationError, DatabaseUnavailable, OwnedElsewhere

#: Take a lock in a process of its own.
TAKE = (
    sys.executable,
    "-c",
    "import asyncio, sys; from librarian.catalog.lock import owner_lock; asyncio.run(owner_lock(sys.argv[1]).take())",
)


@pytest.fixture
async def lock(database_url):
    lock = owner_lock(database_url)
    yield lock
    await lock.release()


async def test_a_second_owner_is_refused_and_told_who_the_first_is(lock, database_url):
    await lock.take()

    refused = await asyncio.to_thread(subprocess.run, [*TAKE, database_url], capture_output=True, text=True)

    assert "OwnedElsewhere: this catalog is owned by" in refused.stderr
    assert f"pid {os.getpid()}" in refused.stderr


async def test_a_process_that_started_anew_waits_until_the_database_lets_go_of_its_former_connection(postgresql_url):
    former, anew = owner_lock(postgresql_url), owner_lock(postgresql_url)
    await former.take()

    with pytest.raises(DatabaseUnavailable, match="former connection"):
        await anew.take()

    await former.release()
    await anew.take()
    await anew.release()


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


async def test_a_database_that_does_not_exist_is_a_mistake_in_the_settings(databases):
    if databases.cluster is None:
        pytest.skip("needs: PostgreSQL")
    lock = owner_lock(databases.cluster.url("nowhere"))

    with pytest.raises(ConfigurationError, match="nowhere"):
        await lock.take()

    await lock.release()


async def test_a_database_that_refuses_an_owner_at_work_is_away(databases):
    if databases.cluster is None:
        pytest.skip("needs: PostgreSQL")
    name = databases.new_postgresql()
    lock = owner_lock(databases.cluster.url(name))
    await lock.take()
    databases.cluster.drop(name)
    with pytest.raises(DatabaseUnavailable):
        await lock.confirm()

    with pytest.raises(DatabaseUnavailable, match="refuses"):
        await lock.confirm()

    await lock.release()
