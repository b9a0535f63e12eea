"""What two sites do when they tell different stories about one transfer."""

import itertools

import pytest

from librarian.states import INCOMING_MOVES, LIVE, OUTGOING_MOVES, Settlement, TransferState, Way, settle

OURS = {Way.OUT: list(OUTGOING_MOVES), Way.IN: list(INCOMING_MOVES)}
THEIRS = [None, *TransferState]
EVERY = [(way, ours, theirs) for way in Way for ours, theirs in itertools.product(OURS[way], THEIRS)]


@pytest.mark.parametrize(("way", "ours", "theirs"), EVERY)
def test_every_combination_has_an_answer(way, ours, theirs):
    assert settle(ours, theirs, way) in Settlement


@pytest.mark.parametrize(("way", "ours", "theirs"), EVERY)
def test_what_has_ended_with_us_is_never_started_again(way, ours, theirs):
    starts = {Settlement.OFFER_AGAIN, Settlement.STAGE, Settlement.FAIL, Settlement.CANCEL}

    assert ours in LIVE or settle(ours, theirs, way) not in starts


@pytest.mark.parametrize("ours", [state for state in OUTGOING_MOVES if state in LIVE])
def test_a_live_transfer_that_the_receiver_does_not_know_is_offered_again(ours):
    assert settle(ours, None, Way.OUT) is Settlement.OFFER_AGAIN


@pytest.mark.parametrize("ours", [state for state in OUTGOING_MOVES if state in LIVE])
@pytest.mark.parametrize("theirs", [TransferState.FAILED, TransferState.CANCELLED])
def test_a_live_transfer_that_has_ended_badly_at_the_receiver_fails(ours, theirs):
    assert settle(ours, theirs, Way.OUT) is Settlement.FAIL


def test_a_lost_word_that_all_bytes_are_there_is_said_again():
    assert settle(TransferState.STAGED, TransferState.ONGOING, Way.OUT) is Settlement.TELL_AGAIN


@pytest.mark.parametrize("ours", [TransferState.INITIATED, TransferState.ONGOING])
def test_the_receiver_takes_the_senders_word_that_all_bytes_are_there(ours):
    assert settle(ours, TransferState.STAGED, Way.IN) is Settlement.STAGE


@pytest.mark.parametrize("theirs", [None, TransferState.COMPLETED, TransferState.FAILED, TransferState.CANCELLED])
@pytest.mark.parametrize("ours", [TransferState.INITIATED, TransferState.ONGOING])
def test_the_receiver_drops_what_the_sender_works_for_no_longer(ours, theirs):
    assert settle(ours, theirs, Way.IN) is Settlement.CANCEL


@pytest.mark.parametrize("theirs", THEIRS)
def test_what_is_being_ingested_is_left_to_ingest(theirs):
    assert settle(TransferState.INGESTING, theirs, Way.IN) is Settlement.WAIT


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ours, theirs)
        for ours, theirs in itertools.product(OURS[Way.OUT], OURS[Way.IN])
        if ours in LIVE and theirs in LIVE
    ],
)
def test_of_two_live_ends_at_least_one_moves_or_somebody_is_at_work(ours, theirs):
    # An engine works on ONGOING/ONGOING, ingest on STAGED and INGESTING; nothing else may only wait.
    at_work = {TransferState.STAGED, TransferState.INGESTING}
    is_moving = ours is TransferState.ONGOING and theirs in (TransferState.INITIATED, TransferState.ONGOING)

    answers = {settle(ours, theirs, Way.OUT), settle(theirs, ours, Way.IN)}

    assert answers != {Settlement.WAIT} or theirs in at_work or is_moving
