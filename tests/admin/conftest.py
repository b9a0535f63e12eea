"""Admin commands in this process, against a site that nobody serves and against real servers."""

import asyncio
import os

import pytest

from librarian.admin.commands import main
from tests.commands import run_command
from tests.serving import servers

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _own_home(monkeypatch, tmp_path):
    """No test finds the settings or the site of whoever runs it."""
    for name in [name for name in os.environ if name.startswith("LIBRARIAN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
def admin():
    """Run one admin command: ``admin("account", "list", stdin=…, environment=…)``."""

    def run(*arguments, **surroundings):
        return run_command(main, *arguments, **surroundings)

    return run


@pytest.fixture
def at(admin, pair):
    """Run a command at chajnantor, the first of the module's ``pair``."""

    def run(*arguments, **surroundings):
        return admin("--config", pair[0].config, *arguments, **surroundings)

    return run


@pytest.fixture
def at_nersc(admin, pair):
    """Run a command at nersc, the second of the module's ``pair``."""

    def run(*arguments, **surroundings):
        return admin("--config", pair[1].config, *arguments, **surroundings)

    return run


@pytest.fixture
def new_config(tmp_path):
    """Write the settings of a site of its own; *text* is TOML for the top level, *name* its folder too."""

    def write(text="", *, name="chajnantor"):
        path = tmp_path / f"{name}.toml"
        path.write_text(f'name = "{name}"\nstate = "{tmp_path}/{name}"\n{text}\n[limits]\nworkers = 1\n')
        return path

    return write


@pytest.fixture
def idle(admin, new_config):
    """Run a command for a site that no server serves."""
    config = new_config()

    def run(*arguments, **surroundings):
        return admin("--config", config, *arguments, **surroundings)

    return run


@pytest.fixture
def new_server(tmp_path):
    """Makes servers that run in a process of their own; see ``tests/serving.py``."""
    with servers(tmp_path) as make:
        yield make


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server that these tests share; each brings its own names."""
    with servers(tmp_path_factory.mktemp("server")) as make:
        made = make()
        made.start()
        asyncio.run(made.ready())
        yield made


@pytest.fixture
def beside(admin, server):
    """Run a command beside the shared server."""

    def run(*arguments, **surroundings):
        return admin("--config", server.config, *arguments, **surroundings)

    return run
