"""Two commands, and two real servers exchange files although only one of them can be called."""

import asyncio
import json

import pytest

from librarian.admin.commands import main
from librarian.client import connect
from tests.commands import run_command
from tests.crash.harness import until
from tests.serving import servers

RULE = '[[rules]]\nname = "all"\npeer = "{peer}"\nmatch = ["{match}"]\nengines = ["{engine}"]\n'
BRISK = "[clones]\ninterval = 0.2\n"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """chajnantor, and nersc, which tells a URL at which nobody answers; joined by the two commands."""
    with servers(tmp_path_factory.mktemp("pair")) as make:
        chajnantor = make("chajnantor", settings=RULE.format(peer="nersc", match="2026/*", engine="local") + BRISK)
        nersc = make(
            "nersc",
            top='public_url = "http://127.0.0.1:9"',
            settings=RULE.format(peer="chajnantor", match="calibration/*", engine="http") + BRISK,
        )
        chajnantor.start()
        nersc.start(LIBRARIAN__NAME="nersc")
        for server in (chajnantor, nersc):
            asyncio.run(server.ready())
        invited = run_command(main, "--config", chajnantor.config, "peer", "invite", "nersc", "--direction", "both")
        joined = run_command(main, "--config", nersc.config, "peer", "join", "-", stdin=invited.out)
        yield chajnantor, nersc, invited, joined


def upload(server, name, tmp_path):
    """Upload a file called *name*, and wait until a copy of it is known at the other site."""
    (tmp_path / "source").write_bytes(name.encode())
    librarian = connect(server.url, user="admin", password=server.password)
    librarian.upload(tmp_path / "source", name)

    async def is_there():
        return (await asyncio.to_thread(librarian.describe, name)).remote_instances

    return [copy.peer for copy in asyncio.run(until(is_there))]


def test_the_token_is_one_line_and_all_that_is_printed(pair):
    _, _, invited, _ = pair

    assert (invited.code, invited.err) == (0, "")
    assert invited.out.startswith("librarian-invitation-1.")
    assert invited.out.count("\n") == 1


def test_joining_tells_what_came_of_it(pair):
    chajnantor, _, _, joined = pair

    assert (joined.code, joined.err) == (0, "")
    assert joined.out.splitlines() == [
        f"Paired with 'chajnantor' at {chajnantor.url}.",
        "  store 'fast' by http",
        f"  store 'fast' by local: {chajnantor.folder}/fast/staging",
        "It cannot call this site: what it has to say is fetched from there.",
        "See that all is well: python -m librarian.admin peer check chajnantor",
    ]


def test_files_reach_a_server_that_cannot_be_called(pair, tmp_path):
    assert upload(pair[0], "2026/run", tmp_path) == ["nersc"]
    assert (pair[1].folder / "fast" / "root" / "2026" / "run").read_bytes() == b"2026/run"


def test_a_server_that_cannot_be_called_sends_files(pair, tmp_path):
    assert upload(pair[1], "calibration/bias", tmp_path) == ["chajnantor"]


def test_a_check_says_line_by_line_how_the_peer_is(at):
    checked, in_json = at("peer", "check", "nersc"), at("peer", "check", "nersc", "--json")

    assert checked.code == 0
    assert checked.out.splitlines()[0] == "ok      reach: nersc cannot be called from here; it fetches, and answers"
    assert "warning http to fast: nersc cannot be called from here\n" in checked.out
    assert json.loads(in_json.out)["verdict"] == "warning"


def test_passwords_are_changed_by_the_site_that_can_call(at, at_nersc):
    refused, done = at("peer", "rotate", "nersc"), at_nersc("peer", "rotate", "chajnantor")

    assert (refused.code, refused.out) == (2, "")
    assert "nersc cannot be called from here" in refused.err
    assert done.out == "The passwords between 'chajnantor' and this site are new.\n"


def test_joining_needs_a_server_that_can_be_called_back(idle, at):
    refused = idle("peer", "join", at("peer", "invite", "berkeley").out.strip())

    assert refused.code == 2
    assert "no server runs here" in refused.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["invite", "New York"], "'New York' cannot be a site's name"),
        (["invite", "chajnantor"], "'chajnantor' is this site itself"),
        (["invite", "berkeley", "--direction", "sideways"], "direction"),
        (["invite", "berkeley", "--expires", "soon"], "'soon' is not a span"),
        (["invite", "berkeley", "--expires", "1s"], "valid_seconds"),
        (["join"], "no invitation in standard input"),
        (["join", "swordfish"], "no invitation of a librarian"),
        (["rotate", "atlantis"], "no peer is called 'atlantis'"),
        (["check", "atlantis"], "no peer is called 'atlantis'"),
    ],
)
def test_what_the_caller_got_wrong_exits_2_with_words(at, arguments, words):
    refused = at("peer", *arguments)

    assert (refused.code, refused.out) == (2, "")
    assert words in refused.err


def test_a_check_that_fails_exits_3(at, at_nersc):
    # The last test of these two: a disabled account, which goes on calling, is slowed down for a while.
    at("account", "disable", "nersc")

    failed = at_nersc("peer", "check", "chajnantor")

    assert failed.code == 3
    assert failed.out.startswith("failed  our login: chajnantor does not let us in as 'nersc'")
