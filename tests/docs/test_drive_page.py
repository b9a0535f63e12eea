"""The pages about drives, typed as they stand there: one that is shipped, twice, and is damaged and lost in between.

Two sites that cannot call each other while it travels.
"""

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
from tests.commands import Outcome, run_command
from tests.crash.harness import until
from tests.docs.pages import DOCS, blocks, blocks_in, rows, section
from tests.docs.test_walkthrough import TUTORIAL
from tests.docs.users import User, a_site, two_sites
from tests.drives import device_in
from tests.site_fixtures import basic

PAGE = DOCS / "how-to" / "ship-a-drive.md"
DAMAGED = DOCS / "how-to" / "a-drive-was-damaged.md"
LOST = DOCS / "how-to" / "a-drive-was-lost.md"
#: It is a long journey.
pytestmark = pytest.mark.timeout(600)


def typed(heading: str) -> list[str]:
    return [block.text for block in blocks_in(section(PAGE, heading), "sh")]


MAKE, RULE, LIST, SEAL, CHECK, UNMOUNT = typed("## At the site that sends")
(INSPECT,) = typed("## On the way")
MOUNT, LOOK, RECEIVE, RECEIVED, AWAY, GIVE_UP = typed("## At the site that receives")
RELEASE, AGAIN = typed("## Back at the site that sends")
GIVE_UP_BAD, REASONS, UNWANTED, TOLD, REWRITE, EXPORT, REPLACE = (block.text for block in blocks(DAMAGED, "sh"))
STAKES, LOSE, KEEP, FOUND = (block.text for block in blocks(LOST, "sh"))


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

    def unmounts(self, text: str) -> None:
        """Type *text* again while the drive is busy, as the page says: a server may look at it just now."""
        self.types(f"until {text.strip()} 2> busy; do grep -q busy busy; done")

    def orders(self, text: str) -> Outcome:
        """What the last of the commands of *text* says, of which none but that may fail."""
        *before, done = self.user.orders(self.named(text))
        assert [each.err for each in before if each.code] == []
        return done

    def says(self, text: str) -> str:
        """What all the commands of *text* say, of which none may fail."""
        done = self.user.orders(self.named(text))
        assert [each.err for each in done if each.code] == []
        return "".join(each.out for each in done)

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
    """What was printed on the way, and who stands where at its end."""

    sender: Carrier
    receiver: Carrier
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
        token = sender.says("python -m librarian.admin peer invite nersc").strip()
        receiver.says(f"python -m librarian.admin peer join {token}")
        account, connect = (block.text for block in blocks_in(TUTORIAL.read_text(), "sh")[1:3])
        sender.types(account, "unset LIBRARIAN_CONFIG", connect, f"librarian upload {hera}/* 2026/11/")
        names = sorted(f"2026/11/{each.name}" for each in hera.iterdir())
        said = send(sender, files=len(names))
        refusals = list(refused(receiver, folder))
        said |= arrive(receiver)
        sender.user.serves()
        sender.waits_for("confirmed", files=len(names))
        said["released"] = sender.says(RELEASE)
        mount, wipe = AGAIN.splitlines()
        sender.types(mount)
        said["again"] = sender.says(f"{wipe} --yes")
        sender.unmounts(UNMOUNT)
        yield Journey(sender, receiver, said, names, refusals)


def send(sender: Carrier, *, files: int) -> dict[str, str]:
    said = {"made": sender.types(MAKE), "ruled": sender.says(RULE)}
    sender.waits_for("loading", files=files)
    said |= {"listed": sender.says(LIST), "sealed": sender.types(SEAL), "checked": sender.says(CHECK)}
    sender.unmounts(UNMOUNT)
    said["slip"] = (sender.user.home / "slip.txt").read_text()
    # From here on nobody can call anybody.
    sender.user.stops()
    return said


def arrive(receiver: Carrier) -> dict[str, str]:
    receiver.types(MOUNT)
    said = {"looked": receiver.says(LOOK), "received": receiver.says(RECEIVE), "told": receiver.says(RECEIVED)}
    abandoned = receiver.orders(GIVE_UP)
    said["abandoned"] = f"{abandoned.err}exit {abandoned.code}"
    receiver.unmounts(AWAY)
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
    receiver.unmounts(AWAY)


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

    assert INSPECT == LOOK
    assert journey.said["looked"].splitlines()[-1] == f"signed by {fingerprint}"


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


