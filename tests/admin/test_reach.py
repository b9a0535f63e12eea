"""How a command finds its site: a URL, a running server's socket, or by becoming the owner for a moment."""

import asyncio
import fcntl
import json
import shutil
import socket
import stat
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from librarian.admin import reach
from librarian.admin.reach import Target
from librarian.cli import session
from tests.admin.conftest import PASSWORD
from tests.commands import as_nobody


@pytest.fixture
def held_elsewhere(tmp_path):
    """The lock of an SQLite catalog, held by a process of another host."""
    folder = tmp_path / "chajnantor"
    folder.mkdir()
    with (folder / "catalog.sqlite.owner").open("w") as lock:
        json.dump({"host": "summit-hut", "pid": 4711, "boot": ""}, lock)
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def open_folder():
    """A folder that every user may pass, as those of pytest are not."""
    folder = Path(tempfile.mkdtemp(prefix="librarian-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("options", "environment", "found"),
    [
        ({"url": "https://u", "config": Path("c")}, {"LIBRARIAN_CONFIG": "e"}, ("https://u", None)),
        ({"url": None, "config": Path("c")}, {"LIBRARIAN_CONFIG": "e", "LIBRARIAN_URL": "https://e"}, (None, "c")),
        ({"url": None, "config": None}, {"LIBRARIAN_CONFIG": "e", "LIBRARIAN_URL": "https://e"}, (None, "e")),
        ({"url": None, "config": None}, {"LIBRARIAN_CONFIG": "", "LIBRARIAN_URL": "https://e"}, ("https://e", None)),
        ({"url": None, "config": None}, {}, (None, None)),
    ],
)
def test_the_first_place_that_is_named_is_taken(monkeypatch, options, environment, found):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)

    target = Target.choose(**options)

    assert (target.url, target.config and str(target.config)) == found


def test_without_anything_the_site_is_the_default_state_folders(admin, tmp_path):
    made = admin(
        *("account", "create", "ana", "--role", "reader"), stdin=PASSWORD, environment={"XDG_STATE_HOME": str(tmp_path)}
    )

    assert made.code == 0
    assert (tmp_path / "librarian" / "catalog.sqlite").is_file()


def test_the_environment_names_the_settings(admin, new_config, tmp_path):
    listed = admin("store", "list", environment={"LIBRARIAN_CONFIG": str(new_config())})

    assert listed.out.split("\t")[3] == f"{tmp_path}/chajnantor/store"


def test_beside_a_server_its_socket_is_the_credential(beside, server):
    told = beside("status", "--json")

    assert json.loads(told.out)["owner"].endswith(f"pid {server.process.pid}")
    assert stat.S_IMODE((server.folder / "state" / "admin.sock").stat().st_mode) == 0o600


def test_without_a_server_the_command_opens_the_site_itself_and_says_so(idle):
    told = idle("status")

    assert "no server runs" in told.out
    assert "store main: fine" in told.out


def test_through_a_url_an_admin_account_is_needed(admin, beside, server):
    beside("account", "create", "curious", "--role", "uploader", stdin=PASSWORD)
    login = {"LIBRARIAN_USER": "curious", "LIBRARIAN_PASSWORD": PASSWORD}

    refused = admin("--url", server.url, "account", "list", environment=login)

    assert refused.code == 2
    assert "lacks the role" in refused.err


@pytest.mark.parametrize("through", [["--url"], []])
def test_through_a_url_an_admin_may_do_everything(admin, server, through):
    login = {"LIBRARIAN_URL": server.url, "LIBRARIAN_USER": "admin", "LIBRARIAN_PASSWORD": server.password}
    option = [*through, server.url] if through else []

    told = admin(*option, "account", "list", environment=login)

    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("admin\tadmin\tyes\t")


def test_a_url_may_be_a_name_of_the_client_configuration(admin, server, tmp_path):
    named = tmp_path / "home" / ".config" / "librarian" / "client.toml"
    named.parent.mkdir(parents=True)
    named.write_text(f'[here]\nurl = "{server.url}"\nuser = "admin"\npassword = "{server.password}"\n')
    named.chmod(0o600)

    assert admin("--url", "here", "status").code == 0


def test_without_a_name_and_password_the_remedy_says_where_they_come_from(admin, server):
    refused = admin("--url", server.url, "status")

    assert refused.code == 2
    assert "LIBRARIAN_USER and LIBRARIAN_PASSWORD" in refused.err


def test_an_admins_password_does_not_cross_a_network_in_the_clear(admin):
    login = {"LIBRARIAN_USER": "admin", "LIBRARIAN_PASSWORD": PASSWORD}

    refused = admin("--url", "http://192.0.2.1:21108", "status", environment=login)

    assert refused.code == 2
    assert "unencrypted" in refused.err
    assert PASSWORD not in refused.err


