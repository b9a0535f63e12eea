"""Peers: two real servers that come to know each other, and what goes wrong while they do."""

import asyncio
import json

import pytest

from librarian.admin.commands import main
from librarian.client import connect
from tests.admin.conftest import PASSWORD
from tests.certificates import make_certificate
from tests.commands import run_command
from tests.crash.harness import until
from tests.serving import servers

SETTINGS = '[[rules]]\nname = "nights"\npeer = "nersc"\nmatch = ["2026/*"]\n[clones]\ninterval = 0.2\n'


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """chajnantor, which must send every file below '2026/' to nersc, and nersc; each has an account at the other."""
    with servers(tmp_path_factory.mktemp("pair")) as make:
        chajnantor, nersc = make("chajnantor", settings=SETTINGS), make("nersc")
        chajnantor.start()
        nersc.start(LIBRARIAN__NAME="nersc")
        for server, other, role in ((chajnantor, "nersc", "callback"), (nersc, "chajnantor", "upstream")):
            asyncio.run(server.ready())
            options = ("account", "create", other, "--role", role)
            assert run_command(main, "--config", server.config, *options, stdin=PASSWORD).code == 0
        # A site that greets one that does not know it shows that as trouble.
        options = ("peer", "add", "chajnantor", chajnantor.url, "--user", "nersc")
        assert run_command(main, "--config", nersc.config, *options, stdin=PASSWORD).code == 0
        yield chajnantor, nersc


@pytest.fixture
def add(at, pair):
    """Add nersc at chajnantor, or try something that differs from it."""

    def run(*options, name="nersc", url=None, user="chajnantor", password=PASSWORD):
        return at("peer", "add", name, url or pair[1].url, "--user", user, *options, stdin=password)

    return run


@pytest.fixture
def acquainted(add, at_nersc, pair):
    """Both know each other."""
    add()
    at_nersc("peer", "add", "chajnantor", pair[0].url, "--user", "nersc", stdin=PASSWORD)


@pytest.fixture
def sent(acquainted, pair, tmp_path):
    """The name of a file that was uploaded at chajnantor and is known there to be at nersc too."""
    (tmp_path / "source").write_bytes(b"first light")
    librarian = connect(pair[0].url, user="admin", password=pair[0].password)
    librarian.upload(tmp_path / "source", "2026/run")

    async def is_there():
        return (await asyncio.to_thread(librarian.describe, "2026/run")).remote_instances

    asyncio.run(until(is_there))
    return "2026/run"


def test_a_peer_is_added_with_its_entry_points(add, pair):
    added = add()

    assert (added.code, added.err) == (0, "")
    assert added.out.splitlines() == [
        f"Added the peer 'nersc' at {pair[1].url}.",
        "  store 'fast' by http",
        f"  store 'fast' by local: {pair[1].folder}/fast/staging",
    ]


def test_the_entry_points_are_pinned(add, at):
    add()

    (peer,) = [json.loads(line) for line in at("peer", "list", "--json").out.splitlines()]

    assert [(point["store"], point["engine"]) for point in peer["entry_points"]] == [
        ("fast", "http"),
        ("fast", "local"),
    ]
    assert peer["held_because"] is None


def test_the_list_in_json_holds_no_password(add, at):
    add()

    listed = at("peer", "list", "--json").out

    keys = {"name", "url", "username", "reach", "is_enabled", "accepts", "entry_points", "held_because", "trouble"}
    keys |= {"is_fetched"}
    limits = {"rate_limit", "windows", "staged_budget"}
    traffic = {
        "state",
        "bytes_per_second",
        "seconds_left",
        "flow",
        "is_moving",
        "why_not",
        "changes_at",
        "due_files",
        "due_bytes",
        "quarantined_files",
    }
    assert json.loads(listed).keys() == keys | limits | {"last_heard_at", "created_at", "quarantined_bytes"} | traffic
    assert PASSWORD not in listed


def test_peers_are_listed_in_fields_that_can_be_cut(add, at, pair):
    add()

    assert at("peer", "list").out == f"nersc\t{pair[1].url}\topen\t0\t0\t0\t-\tpush\t-\n"


def test_adding_again_keeps_what_is_accepted_unless_something_else_is_said(add):
    narrowed = add("--accept", "2026/", "--accept", "2027/", "--json")
    kept = add("--json")
    widened = add("--accept", "", "--json")

    found = [json.loads(outcome.out)["accepts"] for outcome in (narrowed, kept, widened)]
    assert found == [["2026/", "2027/"], ["2026/", "2027/"], [""]]


