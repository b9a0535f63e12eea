"""Every page: its links lead somewhere, its lines can be read, its commands can be typed."""

import re

import pytest

from librarian.admin import reference
from tests.docs.pages import DOCS, GENERATED, PAGES, TOP, anchors, blocks, name_of, prose

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
LONGEST_LINE = 140
COMMANDS = {entry.path: entry for entry in reference.entries()}


def commands_of(page):
    """The commands of ours in *page*'s blocks, each as its words."""
    for block in blocks(page, "sh", "", "bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|(?!\|)|;|\$\(", line.partition(" #")[0]):
                words = part.split()
                if words[:1] == ["librarian"] or words[:3] == ["python", "-m", "librarian.admin"]:
                    yield words


def entry_of(words):
    """The entry that *words* begin with, and what is left of them."""
    path, rest = (words[0], words[1:]) if words[0] == "librarian" else (" ".join(words[:3]), words[3:])
    while rest and (longer := f"{path} {rest[0]}") in COMMANDS:
        path, rest = longer, rest[1:]
    return COMMANDS[path], rest


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page):
    broken = []
    for target in LINK.findall(prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)

    assert broken == []


def test_every_page_can_be_reached_from_the_first():
    seen, ahead = set(), {TOP / "README.md"}

    while ahead:
        page = ahead.pop()
        seen.add(page)
        links = {(page.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose(page))}
        ahead |= {link for link in links if link.suffix == ".md" and link.exists()} - seen

    assert [name_of(page) for page in DOCS.rglob("*.md") if page not in seen] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED], ids=name_of)
def test_lines_are_no_longer_than_people_read(page):
    long = [line for line in page.read_text().splitlines() if len(line) > LONGEST_LINE and not line.startswith("|")]

    assert long == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_on_a_page_exist_with_their_options(page):
    unknown = []
    for words in commands_of(page):
        entry, rest = entry_of(words)
        options = [word.partition("=")[0] for word in rest if re.fullmatch(r"-{1,2}[a-z][a-z-]*(=.*)?", word)]
        known = {*entry.words, *COMMANDS["python -m librarian.admin"].words, "--json", "--help", "-h"}
        if (entry.is_group and rest and not rest[0].startswith("-")) or not set(options) <= known:
            unknown.append(" ".join(words))

    assert unknown == []


@pytest.mark.parametrize(
    "page", [page for page in sorted((DOCS / "decisions").glob("*.md")) if page.name != "README.md"], ids=name_of
)
def test_a_decision_says_why_and_what_it_costs(page):
    text = page.read_text()

    assert [part for part in ("**Decision.**", "**Why.**", "**Price.**") if part not in text] == []


def test_a_change_that_users_see_is_one_sentence_about_what_was_done():
    notes = [note for note in (TOP / "changelog.d").iterdir() if note.name != "README.md"]

    assert notes
    assert [note.name for note in notes if not re.fullmatch(r"[a-z0-9-]+\.(added|changed|fixed)\.md", note.name)] == []
    assert [note.name for note in notes if len(note.read_text().strip().splitlines()) != 1] == []


def test_remedies_name_commands_that_exist():
    source = "".join(path.read_text() for path in sorted((TOP / "src" / "librarian").rglob("*.py")))
    groups = "|".join(
        path.rpartition(" ")[2] for path, entry in COMMANDS.items() if entry.is_group and path.count(" ") > 2
    )
    named = re.findall(rf"(?:librarian\.admin|run:) ((?:{groups}) [a-z]+)|'((?:{groups}) [a-z]+)'", source)
    commands = {"".join(each) for each in named}

    assert "restored acknowledge" in commands
    assert [words for words in sorted(commands) if f"python -m librarian.admin {words}" not in COMMANDS] == []