def test_a_url_where_nobody_answers_exits_3(admin, monkeypatch):
    monkeypatch.setattr(session, "PATIENCE", timedelta(0))

    refused = admin("--url", "http://127.0.0.1:9", "status")

    assert refused.code == 3
    assert "cannot reach http://127.0.0.1:9" in refused.err
    assert "Connection refused" in refused.err


@pytest.mark.parametrize("command", [["config", "check"], ["database", "check"], ["database", "migrate"]])
def test_what_looks_at_files_refuses_a_url(admin, command):
    refused = admin(*command, environment={"LIBRARIAN_URL": "http://127.0.0.1:9"})

    assert refused.code == 2
    assert "http://127.0.0.1:9" in refused.err
    assert "--config" in refused.err


async def test_what_a_killed_server_left_behind_does_not_matter(new_server, admin):
    server = new_server()
    server.start()
    await server.ready()
    server.kill()

    listed = await asyncio.to_thread(admin, "--config", server.config, "account", "list")

    assert (server.folder / "state" / "admin.sock").is_socket()
    assert (listed.code, listed.err) == (0, "")
    assert listed.out.startswith("admin\t")


async def test_a_state_folder_may_be_deeper_than_a_sockets_path_is_long(new_server, admin, tmp_path):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    server = new_server(f"{deep.name}/site")
    server.start()
    await server.ready()

    told = await asyncio.to_thread(admin, "--config", server.config, "status", "--json")

    assert json.loads(told.out)["owner"].endswith(f"pid {server.process.pid}")


def test_the_temporary_folder_may_be_deeper_than_a_sockets_path_is_long(idle, tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))

    assert idle("store", "list").code == 0
    assert list(deep.iterdir()) == []


def test_a_lock_that_is_held_elsewhere_is_told_with_its_host(idle, held_elsewhere):
    refused = idle("account", "list")

    assert (refused.code, refused.out) == (3, "")
    assert "owned by host summit-hut, pid 4711" in refused.err
    assert "--url" in refused.err


async def test_a_postgresql_lock_that_is_held_elsewhere_is_told_with_its_host(postgresql_url, admin, new_config):
    asyncpg = pytest.importorskip("asyncpg")
    url = postgresql_url.replace("+asyncpg", "")
    holder = await asyncpg.connect(url, server_settings={"application_name": "librarian summit-hut pid 4711"})
    await holder.execute("SELECT pg_advisory_lock($1)", 0x6C69627261726961)

    refused = await asyncio.to_thread(admin, "--config", new_config(f'database = "{url}"'), "account", "list", "--json")
    await holder.close()

    problem = json.loads(refused.err)
    assert (refused.code, problem["code"]) == (3, "owned_elsewhere")
    assert "summit-hut" in problem["message"]


async def test_commands_that_run_at_once_wait_for_each_other(new_config):
    config = new_config()
    commands = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "always", "-m", "librarian.admin", "--config", config),
            *("account", "create", name, "--role", "reader"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for name in ("ana", "ben", "carl")
    ]

    outcomes = await asyncio.gather(*(command.communicate(PASSWORD.encode()) for command in commands))

    assert [(command.returncode, err) for command, (_, err) in zip(commands, outcomes, strict=True)] == [(0, b"")] * 3


@pytest.mark.parametrize("mode", [0o700, 0o711])
def test_a_site_of_another_user_is_refused_with_what_to_do(admin, open_folder, mode):
    state = open_folder / "librarian"
    state.mkdir(mode=mode)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(state / "admin.sock"))
        (state / "admin.sock").chmod(0o600)
        listener.listen()

        with as_nobody():
            refused = admin("account", "list", environment={"XDG_STATE_HOME": str(open_folder)})

    assert refused.code == 2
    assert "admin.sock belongs to another user" in refused.err
    assert "--url" in refused.err


def test_settings_with_another_name_do_not_take_the_site_over(admin, idle, new_config, tmp_path):
    idle("account", "list")
    other = new_config(f'database = "sqlite:///{tmp_path}/chajnantor/catalog.sqlite"', name="nersc")

    refused = admin("--config", other, "account", "list")

    assert refused.code == 3
    assert "belongs to the site 'chajnantor', not to 'nersc'" in refused.err
    assert "--url" not in refused.err


def test_a_database_that_stays_away_is_not_waited_for_for_ever(admin, new_config, monkeypatch):
    monkeypatch.setattr(reach, "_DATABASE_PATIENCE", timedelta(0))

    refused = admin("--config", new_config('database = "postgresql://nobody@127.0.0.1:9/none"'), "account", "list")

    assert refused.code == 3
    assert "database does not answer" in refused.err


def test_settings_that_cannot_work_are_refused_before_anything_is_opened(admin, new_config, tmp_path):
    refused = admin("--config", new_config('listen = "0.0.0.0:1"'), "account", "list")

    assert refused.code == 2
    assert "0.0.0.0:1 is not loopback" in refused.err
    assert not (tmp_path / "chajnantor").exists()
