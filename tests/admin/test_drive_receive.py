"""``drive receive`` as a process that watches a real server: it may be interrupted, and says how it ended."""

import asyncio
import json
import signal
import subprocess

import pytest

from librarian import manifest
from tests.crash.harness import PATIENCE
from tests.serving import servers
from tests.starting import Started
from tests.suitcases import KEY, seal_folder

TRUST = ("--trust", manifest.fingerprint(KEY.public), "--although-for", "nersc")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A site, whose store is open or not."""
    with servers(tmp_path_factory.mktemp("site")) as make:
        server = make()
        server.start()
        asyncio.run(server.ready())
        yield server


@pytest.fixture
def drive(tmp_path):
    """A sealed drive in a folder."""
    return seal_folder(tmp_path / "media")


@pytest.fixture
def here(admin, server):
    def run(*arguments):
        return admin("--config", server.config, *arguments)

    return run


@pytest.fixture
def watch(server, drive):
    """Begin to receive, in a process of its own, and wait until it says that it waits for room."""
    begun = []

    def start() -> subprocess.Popen:
        command = ["librarian.admin", "--config", server.config, "drive", "receive", drive, *TRUST]
        process = Started(command, stdout=-1, stderr=-1, text=True)
        begun.append(process)
        assert "It waits: no open store has room" in process.stderr.readline()
        return process

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def test_who_watches_a_drive_may_go_and_come_back_and_hears_that_it_was_given_up(here, watch):
    here("store", "close", "fast")
    first = watch()
    first.send_signal(signal.SIGINT)
    ended = first.wait(PATIENCE)
    meanwhile = here("drive", "received", "A07")
    second = watch()
    given_up = here("drive", "abandon", "A07")
    told, refused = second.communicate(timeout=PATIENCE)

    assert ended == 130
    assert "The drive A07 of chajnantor waits: no open store has room" in meanwhile.out
    assert "was given up" in given_up.out
    assert "was given up: 0 of 3 files are held here" in told
    assert "Error: receiving the drive A07 was given up" in refused
    assert second.returncode == 2


def test_bad_entries_end_it_with_an_error_that_names_nobody_who_sends_them_again(here, drive):
    here("store", "open", "fast")
    (drive / "top").write_bytes(b"T")
    (drive / "2026/11/book/c").unlink()

    received = here("drive", "receive", drive, *TRUST, "--json")
    listed = here("drive", "received", "A07", "--json")
    alerts = here("alert", "list")

    told, problem = json.loads(received.out), json.loads(received.err)
    assert (told["is_done"], told["tells"], told["held_files"], told["bad_files"]) == (True, False, 1, 2)
    assert (received.code, problem["code"]) == (4, "integrity")
    assert "Tell its sender: nobody else does." in problem["remedy"]
    assert "nobody but you tells its sender" in alerts.out
    reception, *entries = map(json.loads, listed.out.splitlines())
    assert (reception["drive"], reception["bad_files"]) == ("A07", 2)
    assert {bad["name"]: bad["code"] for bad in entries} == {
        "top": "entry_differs",
        "2026/11/book": "entry_missing",
    }


def test_where_no_server_runs_nobody_would_read_a_drive_or_write_onto_it(idle, drive, tmp_path):
    (tmp_path / "empty").mkdir()
    idle("drive", "init", tmp_path / "empty", "--name", "A08", "--folder")
    idle("drive", "release", "A08")

    received = idle("drive", "receive", drive, *TRUST)
    sealed = idle("drive", "seal", "A08", "--to", "nersc")
    reused = idle("drive", "init", tmp_path / "empty", "--name", "A08", "--reuse", "--yes")
    ordered = idle("drive", "receive", drive, *TRUST, "--no-wait")

    assert (received.code, sealed.code, reused.code) == (2, 2, 2)
    assert "no server runs here, and it has to read the drive" in received.err
    assert "no server runs here, and it has to write the manifest" in sealed.err
    assert "no server runs here, and it has to wipe the drive" in reused.err
    assert (ordered.code, "is being received" in ordered.out) == (0, True)