def known(at):
    """What was said of the peers; when they were last heard is theirs to change."""
    told = ("name", "url", "username", "accepts", "entry_points", "is_enabled")
    return [{key: peer[key] for key in told} for peer in map(json.loads, at("peer", "list", "--json").out.splitlines())]


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"password": "another secret"}, 2, "does not let us in: the name or the password is wrong"),
        ({"user": "stranger"}, 2, "does not let us in"),
        ({"url": "http://127.0.0.1:9"}, 3, "does not answer: cannot reach http://127.0.0.1:9"),
        ({"url": "http://192.0.2.7:21108"}, 2, "would travel in the clear"),
        ({"url": "http://nersc.example"}, 2, "allow_plaintext"),
        ({"url": "ftp://127.0.0.1"}, 2, "is not the URL of a librarian"),
        ({"url": "http://ana:hush@127.0.0.1:9"}, 2, "carries no user, password"),
        ({"name": "berkeley"}, 2, "the site that answers is called 'nersc', not 'berkeley'"),
        ({"name": "chajnantor"}, 2, "'chajnantor' is this site itself"),
        ({"name": "New York"}, 2, "'New York' cannot be a site's name"),
        ({"user": "A B"}, 2, "'A B' cannot be an account's name"),
        ({"password": ""}, 2, "there is no password"),
    ],
)
def test_what_cannot_be_a_peer_is_refused_and_changes_nothing(add, at, changes, code, words):
    add()
    before = known(at)

    refused = add(**changes)

    assert (refused.code, refused.out) == (code, "")
    assert words in refused.err
    assert "hush" not in refused.err
    assert known(at) == before


def test_a_peer_whose_certificate_nobody_knows_is_told(add, pair):
    refused = add(url=pair[1].url.replace("http://", "https://"))

    assert refused.code == 3
    assert "does not answer" in refused.err


def test_an_account_that_is_none_of_a_peer_is_refused_with_the_role_to_ask_for(add, at_nersc):
    at_nersc("account", "create", "tourist", "--role", "reader", stdin=PASSWORD)

    refused = add(user="tourist")

    assert refused.code == 2
    assert "has the roles reader" in refused.err
    assert "'upstream'" in refused.err


def test_a_disabled_peer_is_sent_nothing_until_it_is_enabled(acquainted, at):
    disabled = at("peer", "disable", "nersc")
    listed = at("peer", "list").out
    enabled = at("peer", "enable", "nersc", "--json")

    assert disabled.out == "The peer 'nersc' is disabled.\n"
    assert listed.split("\t")[2] == "disabled"
    assert json.loads(enabled.out)["is_enabled"] is True


def test_a_peer_that_a_rule_names_cannot_be_removed(add, at):
    add()

    refused = at("peer", "remove", "nersc")

    assert refused.code == 2
    assert "cannot be forgotten: a rule sends there" in refused.err
    assert "Disable the peer instead" in refused.err


def test_a_peer_that_nothing_counts_on_is_removed(acquainted, at_nersc):
    told = {"name": "chajnantor", "untold": 0}

    dry = at_nersc("peer", "remove", "chajnantor", "--dry-run", "--json")
    kept = at_nersc("peer", "list").out
    removed = at_nersc("peer", "remove", "chajnantor", "--json")

    assert [json.loads(each.out) for each in (dry, removed)] == [
        told | {"is_dry_run": True},
        told | {"is_dry_run": False},
    ]
    assert (kept.split("\t")[7], at_nersc("peer", "list").out) == ("push", "")


@pytest.mark.parametrize("command", ["enable", "disable", "remove", "pause", "resume", "drain"])
def test_a_peer_that_is_not_there_is_told(at, command):
    refused = at("peer", command, "atlantis")

    assert (refused.code, refused.out) == (2, "")
    assert "no peer is called 'atlantis'" in refused.err


def test_a_peer_can_be_added_while_no_server_runs(idle, pair, at_nersc):
    added = idle("peer", "add", "nersc", pair[1].url, "--user", "chajnantor", stdin=PASSWORD)

    assert added.code == 0
    assert idle("peer", "list").out.startswith("nersc\t")


def test_an_authority_is_taken_from_a_file_that_holds_no_key(add, tmp_path):
    certificate = make_certificate(tmp_path)
    (tmp_path / "both.pem").write_text(certificate.read_text() + (tmp_path / "certificate.pem.key").read_text())

    taken, none = add("--ca-file", certificate), add("--ca-file", tmp_path / "none.pem")
    both, none_again = add("--ca-file", tmp_path / "both.pem"), add("--ca-file", "system")

    assert [taken.code, none.code, both.code, none_again.code] == [0, 2, 2, 0]
    assert "or a key as well" in both.err


