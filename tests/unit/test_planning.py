"""Planning: whose turn it is, and how much goes at once."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from librarian.catalog.records import Tally
from librarian.catalog.waiting import Candidate
from librarian.checksum import Checksum
from librarian.names import FileId, FileName, PeerId, RuleId, StoreName
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
    slow, quick, new = PeerId(1), PeerId(2), PeerId(3)
    under_way = {slow: 4, quick: 1}

    able = [
        planning.may_start(each, under_way=under_way, waiting=[slow, quick, new], most=7) for each in (slow, quick, new)
    ]

    assert able == [False, True, True]


def test_nothing_starts_when_every_place_is_taken():
    assert not planning.may_start(PeerId(1), under_way={PeerId(2): 7}, waiting=[PeerId(1)], most=7)


@given(
    under_way=st.dictionaries(st.integers(1, 6).map(PeerId), st.integers(0, 4)),
    waiting_peers=st.lists(st.integers(1, 6).map(PeerId), unique=True, min_size=1),
    most=st.integers(1, 12),
)
def test_as_many_may_start_as_there_are_places_and_none_passes_one_who_has_fewer(under_way, waiting_peers, most):
    able = {
        each
        for each in waiting_peers
        if planning.may_start(each, under_way=under_way, waiting=waiting_peers, most=most)
    }

    free = max(most - sum(under_way.values()), 0)
    assert len(able) == min(free, len(waiting_peers))
    most_of_able = max((under_way.get(each, 0) for each in able), default=0)
    assert all(under_way.get(each, 0) >= most_of_able for each in set(waiting_peers) - able)
