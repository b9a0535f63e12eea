"""A site that works: served, with its tasks running; a client; a proxy between them; sources to upload."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from librarian.cli.__main__ import main
from librarian.client import LibrarianClient
from librarian.tasks.everything import all_tasks
from librarian.tasks.supervisor import Supervisor
from tests.commands import Outcome, run_command
from tests.fakes.tcp_proxy import tcp_proxy
from tests.holding import write_payload
from tests.site_fixtures import password_of


@pytest.fixture
async def working(live_server):
    """A served site whose tasks run."""
    async with Supervisor(live_server.site, all_tasks(live_server.site)):
        yield live_server


@pytest.fixture
async def proxy(working):
    """A network between the client and the site."""
    async with tcp_proxy(working.url) as between:
        yield between


@pytest.fixture
async def client(working):
    """A client of the site, on the same file system."""
    async with LibrarianClient(working.url, user="uploader", password=password_of("uploader")) as opened:
        yield opened


@pytest.fixture
async def far_client(proxy):
    """A client on another machine: over the network, with no file system in common."""
    async with LibrarianClient(proxy.url, user="uploader", password=password_of("uploader"), shared=False) as opened:
        yield opened


@pytest.fixture(params=["near", "far"])
def either(request, working):
    """A client on the same file system, and one that sends over HTTP."""
    return request.getfixturevalue("client" if request.param == "near" else "far_client")


@pytest.fixture
def source(tmp_path):
    """Make a file or book to upload: ``source(b"…")`` or ``source({"member": b"…", "empty": None})``."""
    made = []

    def make(content, name=None) -> Path:
        path = tmp_path / "sources" / (name or f"source-{len(made)}")
        write_payload(path, content)
        made.append(path)
        return path

    return make


@pytest.fixture
def some_bytes():
    """So many bytes that no two parts are alike."""
    return os.urandom


@pytest.fixture
def environment(working, tmp_path):
    """What a user's shell holds."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": "",
        "LIBRARIAN_URL": working.url,
        "LIBRARIAN_USER": "uploader",
        "LIBRARIAN_PASSWORD": password_of("uploader"),
        "COLUMNS": "200",
    }


@pytest.fixture
def run(environment, tmp_path, monkeypatch):
    """Run ``librarian`` within this process, in a folder of its own; returns its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    async def start(*arguments, **changes):
        return await asyncio.to_thread(run_command, main, *arguments, environment=environment | changes)

    return start


@pytest.fixture
def run_process(environment, tmp_path):
    """Run ``librarian`` as a process of its own, in a pipe."""

    async def start(*arguments, **changes):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "always", "-m", "librarian.cli", *map(str, arguments)),
            cwd=tmp_path,
            env=environment | changes,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return Outcome(process.returncode, out.decode(), err.decode())

    return start
