"""How fast bytes may go to a peer."""

from librarian.transfers.pace import BURST, LEAST_PART, Pace, Paces


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_without_a_limit_nothing_waits():
    pace = Pace(None)

    assert (pace.part_bytes, pace.book(10**12)) == (None, 0.0)


def test_what_is_booked_waits_for_what_was_booked_before():
    pace = Pace(1000, clock=Clock())

    waits = [pace.book(500) for _ in range(4)]

    assert waits == [0.5, 1.0, 1.5, 2.0]


def test_a_rest_saves_up_no_more_than_a_short_burst():
    clock = Clock()
    pace = Pace(1000, clock=clock)
    clock.now += 3600

    waits = [pace.book(int(1000 * BURST)), pace.book(1000)]

    assert waits == [0.0, 1.0]


def test_parts_are_a_fraction_of_a_second_and_never_tiny():
    assert Pace(80_000_000).part_bytes == 10_000_000
    assert Pace(1000).part_bytes == LEAST_PART


def test_everything_that_goes_to_one_peer_has_the_pace_that_was_set_last():
    paces = Paces()

    changes = [paces.set("nersc", rate) for rate in (1000, 2000, 2000)]

    assert changes == [True, True, False]
    assert (paces.of("nersc").bytes_per_second, paces.of("icrar").bytes_per_second) == (2000, None)