def test_rules_are_listed(add, at):
    add()

    listed, in_json = at("rule", "list"), at("rule", "list", "--json")

    assert listed.out.split("\t")[:5] == ["nights", "nersc", "2026/*", "any", "yes"]
    assert json.loads(in_json.out)["policy"]["match"] == ["2026/*"]


def test_a_transfer_is_seen_from_both_ends(sent, at, at_nersc):
    leaving = at("transfer", "list").out.rstrip("\n").split("\t")
    arriving = at_nersc("transfer", "list", "--way", "in").out.rstrip("\n").split("\t")

    assert leaving == [arriving[0], "nersc", "completed", "11", sent, "-"]
    assert arriving[1:] == ["chajnantor", "completed", "11", sent, "-"]


def test_one_transfer_is_shown_whole(sent, at):
    (listed,) = at("transfer", "list", "--json").out.splitlines()
    uuid = json.loads(listed)["uuid"]

    shown, for_people = at("transfer", "show", uuid, "--json"), at("transfer", "show", uuid)

    assert json.loads(shown.out) == json.loads(listed)
    assert f"uuid           {uuid}\n" in for_people.out


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--state", "completed"], 1),
        (["--state", "failed"], 0),
        (["--peer", "nersc", "--way", "out"], 1),
        (["--way", "in", "--peer", "nersc"], 0),
    ],
)
def test_transfers_are_chosen(sent, at, options, count):
    assert at("transfer", "list", *options).out.count("\n") == count


def test_more_transfers_than_asked_for_are_mentioned(sent, at, pair, tmp_path):
    (tmp_path / "more").write_bytes(b"x")
    connect(pair[0].url, user="admin", password=pair[0].password).upload(tmp_path / "more", "here/only")

    listed = at("transfer", "list", "--way", "in", "-n", "1")

    assert listed.out.count("\n") == 1
    assert "There are more than 1" in listed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--way", "sideways"], "sideways"),
        (["list", "--state", "lost"], "lost"),
        (["list", "--peer", "atlantis"], "no peer is called 'atlantis'"),
        (["list", "-n", "0"], "--limit"),
        (["show", "nothing/such"], "no transfer has the uuid 'nothing/such'"),
    ],
)
def test_what_the_caller_got_wrong_exits_2_with_words(at, arguments, words):
    refused = at("transfer", *arguments)

    assert (refused.code, refused.out) == (2, "")
    assert words in refused.err


@pytest.mark.parametrize(
    ("command", "told", "listed"),
    [
        ("pause", "The peer 'nersc' is paused: nothing moves there.", ("paused", "it is paused")),
        (
            "drain",
            "The peer 'nersc' is being drained: nothing new is offered, what is on its way goes on.",
            ("draining", "it is being drained"),
        ),
        ("resume", "The peer 'nersc' is open.", ("open", "-")),
    ],
)
def test_what_goes_to_a_peer_is_switched_and_shown(acquainted, at, command, told, listed):
    said = at("peer", command, "nersc")
    fields = at("peer", "list").out.rstrip("\n").split("\t")

    assert said.out == f"{told}\n"
    assert (fields[2], fields[-1]) == listed


def test_limits_are_set_kept_and_taken_away(acquainted, at):
    window = "00:00-24:00 America/Santiago"

    first = at("peer", "limit", "nersc", "--rate", "50MB", "--budget", "20TB")
    second = at("peer", "limit", "nersc", "--window", window)
    last = at("peer", "limit", "nersc", "--rate", "none", "--window", "always", "--budget", "none")

    assert [said.out for said in (first, second, last)] == [
        "To the peer 'nersc': 50 MB/s; always; 20 TB in its staging.\n",
        f"To the peer 'nersc': 50 MB/s; {window}; 20 TB in its staging.\n",
        "To the peer 'nersc': any rate; always; any size in its staging.\n",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "there is no limit to set"),
        (["--rate", "fast"], "'fast' is not a size"),
        (["--rate", "0"], "'0' lets nothing through"),
        (["--window", "at night"], "'at night' is not a window"),
        (["--window", "20:00-06:00 Atacama/Chajnantor"], "no time zone is called 'Atacama/Chajnantor'"),
    ],
)
def test_limits_that_make_no_sense_are_refused(acquainted, at, options, words):
    refused = at("peer", "limit", "nersc", *options)

    assert (refused.code, refused.out) == (2, "")
    assert words in refused.err
