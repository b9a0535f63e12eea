"""The pages on a link between two sites: what limits it, what stops on it, and one that goes one way only."""

import json
from collections.abc import Iterator

import pytest

from tests.docs.pages import DOCS, blocks, rows, section
from tests.docs.users import User, two_sites

LIMIT = DOCS / "how-to" / "limit-a-link.md"
HELD = DOCS / "how-to" / "when-a-transfer-is-held.md"
FIREWALL = DOCS / "how-to" / "behind-a-firewall.md"
TUTORIAL = DOCS / "tutorial" / "first-upload.md"


def typed(page) -> list[str]:
    return [block.text for block in blocks(page, "sh")]


@pytest.fixture(scope="module")
def sites(tmp_path_factory) -> Iterator[dict[str, User]]:
    """chajnantor and nersc, which nobody can call, as the page on firewalls pairs them; one file is at chajnantor."""
    with two_sites(tmp_path_factory.mktemp("link"), nersc='public_url = "http://127.0.0.1:9"\n') as users:
        yield users


@pytest.fixture(scope="module")
def paired(sites) -> dict[str, str]:
    """What was said while the two were paired."""
    sender, receiver = sites.values()
    invite, join = typed(FIREWALL)[0].splitlines()
    (invited,) = sender.orders(invite)
    (joined,) = receiver.orders(join.replace("librarian-invitation-1.eyJ1…", invited.out.strip()))
    assert (invited.code, joined.code) == (0, 0), joined.err
    return {"joined": joined.out}


@pytest.fixture
def sender(sites, paired) -> User:
    return sites["chajnantor"]


def peer_of(user: User) -> dict:
    (listed,) = user.orders("python -m librarian.admin peer list --json")
    return json.loads(listed.out)


def test_a_site_that_cannot_be_called_is_paired_and_checked_as_the_page_says(sender, paired):
    check = sender.orders(typed(FIREWALL)[1])[0]

    assert peer_of(sender)["reach"] == "poll"
    assert "what it has to say is fetched from there" in paired["joined"]
    assert check.code == 0, check.out + check.err
    assert "not http" not in check.out


def test_a_link_is_limited_as_the_page_says(sender):
    rate, window, budget, steering, rules, look = typed(LIMIT)
    said = [sender.orders(text) for text in (rate, window, budget)]
    limited = peer_of(sender)
    # Whatever the time of day is: outside of its window, a peer is called closed.
    said.append(sender.orders("python -m librarian.admin peer limit nersc --window always"))
    paused, drained, resumed = (sender.orders(line) and peer_of(sender)["state"] for line in steering.splitlines())
    said.append(sender.orders(rules))
    told = sender.orders(look)

    assert [each.err for outcomes in [*said, told] for each in outcomes if each.code] == []
    assert (limited["rate_limit"], len(limited["windows"]), limited["staged_budget"]) == (50_000_000, 2, 20 * 10**12)
    assert [paused, drained, resumed] == ["paused", "draining", "open"]
    assert {paused, drained, resumed} <= {word for cells in states() for word in cells[0].split(", ")}
    assert "by local" in told[1].out


def states() -> list[list[str]]:
    return list(rows(section(LIMIT, "## See what holds things up")))


def test_what_is_asked_about_a_file_that_is_held_is_answered_as_the_page_says(sender):
    why, lists, retry, cancel, notices = typed(HELD)
    sender.orders("python -m librarian.admin rule add all --to nersc\npython -m librarian.admin peer pause nersc")
    account, connect, upload = (block.text for block in blocks(TUTORIAL, "sh")[1:4])
    sender.types(account, "unset LIBRARIAN_CONFIG", connect, upload)

    (told,) = sender.orders(why)
    said = [*sender.orders(lists), *sender.orders(retry), *sender.orders(notices)]
    (cancelled,) = sender.orders(cancel)

    assert "rule all asks for waits since" in told.out
    assert "nothing new goes to nersc, it is paused" in told.out
    assert [each.err for each in said if each.code] == []
    assert (cancelled.code, cancelled.err) == (2, "See 'transfer list' for the ids.\n")
