"""A new user who types what the pages say, word for word, with an empty home and real servers."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.docs.pages import DOCS, TOP, blocks
from tests.docs.users import PORT, User, run_again

TUTORIAL = DOCS / "tutorial" / "first-upload.md"
BACKUP = DOCS / "how-to" / "back-up-and-restore.md"
PAIR = DOCS / "how-to" / "pair-two-sites.md"
README = TOP / "README.md"


@dataclass(frozen=True)
class Learned:
    """What the tutorial came to: the user, whose server still runs, and what was printed."""

    user: User
    printed: str


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> Iterator[Learned]:
    """Somebody who went through the tutorial to its end."""
    first, *others = (block.text for block in blocks(TUTORIAL, "sh"))
    user = User(tmp_path_factory.mktemp("home"))
    try:
        user.starts(first)
        yield Learned(user, user.types(*others))
    finally:
        user.stops()


def test_the_tutorial_works_as_it_is_printed(learned):
    lines = learned.printed.splitlines()
    home, copy = learned.user.home, learned.user.home / ".local/state/librarian/store/2026/11/book-001"

    assert "you are ana (uploader)" in learned.printed
    assert [line.split("\t")[0] for line in lines if line.startswith(("uploaded\t", "already held\t"))] == [
        "uploaded",
        "already held",
    ]
    assert str(copy) in lines
    assert (home / "copy-of-book" / "visdata").read_bytes() == (copy / "visdata").read_bytes()


def test_the_password_of_the_admin_is_printed_as_the_tutorial_says(learned):
    (told,) = [block.text.split(":")[0] for block in blocks(TUTORIAL, "text")]

    assert [line.split(":")[0] for line in learned.user.log.splitlines() if "Password" in line] == [told]


def test_the_connection_of_the_tutorial_needs_nothing_else(learned):
    (settings,) = [block.text for block in blocks(TUTORIAL, "toml")]
    file = learned.user.home / ".config" / "librarian" / "client.toml"
    file.parent.mkdir(parents=True)
    file.touch(mode=0o600)
    file.write_text(settings.replace(PORT, f"127.0.0.1:{learned.user.port}"))

    assert "you are ana (uploader)" in learned.user.types("librarian ping")


def test_the_python_of_the_readme_works_as_it_is_printed(learned):
    (code,) = [block.text for block in blocks(README, "python")]
    folder = learned.user.home / "python"
    shutil.copytree(learned.user.home / "book-001", folder / "book-001")

    learned.user.types(f"cd python\npython - <<'END'\n{code}END")

    assert (folder / "copy-of-book" / "notes.txt").read_text() == "first light\n"


def test_the_lines_for_curl_work_as_they_are_printed(learned):
    (code,) = [block.text for block in blocks(README, "sh") if "curl" in block.text]
    content = os.urandom(100_000)
    (learned.user.home / "run.h5").write_bytes(content)

    told = learned.user.types(code)

    assert '"state": "completed"' in told
    assert '"name": "2026/11/run.h5"' in told
    assert (learned.user.home / ".local/state/librarian/store/2026/11/run.h5").read_bytes() == content


def test_a_backup_is_made_and_restored_as_the_page_says(learned, tmp_path):
    user = learned.user
    back_up, check, restore, acknowledge = (
        block.text.replace("/backups", str(tmp_path)).replace("~/broken", str(tmp_path / "broken"))
        for block in blocks(BACKUP, "sh")
        if "drive init" not in block.text
    )
    user.types(back_up)
    user.types(f"{blocks(TUTORIAL, 'sh')[2].text}librarian upload book-001/notes.txt 2026/after-the-backup")

    checked = user.types(check)
    user.stops()
    user.types(restore)
    user.serves()
    told = user.types(acknowledge)

    assert checked.count("is sound") == 2
    assert "ALERT This catalog was restored from a backup" in told
    assert "Acknowledged" in told
    assert "2026/11/book-001" in user.types(blocks(TUTORIAL, "sh")[2].text, "librarian search '*'")


def steps(users: dict[str, User]) -> Iterator[tuple[User, str]]:
    """Each block of the how-to with the user whose site stands above it, reaching the other on loopback."""
    at = None
    for line in re.split(r"(?=^At \w+|^```sh$)", PAIR.read_text(), flags=re.MULTILINE):
        if (named := re.match(r"At (\w+)", line)) is not None:
            at = users[named[1]]
        elif line.startswith("```sh") and at is not None:
            text = line.removeprefix("```sh\n").partition("```")[0]
            for name, user in users.items():
                text = text.replace(f"https://librarian.{name}.example", f"http://127.0.0.1:{user.port}")
            yield at, text


def test_two_sites_are_paired_as_the_page_says(two):
    sender, receiver = two.values()
    (rule,) = [block.text for block in blocks(PAIR, "toml")]
    tutorial = [block.text for block in blocks(TUTORIAL, "sh")]
    typed = steps(two)

    token = sender.types(next(typed)[1]).strip()
    joined = receiver.types(re.sub(r"librarian-invitation-\S+", token, next(typed)[1]))
    found = sender.types(next(typed)[1])
    sender.types(tutorial[1], "unset LIBRARIAN_CONFIG", *tutorial[2:4])
    with (sender.home / "site.toml").open("a") as settings:
        settings.write(rule)
    checked = [user.types(text) for user, text in [next(typed)]]
    run_again(sender)
    watched = [user.types(text) for user, text in typed]
    show = "until librarian show 2026/11/book-001 | grep nersc; do :; done"
    known = sender.types(tutorial[2], show)

    assert "Paired with 'chajnantor'" in joined
    assert {line.split()[0] for line in found.splitlines()} == {"ok"}
    assert ["can work" in text for text in checked] == [True]
    assert ["everything-to-nersc" in text for text in watched] == [True]
    assert "nersc (fast), attested" in known
    assert (receiver.home / "store/2026/11/book-001/notes.txt").read_text() == "first light\n"
