"""The page about shipping a drive, typed as it stands there at sites that cannot call each other meanwhile."""

import asyncio
import getpass
import json
import os
import re
import shutil
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from librarian import manifest
from librarian.admin.commands import main
from librarian.keys import SigningKey
from tests.commands import run_command
from tests.crash.harness import until
from tests.docs.pages import DOCS, blocks_in, rows, section
from tests.docs.test_walkthrough import TUTORIAL
from tests.docs.users import User, a_site, two_sites
from tests.drives import device_in
from tests.site_fixtures import basic

PAGE = DOCS / "how-to" / "ship-a-drive.md"
#: It is a long journey.
pytestmark = pytest.mark.timeout(600)


def typed(heading: str) -> list[str]:
    return [block.text for block in blocks_in(section(PAGE, heading), "sh")]


MAKE, RULE, LIST, SEAL, CHECK, UNMOUNT = typed("## At the site that sends")
(INSPECT,) = typed("## On the way")
MOUNT, LOOK, RECEIVE, RECEIVED, AWAY, GIVE_UP = typed("## At the site that receives")
RELEASE, AGAIN = typed("## Back at the site that sends")


@dataclass
class Carrier:
    """Who stands at one site with the drive."""

    user: User
    device: str

    @property
    def place(self) -> Path:
        return self.user.home / "media" / "a07"

    def types(self, *texts: str) -> str:
        """*texts* with the names of this machine in place of those of the page."""
        self.place.mkdir(parents=True, exist_ok=True)
        mine = [self.named(text) for text in texts]
        return self.user.types(*mine)

    def named(self, text: str) -> str:
        return (
            text.replace("/dev/sdX1", self.device)
            .replace("/media/a07", str(self.place))
            .replace("chown librarian:", f"chown {getpass.getuser()}:")
        )

    def is_refused(self, text: str) -> str:
        """What is said to *text*, and with which exit code."""
        return self.types(f"{text.strip()} 2>&1 || echo exit $?")

    def waits_for(self, state: str, *, files: int) -> None:
        """Until the drive is in *state* with so many files on it."""
        url = f"http://127.0.0.1:{self.user.port}/api/v1/drives/A07"
        asked = urllib.request.Request(url, headers={"Authorization": basic("ana", "correct horse battery")})

        def told() -> bool:
            with urllib.request.urlopen(asked) as answer:
                drive = json.load(answer)["drive"]
            return (drive["state"], drive["files"]) == (state, files)

        async def is_so() -> bool:
            return await asyncio.to_thread(told)

        asyncio.run(until(is_so))


@dataclass(frozen=True)
class Journey:
    """What was printed on the way."""

    said: dict[str, str]
    names: list[str]
    #: What those said who were shown what they should not take.
    refusals: list[str]


@pytest.fixture(scope="module")
def journey(tmp_path_factory, hera) -> Iterator[Journey]:
    """Both parts of the page, one round, and the begin of the next one."""
    folder = tmp_path_factory.mktemp("journey")
    with device_in(folder) as device, two_sites(folder) as users:
        sender, receiver = (Carrier(user, device) for user in users.values())
        token = sender.types("python -m librarian.admin peer invite nersc").strip()
        receiver.types(f"python -m librarian.admin peer join {token}")
        account, connect = (block.text for block in blocks_in(TUTORIAL.read_text(), "sh")[1:3])
        sender.types(account, "unset LIBRARIAN_CONFIG", connect, f"librarian upload {hera}/* 2026/11/")
        names = sorted(f"2026/11/{each.name}" for each in hera.iterdir())
        said = send(sender, files=len(names))
        refusals = list(refused(receiver, folder))
        said |= arrive(receiver)
        sender.user.starts("librarian serve")
        sender.waits_for("confirmed", files=len(names))
        said["released"] = sender.types(RELEASE)
        said["again"] = sender.types(f"{AGAIN.strip()} --yes")
        sender.types(UNMOUNT)
        yield Journey(said, names, refusals)


def send(sender: Carrier, *, files: int) -> dict[str, str]:
    said = {"made": sender.types(MAKE), "ruled": sender.types(RULE)}
    sender.waits_for("loading", files=files)
    said |= {"listed": sender.types(LIST), "sealed": sender.types(SEAL), "checked": sender.types(CHECK)}
    sender.types(UNMOUNT)
    said["slip"] = (sender.user.home / "slip.txt").read_text()
    # From here on nobody can call anybody.
    sender.user.stops()
    return said


def arrive(receiver: Carrier) -> dict[str, str]:
    receiver.types(MOUNT)
    said = {"inspected": receiver.types(INSPECT), "looked": receiver.types(LOOK)}
    said |= {"received": receiver.types(RECEIVE), "told": receiver.types(RECEIVED)}
    said["abandoned"] = receiver.is_refused(GIVE_UP)
    receiver.types(AWAY)
    return said


