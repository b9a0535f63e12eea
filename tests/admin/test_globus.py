"""``globus``: a login that leaves a refresh token, and a check that tells what is not as the settings say."""

import json
import re
import stat
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import pytest

from tests.fakes.globus import SERVICE_URLS

TOP = Path(__file__).parents[2]


@pytest.fixture
def globus(monkeypatch):
    """A Globus of our own in a process of its own; returns how to steer it."""
    with subprocess.Popen([sys.executable, "-m", "tests.fakes.globus"], cwd=TOP, stdout=subprocess.PIPE) as server:
        url = server.stdout.readline().decode().strip()
        for name in SERVICE_URLS:
            monkeypatch.setenv(name, url)

        def steer(**told):
            body = json.dumps(told).encode()
            with urllib.request.urlopen(f"{url}fake", body) as answer:
                return json.load(answer)

        yield steer
        server.terminate()


@pytest.fixture
def at_globus(globus, idle_with, tmp_path):
    """A site that Globus knows; *root* is where its store should be in the collection."""

    def make(*, root="/root"):
        client, collection = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
        for name in ("root", "staging"):
            (tmp_path / name).mkdir()
        (tmp_path / "secret").write_text("s3cret")
        globus(clients={client: "s3cret"}, collections={collection: str(tmp_path)})
        return idle_with(
            f'[globus]\nclient_id = "{client}"\nclient_secret_file = "{tmp_path}/secret"\n'
            f'[[stores]]\nname = "fast"\nroot = "{tmp_path}/root"\nstaging = "{tmp_path}/staging"\n'
            f'globus = {{collection = "{collection}", root = "{root}", staging = "/staging"}}\n'
        )

    return make


@pytest.fixture
def idle_with(admin, new_config):
    def make(text):
        config = new_config(text)
        return lambda *arguments, **surroundings: admin("--config", config, *arguments, **surroundings)

    return make


def test_a_store_that_is_where_the_settings_say_is_fine(at_globus):
    run = at_globus()
    run("store", "list")

    told = run("globus", "check", "--json")

    assert (told.code, json.loads(told.out)) == (0, {"store": "fast", "problem": None})


def test_a_path_that_leads_elsewhere_is_told(at_globus):
    run = at_globus(root="/staging")
    run("store", "list")

    told = run("globus", "check")

    assert told.code == 3
    assert "not the root of the store" in told.out


def test_a_path_that_does_not_exist_is_told(at_globus):
    told = at_globus(root="/nowhere")("globus", "check")

    assert told.code == 3
    assert "/nowhere" in told.out


def test_credentials_that_globus_refuses_are_told(at_globus, tmp_path):
    run = at_globus()
    (tmp_path / "secret").write_text("wrong")

    told = run("globus", "check")

    assert told.code == 2
    assert "does not accept our credentials" in told.err


def test_a_site_without_globus_is_told_so(admin, new_config):
    told = admin("--config", new_config(), "globus", "check")

    assert (told.code, "[globus]" in told.err) == (2, True)


@pytest.fixture
def native(globus, idle_with, tmp_path):
    """A site with a native app, and the file for its refresh token."""
    file = tmp_path / "refresh-token"
    run = idle_with(f'[globus]\nclient_id = "{uuid.UUID(int=1)}"\nrefresh_token_file = "{file}"\n')
    return run, file


def test_a_login_leaves_a_refresh_token_that_nobody_else_can_read(native, globus):
    run, file = native
    globus(login_codes=["a-code"])

    told = run("globus", "login", "--collection", str(uuid.UUID(int=2)), stdin="a-code\n")

    assert told.code == 0
    assert re.search(rf"scope=\S*{uuid.UUID(int=2)}\S*data_access", told.err)
    assert file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("code", ["wrong\n", "\n"])
def test_a_code_that_is_not_good_changes_nothing(native, code):
    run, file = native
    file.write_text("before")

    told = run("globus", "login", stdin=code)

    assert told.code == 2
    assert file.read_text() == "before"
