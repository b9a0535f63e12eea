"""The page on Globus, typed as it stands there, by two sites that know each other and a Globus of our own."""

import json
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from librarian.settings import load_settings
from tests.docs.pages import DOCS, TOP, blocks
from tests.docs.test_walkthrough import TUTORIAL
from tests.docs.users import User, run_again
from tests.fakes.globus import SERVICE_URLS

PAGE = DOCS / "how-to" / "connect-to-globus.md"
SECRET, _, CONFIG, CHECK, LOOK, ACCEPT, RULE, WATCH = (block.text for block in blocks(PAGE, "sh"))
SERVICE, PERSON, FOREIGN, COLLECTION = (block.text for block in blocks(PAGE, "toml"))
CLIENT, OURS = (text.split('"')[1] for text in (SERVICE, COLLECTION))
THEIRS = str(uuid.UUID(int=1))


@pytest.fixture
def globus() -> Iterator[str]:
    """A Globus of our own, in a process of its own; its URL."""
    with subprocess.Popen([sys.executable, "-m", "tests.fakes.globus"], cwd=TOP, stdout=subprocess.PIPE) as server:
        yield server.stdout.readline().decode().strip()
        server.terminate()


@pytest.fixture
def sites(globus, tmp_path) -> Iterator[dict[str, User]]:
    """Two sites that are paired, with the folders of the page, each below a home of its own."""
    with ExitStack() as stack:
        users = {}
        for name in ("chajnantor", "nersc"):
            home = tmp_path / name
            for folder in ("data", "etc"):
                (home / folder).mkdir(parents=True)
            (home / "site.toml").write_text(
                f'name = "{name}"\nstate = "{home}/state"\n[[stores]]\nname = "fast"\n'
                f'root = "{home}/data/fast/store"\nstaging = "{home}/data/fast/staging"\n'
            )
            more = {"LIBRARIAN_CONFIG": str(home / "site.toml"), **dict.fromkeys(SERVICE_URLS, globus)}
            user = users[name] = User(home, more=more)
            stack.callback(user.stops)
            user.serves()
        token = users["chajnantor"].types("python -m librarian.admin peer invite nersc").strip()
        users["nersc"].types(f"python -m librarian.admin peer join {token}")
        yield users


def at(user: User, text: str) -> str:
    """*text* with the paths of *user*'s machine."""
    return text.replace("/etc/librarian", f"{user.home}/etc").replace("-o librarian ", "")


def add(user: User, *texts: str) -> None:
    with (user.home / "site.toml").open("a") as settings:
        settings.writelines(at(user, text) for text in texts)


def introduce(globus: str, sites: dict[str, User]) -> None:
    """What an operator does on the pages of Globus: a client with a secret, and a collection at each site."""
    folders = {OURS: sites["chajnantor"].home / "data", THEIRS: sites["nersc"].home / "data"}
    known = {"clients": {CLIENT: "s3cret"}, "collections": {name: str(folder) for name, folder in folders.items()}}
    urllib.request.urlopen(f"{globus}fake", json.dumps(known).encode()).close()


def test_the_first_file_goes_through_globus_as_the_page_says(globus, sites):
    sender, receiver = sites.values()
    introduce(globus, sites)
    tutorial = [block.text for block in blocks(TUTORIAL, "sh")]
    sender.types(tutorial[1], "unset LIBRARIAN_CONFIG", *tutorial[2:4])

    sender.types(f"printf s3cret | {at(sender, SECRET)}")
    add(sender, COLLECTION, SERVICE)
    add(receiver, COLLECTION.replace(OURS, THEIRS))
    configured = [user.types(CONFIG) for user in sites.values()]
    for user in sites.values():
        run_again(user)
    fine = sender.types(CHECK)
    looked = sender.types(f"{LOOK.strip()} || echo exit $?")
    accepted = sender.types(ACCEPT)
    ruled = sender.types(RULE)
    watched = sender.types(WATCH)
    known = sender.types(tutorial[2], "until librarian show 2026/11/book-001 | grep nersc; do :; done")

    assert ["can work" in told for told in configured] == [True, True]
    assert "fine" in fine
    assert f"store 'fast' by globus: {THEIRS} /fast/staging" in looked
    assert "exit 3" in looked
    assert "failed" not in accepted
    assert "by globus" in ruled
    assert "everything-to-nersc" in watched
    assert "nersc (fast), attested" in known
    with urllib.request.urlopen(f"{globus}fake", b"") as answer:
        # The probe of 'peer check', and the file.
        assert [task["status"] for task in json.load(answer)["tasks"]] == ["SUCCEEDED"] * 2


def test_the_settings_for_a_person_and_for_strange_writers_can_be_read(tmp_path):
    (tmp_path / "site.toml").write_text(FOREIGN + COLLECTION + PERSON)

    settings = load_settings(tmp_path / "site.toml")

    assert (settings.stores[0].takes_foreign_writes, settings.stores[0].staging_group) == (True, "transfers")
    assert settings.globus.refresh_token_file == Path("/var/lib/librarian/globus.token")
