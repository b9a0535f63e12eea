"""A drive's whole round from the command line, beside a real server: loaded, sealed, checked, released, used again."""

import asyncio
import json

import pytest

from librarian import manifest
from librarian.client import connect
from librarian.settings import load_settings
from librarian.site import open_site
from tests.carrying import add_peer
from tests.crash.harness import until


async def _seed(config) -> None:
    async with open_site(load_settings(config)) as site:
        await add_peer(site)


@pytest.fixture
def running(new_server):
    """A server whose site has a peer that nobody can reach."""
    server = new_server()
    server.start()
    asyncio.run(server.ready())
    asyncio.run(server.stop())
    asyncio.run(_seed(server.config))
    server.start()
    asyncio.run(server.ready())
    return server


@pytest.fixture
def run(admin, running):
    """Run a command beside it; it must succeed."""

    def command(*arguments):
        done = admin("--config", running.config, *arguments)
        assert done.code == 0, done.err
        return done.out

    return command


@pytest.fixture
def comes_to(run):
    """Wait until what the command shows of the drive is so."""

    def wait(**expected):
        async def look():
            drive = json.loads(await asyncio.to_thread(run, "drive", "show", "A07", "--json"))["drive"]
            return expected.items() <= drive.items()

        asyncio.run(until(look))

    return wait


def test_a_drive_goes_round_and_round(admin, run, running, comes_to, tmp_path):
    media = tmp_path / "media"
    media.mkdir()
    (tmp_path / "source").write_bytes(b"first light")
    run("drive", "init", media, "--name", "A07", "--folder")
    run("rule", "add", "carried", "--to", "nersc", "--drive", "A*")
    connect(running.url, user="admin", password=running.password).upload(tmp_path / "source", "2026/11/one")
    comes_to(files=1)

    slip = run("drive", "seal", "A07", "--to", "nersc")
    again = run("drive", "slip", "A07")
    run("drive", "manifest", "A07", "--output", tmp_path / "a07.manifest")
    checked = run("drive", "verify", media)
    run("drive", "release", "A07", "--lose", "1")
    comes_to(files=0)
    (media / "notes").touch()
    tried = admin("--config", running.config, "drive", "init", media, "--name", "A07", "--reuse", "--yes")
    round_two = run("drive", "init", media, "--name", "A07", "--reuse", "--yes", "--lose", "1")

    assert slip == again
    assert "1 file, 11 B (11 bytes)" in slip
    assert manifest.open_manifest(tmp_path / "a07.manifest").fingerprint in slip
    assert "1 file, 11 B: all good" in checked
    assert "of 1 file on the drive 'A07' no other copy is known (notes)" in tried.err
    assert (tried.code, "say --lose 1" in tried.err) == (2, True)
    assert "in its round 2" in round_two
    comes_to(files=1, state="loading")
    assert (media / "2026/11/one").read_bytes() == b"first light"
