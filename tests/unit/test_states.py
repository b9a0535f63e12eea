"""The state machines: no state is a trap, and two sites that lose each other's words still come to one end."""

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

S = TransferState
MACHINES = {"incoming": INCOMING_MOVES, "outgoing": OUTGOING_MOVES, "batch": BATCH_MOVES}
machines = pytest.mark.parametrize("moves", MACHINES.values(), ids=MACHINES)


def reachable(moves, start) -> set:
    found, waiting = {start}, [start]
    while waiting:
        for target in moves[waiting.pop()] - found:
            found.add(target)
            waiting.append(target)
    return found


@machines
def test_every_state_leads_to_an_end(moves):
    ends = {state for state, targets in moves.items() if not targets}

    assert all(reachable(moves, state) & ends for state in moves)


@machines
def test_every_state_can_be_reached_from_the_first(moves):
    first = next(iter(moves))

    assert reachable(moves, first) == set(moves)


@machines
def test_every_state_that_has_not_ended_can_still_fail(moves):
    failed = next(state for state in moves if state.value == "failed")

    assert all(failed in targets for targets in moves.values() if targets)


@machines
def test_no_move_leads_out_of_the_table(moves):
    assert {target for targets in moves.values() for target in targets} <= set(moves)


@machines
def test_the_sources_of_a_state_are_those_that_may_move_to_it(moves):
    assert all(
        (source in sources_of(moves, target)) is (target in moves[source]) for source in moves for target in moves
    )


@pytest.mark.parametrize("moves", [INCOMING_MOVES, OUTGOING_MOVES], ids=["incoming", "outgoing"])
def test_live_are_those_that_have_not_ended(moves):
    assert {state for state in moves if state in LIVE} == {state for state, targets in moves.items() if targets}


def test_what_may_be_written_to_has_not_ended():
    assert OPEN < LIVE


def test_a_batch_may_be_given_up_in_every_state_that_is_no_end():
    assert sources_of(BATCH_MOVES, BatchState.CANCELLED) == {s for s, targets in BATCH_MOVES.items() if targets}


#: What is lost on the way: the notice that bytes are there, the notice of the verdict; and the verdict itself.
luck = st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from([S.COMPLETED, S.FAILED])), max_size=4)
EVERY_PAIR = [(ours, theirs) for ours in OUTGOING_MOVES for theirs in (None, *INCOMING_MOVES)]
#: What happened after the last piece of bad luck.
GOOD_LUCK = (False, False, S.COMPLETED)


def work(ours, theirs, is_staged_lost, is_verdict_lost, verdict):
    """The engine delivers and ingest decides; either's notice may be lost."""
    if ours is S.ONGOING and theirs in OPEN:
        ours = S.STAGED
        theirs = theirs if is_staged_lost else S.STAGED
    if theirs in (S.STAGED, S.INGESTING):
        theirs = verdict
        if ours in LIVE and not is_verdict_lost:
            ours = verdict
    return ours, theirs


def sender_asks(ours, theirs):
    """What the sender makes of the receiver's answer, as ``tasks/reconcile`` and the next offer do."""
    match settle(ours, theirs, Way.OUT):
        case Settlement.OFFER_AGAIN if ours is S.STAGED:
            return S.FAILED, theirs
        case Settlement.OFFER_AGAIN if theirs is S.COMPLETED:
            return S.COMPLETED, theirs
        case Settlement.OFFER_AGAIN:
            return S.ONGOING, theirs or S.INITIATED
        case Settlement.TELL_AGAIN:
            return ours, S.STAGED
        case Settlement.FAIL:
            return S.FAILED, theirs
        case _:
            return ours, theirs


def receiver_asks(ours, theirs):
    """What the receiver makes of the sender's answer; it asks about what is open alone."""
    if theirs not in OPEN:
        return ours, theirs
    match settle(theirs, ours, Way.IN):
        case Settlement.STAGE:
            return ours, S.STAGED
        case Settlement.CANCEL:
            return ours, S.CANCELLED
        case _:
            return ours, theirs


@pytest.mark.parametrize(("ours", "theirs"), EVERY_PAIR)
@given(luck=luck)
def test_two_sites_come_to_an_end_whatever_was_lost(ours, theirs, luck):
    for is_staged_lost, is_verdict_lost, verdict in [*luck, *[GOOD_LUCK] * 4]:
        ours, theirs = work(ours, theirs, is_staged_lost, is_verdict_lost, verdict)
        if ours in LIVE:
            ours, theirs = sender_asks(ours, theirs)
        ours, theirs = receiver_asks(ours, theirs)

    assert ours not in LIVE
    assert theirs not in LIVE


@pytest.mark.parametrize(("ours", "theirs"), [pair for pair in EVERY_PAIR if pair[0] is not S.COMPLETED])
@given(luck=luck)
def test_the_sender_believes_in_a_copy_only_when_there_is_one(ours, theirs, luck):
    for is_staged_lost, is_verdict_lost, verdict in luck:
        ours, theirs = work(ours, theirs, is_staged_lost, is_verdict_lost, verdict)
        if ours in LIVE:
            ours, theirs = sender_asks(ours, theirs)
        ours, theirs = receiver_asks(ours, theirs)

        assert ours is not S.COMPLETED or theirs is S.COMPLETED
