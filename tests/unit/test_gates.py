"""Gates: what lets copies be offered, and what lets bytes move."""

from datetime import UTC, datetime

import pytest

from librarian.catalog.records import Peer
from librarian.gates import gate_of
from librarian.names import PeerId, SiteName
from librarian.states import Flow, Reach

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def a_peer(**changes):
    values = {
        "id": PeerId(1),
        "name": SiteName("nersc"),
        "url": "",
        "username": "",
        "reach": Reach.PUSH,
        "is_fetched": False,
        "is_enabled": True,
        "accepts": ("",),
        "entry_points": (),
        "held_because": None,
        "flow": Flow.OPEN,
        "rate_limit": None,
        "windows": (),
        "staged_budget": None,
        "seen_epoch": 0,
        "seen_seq": 0,
        "sent_seq": 0,
        "last_heard_at": None,
        "created_at": NOON,
    }
    return Peer(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "state", "may_offer", "may_move", "why"),
    [
        ({}, "open", True, True, ""),
        ({"is_enabled": False}, "disabled", False, False, "it is disabled"),
        ({"held_because": "it changed"}, "held", False, False, "it changed"),
        ({"flow": Flow.PAUSED}, "paused", False, False, "it is paused"),
        ({"flow": Flow.DRAINING}, "draining", False, True, "it is being drained"),
        ({"windows": ("11:00-13:00 UTC",)}, "open", True, True, ""),
        ({"windows": ("20:00-06:00 UTC",)}, "closed", False, False, "none of its windows is open: 20:00-06:00 UTC"),
        ({"windows": ("20:00-06:00 UTC", "11:00-13:00 UTC")}, "open", True, True, ""),
        ({"windows": ("20:00-06:00 UTC",), "flow": Flow.DRAINING}, "closed", False, False, "none of its windows"),
        ({"windows": ("20:00-06:00 Gone/Zone",)}, "closed", False, False, "no time zone is called 'Gone/Zone'"),
    ],
)
def test_what_may_go_to_a_peer_follows_from_its_row_and_the_clock(changes, state, may_offer, may_move, why):
    gate = gate_of(a_peer(**changes), now=NOON)

    assert (gate.state, gate.may_offer, gate.may_move) == (state, may_offer, may_move)
    assert gate.why.startswith(why)
    assert bool(gate.why) is not (may_offer and may_move)


def test_a_gate_tells_when_its_windows_open():
    gate = gate_of(a_peer(windows=("20:00-06:00 UTC",)), now=NOON)

    assert gate.changes_at == NOON.replace(hour=20)
