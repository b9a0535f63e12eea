"""Planning: whose turn it is, and how much goes at once."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from librarian.catalog.records import Tally
from librarian.catalog.waiting import Candidate
from librarian.checksum import Checksum
from librarian.names import FileId, FileName, PeerId, RuleId, StoreName
from librarian.outcomes import BATCH_FAILED
from librarian.policies import RulePolicy
from librarian.states import Kind
from librarian.tasks import planning

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def a_policy(**more):
    return RulePolicy(peer="nersc", **more)


def waiting(*rules):
    """Rules 1, 2, …: pairs of (hours that its oldest copy has waited, priority)."""
    return {
        RuleId(number): (NOW - timedelta(hours=hours), a_policy(priority=priority))
        for number, (hours, priority) in enumerate(rules, start=1)
    }


def candidates(*sizes):
    return [
        Candidate(
            file_id=FileId(number),
            name=FileName(f"{number}"),
            kind=Kind.FILE,
            size=size,
            checksum=Checksum("xxh3:" + "0" * 32),
            uploader="",
            origin="",
            created_at=NOW,
            attempts=0,
            code=None,
            store=StoreName("fast"),
            uuid=None,
        )
        for number, size in enumerate(sizes)
    ]


def sizes(chosen):
    return [candidate.size for candidate in chosen]


def test_the_higher_priority_goes_first_and_among_equals_who_has_waited_longest():
    rules = waiting((1, 0), (3, 5), (2, 0), (4, 5))

    assert planning.in_turn(rules, offers=0) == [4, 2, 3, 1]


def test_a_low_priority_is_not_starved_by_a_high_one_that_never_ends():
    rules = waiting((2, -10), (1, 10))

    first = Counter(planning.in_turn(rules, offers=offers)[0] for offers in range(40))

    assert first == {2: 30, 1: 10}


def test_less_than_a_batch_waits_for_more_and_a_whole_one_does_not():
    policy = a_policy(batch_files=3, batch_bytes=100, batch_age=timedelta(minutes=5))

    when = [
        planning.fills_at(policy, since=NOW, sample=sample)
        for sample in (Tally(files=2, bytes=99), Tally(files=3, bytes=3), Tally(files=1, bytes=100))
    ]

    assert when == [NOW + timedelta(minutes=5), NOW, NOW]


@pytest.mark.parametrize(
    ("budget", "staged", "room"), [(None, 0, 100), (1000, 0, 100), (1000, 950, 50), (1000, 1200, -200)]
)
def test_a_budget_leaves_room_for_what_is_not_staged_yet(budget, staged, room):
    assert planning.room_of(a_policy(batch_bytes=100), budget=budget, staged=staged) == room


@pytest.mark.parametrize(
    ("given_sizes", "takes_one", "chosen"),
    [
        ((40, 60, 1), False, [40, 60]),
        ((40, 61, 1), False, [40]),
        ((101, 1), False, []),
        ((101, 1), True, [101]),
        ((), True, []),
    ],
)
def test_a_batch_holds_what_fits_in_the_order_of_waiting(given_sizes, takes_one, chosen):
    assert sizes(planning.within(candidates(*given_sizes), 100, takes_one=takes_one)) == chosen


def test_who_has_fewest_batches_comes_first_and_among_equals_who_has_waited_longest():
    slow, late, early = PeerId(1), PeerId(2), PeerId(3)
    under_way = {slow: 4, late: 1, early: 1}

    able = [
        planning.may_start(each, under_way=under_way, waiting=[slow, early, late], most=7)
        for each in (slow, late, early)
    ]

    assert able == [False, False, True]


def test_a_peer_that_has_no_batch_may_have_one_whatever_the_others_have():
    dead, new = PeerId(1), PeerId(2)

    able = [planning.may_start(each, under_way={dead: 9}, waiting=[dead, new], most=7) for each in (dead, new)]

    assert able == [False, True]


@given(
    under_way=st.dictionaries(st.integers(1, 6).map(PeerId), st.integers(1, 4)),
    waiting_peers=st.lists(st.integers(1, 6).map(PeerId), unique=True, min_size=1),
    most=st.integers(1, 12),
)
def test_who_has_none_may_start_and_the_places_that_are_free_go_to_those_who_have_fewest(
    under_way, waiting_peers, most
):
    able = {
        each
        for each in waiting_peers
        if planning.may_start(each, under_way=under_way, waiting=waiting_peers, most=most)
    }

    some = {each for each in waiting_peers if each in under_way}
    assert set(waiting_peers) - some <= able
    assert len(able & some) <= max(most - sum(under_way.values()), 0)
    most_of_able = max((under_way[each] for each in able & some), default=0)
    assert all(under_way[each] >= most_of_able for each in some - able)


def failed(*found, attempts=1):
    """Candidates that failed as a whole batch."""
    return [replace(candidate, code=BATCH_FAILED, attempts=attempts) for candidate in found]


def test_what_failed_as_a_whole_batch_goes_by_itself_and_in_smaller_ones():
    good, bad = candidates(*range(3)), failed(*candidates(*range(3, 40)))

    assert planning.apart([*bad, *good], most=512) == bad[:32]
    assert planning.apart([*good, *bad], most=512) == good
    assert planning.apart(failed(*bad, attempts=2), most=512) == failed(*bad[:2], attempts=2)
    assert planning.apart(failed(*bad, attempts=9), most=512) == failed(bad[0], attempts=9)


def test_nothing_is_kept_apart_where_nothing_failed():
    assert planning.apart([], most=512) == []
    assert planning.apart(candidates(1, 2), most=512) == candidates(1, 2)
