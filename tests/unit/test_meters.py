"""Meters: how fast bytes have moved to each peer lately."""

from datetime import UTC, datetime, timedelta

import pytest

from librarian.meters import Meters
from librarian.names import BatchId, PeerId

START = datetime(2026, 11, 25, tzinfo=UTC)
NERSC, FIRST, SECOND = PeerId(1), BatchId(1), BatchId(2)
MIB = 1024**2


def at(seconds):
    return START + timedelta(seconds=seconds)


def read(meters, seconds, bytes_done, *, batch=FIRST, before=0):
    meters.read(NERSC, batch, bytes_done=bytes_done, before=(START, before), now=at(seconds))


@pytest.fixture
def meters():
    return Meters()


def test_a_rate_is_what_moved_over_the_time_it_took(meters):
    for seconds in (2, 4, 10):
        read(meters, seconds, seconds * MIB)

    assert meters.rate_of(NERSC, now=at(10)) == MIB


def test_batches_to_one_peer_count_together(meters):
    for batch in (FIRST, SECOND):
        read(meters, 10, 10 * MIB, batch=batch)

    assert meters.rate_of(NERSC, now=at(10)) == 2 * MIB


def test_what_was_moved_before_the_process_began_is_not_counted(meters):
    read(meters, 10, 110 * MIB, before=100 * MIB)

    assert meters.rate_of(NERSC, now=at(10)) == MIB


def test_a_batch_that_begins_anew_takes_nothing_away(meters):
    read(meters, 10, 10 * MIB)
    read(meters, 20, 0)
    read(meters, 30, 20 * MIB)

    assert meters.rate_of(NERSC, now=at(30)) == MIB


def test_a_link_that_stands_still_has_no_rate_after_a_while(meters):
    read(meters, 10, 300 * MIB)

    rates = [meters.rate_of(NERSC, now=at(seconds)) for seconds in (10, 300, 311)]

    assert rates == [30 * MIB, MIB, 0]


def test_many_readings_are_kept_as_few(meters):
    for tenth in range(6000):
        read(meters, tenth / 10, tenth * MIB // 10)

    assert meters.rate_of(NERSC, now=at(600)) == pytest.approx(MIB, rel=0.01)
    assert len(meters._readings[NERSC]) <= 302


def test_an_unknown_peer_has_no_rate(meters):
    assert meters.rate_of(PeerId(7), now=START) == 0
