"""Which engine brings files to a peer, and why not the others."""

from dataclasses import replace

import pytest

from librarian.catalog.records import EntryPoint, Peer
from librarian.names import PeerId, SiteName, StoreName
from librarian.policies import ENGINES
from librarian.preflight import preflight, survey
from librarian.states import Flow, Reach
from librarian.timing import utc_now
from librarian.transfers.globus import GlobusEngine
from librarian.transfers.globus_account import Account, Credentials
from librarian.transfers.globus_desk import Desk
from librarian.transfers.http import HttpEngine
from librarian.transfers.local import LocalEngine
from tests.fakes.folder_port import FolderPort

FAST, DEEP = StoreName("fast"), StoreName("deep")


def pins(store, *engines):
    return tuple(EntryPoint(store=store, engine=engine, address="", staging="") for engine in engines)


PEER = Peer(
    id=PeerId(1),
    name=SiteName("nersc"),
    url="https://nersc.example",
    username="chajnantor",
    reach=Reach.PUSH,
    is_fetched=False,
    is_enabled=True,
    accepts=("",),
    entry_points=pins(FAST, *ENGINES),
    held_because=None,
    flow=Flow.OPEN,
    rate_limit=None,
    windows=(),
    staged_budget=None,
    seen_epoch=0,
    seen_seq=0,
    sent_seq=0,
    last_heard_at=None,
    created_at=utc_now(),
)


@pytest.fixture
def engines(tmp_path):
    """Those of a site that has no collection at Globus."""
    desk = Desk(Account(Credentials(client_id="client")))
    return {
        "http": HttpEngine(FolderPort(tmp_path)),
        "local": LocalEngine(),
        "globus": GlobusEngine(desk, site="chajnantor", collections=()),
    }


def looks_of(found):
    return {look.engine: look.why_not for look in found.looks}


def test_without_a_wish_the_first_that_can_be_used_of_all_is_taken(engines):
    found = preflight(PEER, engines, source=FAST, destination=FAST)

    assert found.engine == "local"
    assert looks_of(found) == {
        "globus": "it cannot read our store 'fast'",
        "rsync": "it is not set up at this site",
        "local": "",
        "http": "",
    }


def test_those_that_are_wanted_are_looked_at_in_their_order_and_no_others(engines):
    found = preflight(PEER, engines, source=FAST, destination=FAST, wanted=("http", "local"))

    assert (found.engine, list(looks_of(found))) == ("http", ["http", "local"])


def test_a_store_without_an_entry_point_is_reached_by_nothing(engines):
    found = preflight(PEER, engines, source=FAST, destination=DEEP, wanted=("local", "http"))

    assert found.engine is None
    assert found.why_not == (
        "local: no entry point of the store 'deep' at nersc is pinned; "
        "http: no entry point of the store 'deep' at nersc is pinned"
    )


def test_http_does_not_reach_a_peer_that_cannot_be_called(engines):
    peer = replace(PEER, reach=Reach.POLL)

    found = preflight(peer, engines, source=FAST, destination=FAST, wanted=("http",))

    assert found.why_not == "http: nersc cannot be called from here"


def test_whatever_cannot_be_used_says_what_to_do(engines):
    peer = replace(PEER, entry_points=pins(FAST, "globus"))

    found = preflight(peer, engines, source=FAST, destination=FAST)

    assert found.engine is None
    assert all(look.remedy for look in found.looks)


def test_a_survey_looks_at_every_pair_of_stores(engines):
    peer = replace(PEER, entry_points=pins(FAST, "http") + pins(DEEP, "local"))

    found = survey(peer, engines, sources=(FAST, StoreName("tape")))

    assert [(each.source, each.destination, each.engine) for each in found] == [
        ("fast", "deep", "local"),
        ("fast", "fast", "http"),
        ("tape", "deep", "local"),
        ("tape", "fast", "http"),
    ]
