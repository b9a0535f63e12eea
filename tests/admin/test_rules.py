"""Rules from the command line, at a site that no server serves, for a peer that one does."""

import asyncio
import json

import pytest

from tests.admin.conftest import PASSWORD
from tests.serving import servers


@pytest.fixture(scope="module")
def nersc(tmp_path_factory):
    with servers(tmp_path_factory.mktemp("nersc")) as make:
        made = make("nersc")
        made.start(LIBRARIAN__NAME="nersc")
        asyncio.run(made.ready())
        yield made


@pytest.fixture
def here(admin, idle, nersc):
    """Run a command at a site that knows nersc."""
    admin("--config", nersc.config, "account", "create", "chajnantor", "--role", "upstream", stdin=PASSWORD)
    added = idle("peer", "add", "nersc", nersc.url, "--user", "chajnantor", stdin=PASSWORD)
    assert added.code == 0, added.err
    return idle


def test_a_rule_is_added_listed_and_removed(here):
    added = here("rule", "add", "everything", "--to", "nersc")
    listed = here("rule", "list")
    dry = here("rule", "remove", "everything", "--dry-run")
    removed = here("rule", "remove", "everything")

    told = "the rule 'everything': 0 copies (0 B) owed no longer; on their way, and arriving all the same: 0."
    assert added.out == "The rule 'everything' sends * to nersc.\n"
    assert listed.out == "everything\tnersc\t*\tany\tyes\t100 %\t0\tcatalog\n"
    assert (dry.out, removed.out) == (f"Would remove {told}\n", f"Removed {told}\n")
    assert here("rule", "list").out == ""


def test_every_option_of_a_rule_is_kept(here):
    options = ["--match", "2026/*", "--match", "2027/*", "--engine", "globus", "--engine", "http", "--priority", "-3"]
    bounds = ["--batch-files", "7", "--batch-size", "1TB", "--batch-age", "10 min", "--min-age", "2 days"]

    added = here("rule", "add", "nights", "--to", "nersc", *options, *bounds, "--window", "20:00-06:00 UTC", "--json")

    assert json.loads(added.out)["policy"] == {
        "peer": "nersc",
        "stores": [],
        "copies": "any",
        "match": ["2026/*", "2027/*"],
        "from_store": None,
        "min_age": "P2D",
        "engines": ["globus", "http"],
        "batch_files": 7,
        "batch_bytes": 10**12,
        "batch_age": "PT10M",
        "priority": -3,
        "windows": ["20:00-06:00 UTC"],
    }


def test_why_tells_the_engines_and_what_keeps_files_back(here):
    here("rule", "add", "everything", "--to", "nersc")
    here("peer", "limit", "nersc", "--window", "00:00-24:00 UTC")
    here("peer", "pause", "nersc")

    lines = here("rule", "why", "everything").out.splitlines()

    assert lines[:2] == ["rule 'everything': * to nersc, back-filled 100 %", "kept back: it is paused"]
    assert "from 'main' to 'fast': by local" in lines
    assert "  not by globus: it is not set up at this site. Add [globus] to the settings, and restart." in lines
    assert lines[-1] == "nothing is due"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "nights", "--to", "atlantis"], "no peer is called 'atlantis'"),
        (["add", "nights", "--to", "nersc", "--from", "cellar"], "there is no store 'cellar'"),
        (["add", "nights", "--to", "nersc", "--batch-size", "much"], "'much' is not a size"),
        (["add", "nights", "--to", "nersc", "--engine", "pigeon"], "engines"),
        (["add", "nights", "--to", "nersc", "--window", "at night"], "'at night' is not a window"),
        (["add", "Two Words", "--to", "nersc"], "cannot be a rule's name"),
        (["remove", "nights"], "no rule is called 'nights'"),
        (["why", "nights"], "no rule is called 'nights'"),
    ],
)
def test_what_the_caller_got_wrong_is_told(here, arguments, words):
    refused = here("rule", *arguments)

    assert (refused.code, refused.out) == (2, "")
    assert words in refused.err


def test_rules_onto_stores_and_drives_are_told_apart(here):
    copied = here("rule", "add", "second", "--store", "slow", "--store", "spare")
    carried = here("rule", "add", "post", "--to", "nersc", "--drive", "A*")
    refused = here("rule", "add", "odd", "--drive", "A*")

    assert copied.out == "The rule 'second' copies * to any of slow spare.\n"
    assert carried.out == "The rule 'post' carries * to nersc on A*.\n"
    assert (refused.code, "--to PEER --drive GLOB" in refused.err) == (2, True)