def refused(receiver: Carrier, folder: Path) -> Iterator[str]:
    """What is said where nothing is received."""
    receiver.types(MOUNT)
    for forge in (reuse, rename, resign, cut):
        copy = folder / forge.__name__
        shutil.copytree(receiver.place, copy, ignore=shutil.ignore_patterns("lost+found", ".librarian-staging"))
        forge(copy)
        yield said_to(receiver.user, copy)
    for place in (folder, folder / "nowhere"):
        yield said_to(receiver.user, place)
    with a_site(folder, "keck") as stranger:
        unknown = said_to(stranger, receiver.place)
        (trust,) = re.findall("--trust [A-Z0-9-]+", unknown)
        yield unknown
        yield said_to(stranger, receiver.place, *f"{trust}X".split())
        yield said_to(stranger, receiver.place, *trust.split())
    receiver.types(AWAY)


def said_to(user: User, place: Path, *more: str) -> str:
    told = run_command(main, "drive", "receive", place, *more, environment=user.environment)
    assert told.code, told.out
    return told.err


def reuse(copy: Path) -> None:
    identity = json.loads((copy / ".librarian-store").read_text())
    (copy / ".librarian-store").write_text(json.dumps(identity | {"generation": identity["generation"] + 1}))


def rename(copy: Path) -> None:
    identity = json.loads((copy / ".librarian-store").read_text())
    (copy / ".librarian-store").write_text(json.dumps(identity | {"uuid": str(uuid.uuid4())}))


def resign(copy: Path) -> None:
    found, key = manifest.open_manifest(copy / manifest.NAME), SigningKey(SigningKey.mint())
    head = found.head.model_copy(update={"key": key.public})
    with manifest.ManifestWriter(os.open(copy, os.O_RDONLY | os.O_DIRECTORY), head) as writer:
        for entry in found.entries():
            writer.add(manifest.line(entry))
        writer.finish(key)


def cut(copy: Path) -> None:
    os.truncate(copy / manifest.NAME, (copy / manifest.NAME).stat().st_size - 10)


def test_a_drive_is_made_loaded_sealed_and_checked_as_the_page_says(journey):
    said, count = journey.said, len(journey.names)

    assert "is ready" in said["made"]
    assert "carries * to nersc on A*" in said["ruled"]
    assert said["listed"].split("\t")[:4:3] == ["A07", str(count)]
    assert f"{count} files" in said["slip"]
    assert said["slip"] == said["sealed"]
    assert "all good" in said["checked"]


def test_the_fingerprint_that_any_machine_prints_is_that_of_the_packing_slip(journey):
    (fingerprint,) = re.findall(r"^fingerprint +(\S+)$", journey.said["slip"], re.MULTILINE)

    assert journey.said["inspected"].splitlines()[-1] == f"signed by {fingerprint}"
    assert journey.said["looked"] == journey.said["inspected"]


def test_the_packing_slip_tells_what_the_page_tells_to_type(journey):
    told = [line.strip() for line in journey.said["slip"].splitlines() if line.startswith("  python")]

    assert told == [text.strip().replace("/media/a07", "PATH") for text in (LOOK, RECEIVE)]


def test_everything_is_received_and_nothing_is_left_to_abandon(journey):
    said, count = journey.said, len(journey.names)

    assert f"may be unplugged: {count} of {count} files are held here" in said["received"]
    assert said["told"].splitlines()[0].split("\t")[:3] == ["A07", "chajnantor", "done"]
    assert said["told"].splitlines()[1:] == said["received"].splitlines()
    assert "There is nothing to give up." in said["abandoned"]
    assert "exit 2" in said["abandoned"]


def test_what_is_confirmed_is_released_wiped_and_carried_again(journey):
    said, count = journey.said, len(journey.names)

    assert f"confirmed: {count} files" in said["released"]
    assert re.findall(r"^(\w+ ?\w*) the drive 'A07'", said["released"], re.MULTILINE) == ["Would release", "Released"]
    assert "is empty, and in its round 2" in said["again"]


def test_the_page_knows_what_is_said_where_nothing_is_received(journey):
    told = {cells[0]: cells[1] for cells in rows(section(PAGE, "### When it does not begin"))}
    told.pop("what it says")
    patterns = {row: row.split("*")[1].replace("…", ".+") for row in told}

    met = [[row for row, pattern in patterns.items() if re.search(pattern, said)] for said in journey.refusals]

    assert [len(found) for found in met] == [1] * len(journey.refusals), journey.refusals
    assert {found[0] for found in met} == set(told)
