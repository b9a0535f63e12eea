"""The tables of what may follow what, and two sites that settle whatever stories they tell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from librarian.states import (
    BATCH_MOVES,
    INCOMING_MOVES,
    LIVE,
    OPEN,
    OUTGOING_MOVES,
    BatchState,
    Settlement,
    TransferState,
    Way,
    settle,
    sources_of,
)

TABLES = [INCOMING_MOVES, OUTGOING_MOVES, BATCH_MOVES]
T = TransferState


@pytest.mark.parametrize("moves", TABLES)
def test_from_every_state_an_end_can_be_reached(moves):
    ends = {state for state, targets in moves.items() if not targets}
    safe = set(ends)
    for _ in moves:
        safe |= {state for state, targets in moves.items() if targets & safe}

    assert safe == set(moves)


@pytest.mark.parametrize("moves", TABLES)
def test_every_state_that_is_reached_has_a_row(moves):
    assert frozenset().union(*moves.values()) <= set(moves)


@pytest.mark.parametrize("moves", TABLES)
def test_sources_and_targets_tell_the_same(moves):
    assert {(a, b) for b in moves for a in sources_of(moves, b)} == {(a, b) for a in moves for b in moves[a]}


def test_what_occupies_a_name_is_what_has_not_ended():
    assert {state for state, targets in INCOMING_MOVES.items() if targets} == LIVE
    assert OPEN < LIVE


def test_a_batch_may_be_given_up_in_every_state_that_is_no_end():
    assert sources_of(BATCH_MOVES, BatchState.CANCELLED) == {s for s, targets in BATCH_MOVES.items() if targets}


def act_out(ours, theirs):
    """Sender and receiver after the sender asked: what ``settle`` says is done, and the notice arrives."""
    match settle(ours, theirs, Way.OUT):
        case Settlement.OFFER_AGAIN if theirs is T.COMPLETED:
            # The receiver answers HELD, and attests.
            return T.COMPLETED, theirs
        case Settlement.OFFER_AGAIN:
            return T.ONGOING, theirs or T.INITIATED
        case Settlement.TELL_AGAIN:
            return ours, T.STAGED
        case Settlement.TELL_CANCELLED:
            return ours, T.CANCELLED
        case Settlement.FAIL:
            return T.FAILED, theirs
    return ours, theirs


def act_in(ours, theirs):
    """Receiver and sender after the receiver asked."""
    match settle(ours, theirs, Way.IN):
        case Settlement.STAGE:
            return T.STAGED, theirs
        case Settlement.CANCEL:
            return T.CANCELLED, theirs
        case Settlement.TELL_AGAIN:
            return ours, T.COMPLETED if ours is T.COMPLETED else T.FAILED
    return ours, theirs


#: What each side does by itself when nothing is lost: the engine delivers and the word comes, ingest takes it in.
WORK = {T.INITIATED: T.ONGOING, T.ONGOING: T.STAGED, T.STAGED: T.INGESTING, T.INGESTING: T.COMPLETED}


def work(sender, receiver):
    """One step of the ordinary work."""
    if sender is T.ONGOING and receiver in OPEN:
        return T.STAGED, receiver
    if receiver in (T.STAGED, T.INGESTING):
        return sender, WORK[receiver]
    return sender, receiver


@given(sender=st.sampled_from(list(OUTGOING_MOVES)), receiver=st.none() | st.sampled_from(list(INCOMING_MOVES)))
def test_two_sites_agree_in_the_end_whatever_stories_they_began_with(sender, receiver):
    for _ in range(8):
        sender, receiver = act_out(sender, receiver)
        if receiver is not None:
            receiver, sender = act_in(receiver, sender)
        sender, receiver = work(sender, receiver)

    assert sender not in LIVE
    assert receiver not in LIVE
