"""Starting a server as people do, everything that keeps it from starting, and starting again after it was killed."""

import os
import socket

import pytest
from sqlalchemy import text

from librarian.catalog import migrations
from librarian.catalog.database import make_engine
from librarian.catalog.lock import owner_lock
from librarian.errors import ConfigurationError
from tests.site_fixtures import opened_site


@pytest.fixture
def busy_port():
    """A port that something else listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
async def held_lock(database_url):
    """A catalog that this very process owns."""
    lock = owner_lock(database_url)
    await lock.take()
    yield lock
    await lock.release()


async def test_without_any_configuration_a_site_is_made_and_its_password_told_once(new_server, tmp_path):
    server = new_server()
    # The usual port may be taken on this machine.
    server.start([], XDG_STATE_HOME=str(tmp_path / "home"), LIBRARIAN__LISTEN=f"127.0.0.1:{server.port}")
    await server.ready()

    reply = await server.ask("GET", "/api/v1/site")

    state = tmp_path / "home" / "librarian"
    assert (reply.status, reply.json["roles"]) == (200, ["admin"])
    assert (state / "catalog.sqlite").is_file()
    assert (state / "store" / ".librarian-store").is_file()
    assert state.stat().st_mode & 0o777 == 0o700


async def test_the_environment_names_the_configuration(new_server):
    server = new_server()

    server.start([], LIBRARIAN_CONFIG=str(server.config))

    await server.ready()
    assert (server.folder / "state" / "catalog.sqlite").is_file()


async def test_a_taken_port_ends_the_start(new_server, busy_port):
    server = new_server(port=busy_port)
    server.start()

    code = await server.ended()

    assert code == 2
    assert f"cannot listen on 127.0.0.1:{busy_port}: Address already in use" in server.log


async def test_a_second_server_is_refused_and_told_of_the_first(new_server, held_lock, database_url):
    server = new_server(database=database_url)
    server.start()

    code = await server.ended()

    assert code == 3
    assert f"pid {os.getpid()}" in server.log
    assert socket.gethostname() in server.log


async def test_the_same_server_twice_is_told_of_itself_and_not_of_a_port(new_server):
    first = new_server()
    first.start()
    await first.ready()
    pid = first.process.pid
    second = new_server("second", port=first.port)
    second.start(["--config", first.config])

    code = await second.ended()

    assert code == 3
    assert f"pid {pid}" in second.log


async def test_a_catalog_of_a_newer_librarian_is_refused(new_server, sqlite_url):
    engine = make_engine(sqlite_url)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    server = new_server(database=sqlite_url)
    server.start()

    code = await server.ended()

    assert code == 2
    assert "'9999'" in server.log
    assert "install that version, or restore a backup from before" in server.log


async def test_a_catalog_of_an_older_librarian_is_refused_with_the_command_to_run(sqlite_url, tmp_path, monkeypatch):
    # Only the first revision exists yet: this is the program of tomorrow.
    monkeypatch.setattr(migrations, "head", lambda: "0002")

    with pytest.raises(ConfigurationError, match="at revision 0001, this librarian works with 0002") as refusal:
        async with opened_site(sqlite_url, tmp_path / "chajnantor"):
            pass

    assert "librarian.admin database migrate" in refusal.value.remedy


async def test_a_server_that_was_killed_can_be_started_again_at_once(new_server, database_url, tmp_path):
    server = new_server(database=database_url)
    server.start()
    await server.ready()
    (tmp_path / "source").write_bytes(b"truth")
    async with server.client() as client:
        await client.upload(tmp_path / "source", "a")
    server.kill()

    server.start()

    await server.ready()
    status = await server.status()
    assert (status["generation"], status["held"]["files"]) == (2, 1)
    assert server.log.count("Password of the account") == 1