@dataclass(frozen=True)
class Damage:
    """What was said of a drive that was damaged here and there, and then given up."""

    found: Outcome
    rewritten: Outcome
    tried: Outcome
    received: Outcome
    reasons: Outcome
    shown: str
    why: str
    stakes: Outcome
    lost: Outcome
    released: Outcome


@pytest.fixture(scope="module")
def damage(journey) -> Damage:
    """The next round of the drive of the journey: on it is a book, and two files."""
    sender, receiver = journey.sender, journey.receiver
    sender.types(AGAIN.splitlines()[0])
    load_more(sender)
    sender.says(SEAL.splitlines()[0])
    cut(sender.place)
    rewritten = sender.orders(REWRITE)
    spoil(sender.place / "2026/11")
    found = sender.orders(CHECK)
    cut(sender.place)
    sender.unmounts(UNMOUNT)
    receiver.types(MOUNT.replace("-o ro ", ""))
    sender.says(EXPORT)
    shutil.copy(sender.user.home / "a07.manifest", receiver.user.home)
    try_it, put_it = REPLACE.splitlines()
    tried = receiver.orders(try_it)
    receiver.types(put_it)
    received, reasons = receiver.orders(RECEIVE), receiver.orders(REASONS)
    receiver.unmounts(AWAY)
    sender.waits_for("received", files=0)
    show, why = TOLD.splitlines()
    told = sender.orders(show).out, sender.orders(why).out
    sender.says(UNWANTED)
    stakes, lost = sender.orders(STAKES), sender.orders(LOSE)
    return Damage(found, rewritten, tried, received, reasons, *told, stakes, lost, released=sender.orders(KEEP + FOUND))


def load_more(sender: Carrier) -> None:
    folder = sender.user.home / "more"
    for name in ("one", "two", "book/visdata"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 100)
    connect = blocks(TUTORIAL, "sh")[2].text
    sender.types("unset LIBRARIAN_CONFIG", connect, f"librarian upload {folder}/* 2026/11/")
    sender.waits_for("loading", files=3)


def spoil(folder: Path) -> None:
    for path in (folder / "one", folder / "book/visdata"):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes().upper())
    (folder / "two").unlink()


def test_what_is_bad_on_a_drive_is_named_as_the_page_shows(damage):
    (shown,) = [block.text for block in blocks(DAMAGED, "text")]
    pattern = {re.sub(r"digest \w+…? instead of \w+…?", "digest", line) for line in shown.splitlines()[:3]}

    said = {re.sub(r"digest \w+ instead of \w+", "digest", line) for line in damage.found.out.splitlines()[:3]}

    assert said == pattern
    assert damage.found.code == 4


def test_a_damaged_manifest_is_replaced_at_the_source_and_on_the_way(damage):
    assert damage.rewritten.out.splitlines()[-2] == "3 files, 1.8 kB: all good"
    assert damage.tried.out == damage.found.out


def test_bad_entries_are_told_with_codes_that_the_page_knows_and_are_due_again(damage):
    told = {cells[0].strip("`"): cells[2] for cells in rows(section(DAMAGED, "## Found while it is received"))}

    codes = {name: code for name, code, _ in (line.split("\t") for line in damage.reasons.out.splitlines()[1:])}

    assert damage.received.code == 4
    assert codes == {
        "2026/11/one": "entry_differs",
        "2026/11/two": "entry_missing",
        "2026/11/book": "entry_differs",
    }
    assert {told[code] for code in codes.values()} == {"due again by itself"}
    assert "failed: 3 files" in damage.shown
    assert "settled, by nersc: it holds 0 files, and did not take 3 files" in damage.shown
    assert "The copy on A07 is corrupt" in damage.why
    assert "by-suitcase asks for waits since" in damage.why


def test_a_drive_is_given_up_and_found_again_as_the_page_says(damage):
    assert "Would give up the drive 'A07' for lost" in damage.stakes.out
    assert "Gave up the drive 'A07' for lost" in damage.lost.out
    assert "not confirmed: 0 files" in damage.lost.out
    assert "Released the drive 'A07'" in damage.released.out
