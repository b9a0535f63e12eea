"""One owner per catalog."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from librarian.catalog.lock import NETWORK_FILE_SYSTEMS, file_system_of, owner_lock
from librarian.errors import ConfigurationError, DatabaseUnavailable, OwnedElsewhere
from tests.contracts.mounts import Mounts

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


async def test_a_catalog_has_one_lock_through_whichever_link_it_is_named(sqlite_url, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.sqlite").symlink_to(sqlite_url.partition(":///")[2])
    first = owner_lock(sqlite_url)
    await first.take()

    with pytest.raises(OwnedElsewhere):
        await owner_lock(f"sqlite+aiosqlite:///{tmp_path}/elsewhere/link.sqlite").take()

    await first.release()


async def test_a_lock_that_is_held_for_a_moment_is_waited_for(sqlite_url):
    command, server = owner_lock(sqlite_url), owner_lock(sqlite_url)
    await command.take()
    taking = asyncio.create_task(server.take())
    await asyncio.sleep(0)

    await command.release()
    await taking

    await server.confirm()
    await server.release()


async def test_a_lock_file_that_says_nonsense_is_held_by_an_unknown_process(sqlite_url):
    first = owner_lock(sqlite_url)
    await first.take()
    Path(sqlite_url.partition(":///")[2] + ".owner").write_bytes(b"\xff garbage")

    with pytest.raises(OwnedElsewhere, match="owned by an unknown process"):
        await owner_lock(sqlite_url).take()

    await first.release()


async def test_a_catalog_on_a_network_file_system_is_refused(sqlite_url, tmp_path, monkeypatch):
    # Such a mount needs a second machine: let this one's file system pass for one.
    monkeypatch.setattr("librarian.catalog.lock.NETWORK_FILE_SYSTEMS", {file_system_of(tmp_path)})

    with pytest.raises(ConfigurationError, match="where SQLite's locks cannot be trusted"):
        await owner_lock(sqlite_url).take()


def test_the_file_system_of_a_mount_with_a_strange_name_is_found(tmp_path):
    mounts = Mounts()
    try:
        place = mounts.tmpfs(tmp_path / "büro \\ 2", "size=1m")

        assert file_system_of(place) == "tmpfs"
    finally:
        mounts.clean_up()


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
