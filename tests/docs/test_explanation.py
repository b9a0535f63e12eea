"""What the explanations say is what the code does, where a table can be compared with a table."""

import inspect
import re

import pytest

from librarian import states
from librarian.errors import LibrarianError
from librarian.states import BatchState, DueState, Intent, Presence, Role, Settlement, TransferState, Way
from librarian.tasks import everything
from librarian.tasks.base import Task
from librarian.wire.clones import NoticeAnswer, NoticeState, Verdict
from tests.docs.pages import DOCS, TOP, rows, section
from tests.test_architecture import LAYERS

MACHINES = DOCS / "explanation" / "state-machines.md"
ARCHITECTURE = DOCS / "explanation" / "architecture.md"
BETWEEN = DOCS / "explanation" / "between-sites.md"
GLOSSARY = DOCS / "explanation" / "glossary.md"
#: Our nouns and verbs.
WORDS = [
    *("site", "peer", "store", "staging", "entry point", "batch", "rule", "copy due", "drive", "manifest"),
    *("file", "book", "member", "instance", "remote instance", "incoming transfer", "outgoing transfer"),
    *("offer", "verdict", "notice", "claim", "ingest", "clone", "scrub", "mend", "withdraw", "seal"),
]
NEVER = re.compile(r"\b(manager|handler|util|helper|hypervisor)s?\b", re.IGNORECASE)


def told_moves(heading):
    found = {cells[0]: set(cells[1].split(", ")) - {"–"} for cells in rows(section(MACHINES, heading))}
    found.pop("from")
    return found


@pytest.mark.parametrize(
    ("heading", "moves"),
    [
        ("## Incoming transfer", states.INCOMING_MOVES),
        ("## Outgoing transfer", states.OUTGOING_MOVES),
        ("## Batch", states.BATCH_MOVES),
        ("## Drive", states.DRIVE_MOVES),
    ],
    ids=["incoming", "outgoing", "batch", "drive"],
)
def test_the_moves_that_are_told_are_those_that_are_allowed(heading, moves):
    assert told_moves(heading) == {state.value: {each.value for each in targets} for state, targets in moves.items()}


@pytest.mark.parametrize("heading", ["## Incoming transfer", "## Batch"])
def test_the_moves_that_are_drawn_are_allowed(heading):
    drawn = re.findall(r"^    (\w+) --> (\w+)", section(MACHINES, heading), re.MULTILINE)

    assert drawn
    assert [move for move in drawn if move[1] not in told_moves(heading)[move[0]]] == []


@pytest.mark.parametrize("way", Way, ids=str)
def test_what_settles_a_disagreement_is_told_for_every_pair_of_states(way):
    parts = re.split(r"^Incoming, ", section(MACHINES, "## When two sites disagree"), flags=re.MULTILINE)
    told = {
        (ours, theirs): cells[2]
        for cells in rows(parts[0 if way is Way.OUT else 1])
        if len(cells) == 3
        for ours in cells[0].split(", ")
        for theirs in cells[1].split(", ")
    }
    mine = [state for state in TransferState if way is Way.IN or state is not TransferState.INGESTING]
    others = [None, *(state for state in TransferState if way is Way.OUT or state is not TransferState.INGESTING)]
    told.pop(("ours", "theirs"))

    assert told == {
        (ours.value, theirs.value if theirs else "unknown"): states.settle(ours, theirs, way).value
        for ours in mine
        for theirs in others
    }


@pytest.mark.parametrize("state", [*Settlement, *DueState, *Presence, *Intent, *BatchState, *TransferState], ids=str)
def test_every_state_is_told(state):
    assert re.search(rf"\b{state.value}\b", MACHINES.read_text())


def test_every_verdict_notice_and_answer_is_told():
    kinds = [kind.model_fields["verdict"].default for kind in Verdict.__args__[0].__args__]
    names = [*kinds, *NoticeState.__args__, *NoticeAnswer.model_fields["answer"].annotation.__args__]

    assert [name for name in names if f"| `{name}`" not in BETWEEN.read_text()] == []


def test_the_layers_that_are_told_are_those_that_are_held_to():
    cells = [cells for cells in rows(section(ARCHITECTURE, "## Layers")) if cells[0].isdigit()]
    told = {unit.strip("/"): int(layer) for layer, units, _ in cells for unit in re.findall(r"`([\w/]+)`", units)}
    there = {path.name.removesuffix(".py") for path in (TOP / "src" / "librarian").iterdir()} & set(LAYERS)

    assert told == {unit: LAYERS[unit] for unit in there - {"__init__"}}


def test_the_loops_that_are_told_are_those_that_run():
    told = {cells[0].strip("`") for cells in rows(section(ARCHITECTURE, "## What runs"))} - {"loop"}

    assert told == {kind.name for _, kind in inspect.getmembers(everything, inspect.isclass) if issubclass(kind, Task)}


def test_every_step_at_which_tests_cut_the_power_is_told():
    source = "".join(path.read_text() for path in (TOP / "src" / "librarian").rglob("*.py"))
    told = " ".join(section(DOCS / "explanation" / "failure-model.md", "## Named steps").split())

    steps = set(re.findall(r"guard\.step\(\"([^\"]+)\"\)", source))

    assert len(steps) > 10
    assert [step for step in sorted(steps) if f"`{step}`" not in told] == []


@pytest.mark.parametrize("word", [*WORDS, *(role.value for role in Role)])
def test_the_glossary_has_our_words(word):
    assert re.search(rf"^\| .*\b{word}\b", GLOSSARY.read_text(), re.MULTILINE)


def test_no_module_is_named_for_what_says_nothing():
    names = [path.stem for path in (TOP / "src" / "librarian").rglob("*.py")]

    assert [name for name in names if NEVER.search(name)] == []


def test_refusals_of_offers_are_told_by_their_codes():
    source = (TOP / "src" / "librarian" / "verdicts.py").read_text()
    codes = set(re.findall(r"code=\"(\w+)\"", source)) | {LibrarianError.__subclasses__()[1].code}
    told = section(BETWEEN, "## Offers and verdicts")

    assert [code for code in sorted(codes - {"unavailable"}) if f"`{code}`" not in told] == []
