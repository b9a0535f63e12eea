"""Windows: the clock on a wall decides, on every day of the year."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from librarian import windows
from librarian.errors import BadRequest
from librarian.windows import Window

NIGHT = Window.parse("20:00-06:00 America/Santiago")
#: In 2026 Santiago's clocks go from midnight to 01:00 on 6 September (04:00 UTC) …
SPRING = datetime(2026, 9, 6, 4, tzinfo=UTC)
#: … and from midnight back to 23:00 on 4 April (03:00 UTC on the fifth).
AUTUMN = datetime(2026, 4, 5, 3, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

clocks = st.integers(min_value=0, max_value=24 * 60 - 1)
zones = st.sampled_from(["America/Santiago", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"])
#: From 2000 to 2036.
instants = st.integers(min_value=946_684_800, max_value=2_082_758_400).map(lambda at: datetime.fromtimestamp(at, UTC))


def changes(window, after, count):
    """The next *count* instants at which *window* opens or closes."""
    found = [after]
    for _ in range(count):
        found.append(windows.next_change([window], found[-1]))
    return found[1:]


@st.composite
def some_windows(draw):
    start = draw(clocks)
    end = draw(clocks.filter(lambda end: end != start))
    return Window.parse(f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02} {draw(zones)}")


def test_a_window_is_open_from_its_start_up_to_its_end():
    opens = datetime(2026, 11, 24, 23, tzinfo=UTC)

    told = [NIGHT.is_open(at) for at in (opens - MINUTE, opens, opens + 10 * 60 * MINUTE - MINUTE)]

    assert told == [False, True, True]
    assert changes(NIGHT, opens, 2) == [opens + timedelta(hours=10), opens + timedelta(hours=24)]


def test_a_window_that_starts_in_the_hour_that_is_skipped_starts_when_the_clock_is_put_forward():
    window = Window.parse("00:30-02:00 America/Santiago")

    assert changes(window, SPRING - timedelta(hours=12), 2) == [SPRING, SPRING + timedelta(hours=1)]


def test_a_window_that_starts_at_a_midnight_that_is_skipped_is_not_missed():
    window = Window.parse("00:00-24:00 America/Santiago")
    early = Window.parse("00:00-06:00 America/Santiago")

    assert window.is_open(SPRING)
    assert changes(early, SPRING - timedelta(hours=1), 1) == [SPRING]


def test_a_window_within_the_hour_that_is_skipped_is_not_open_on_that_day():
    window = Window.parse("00:10-00:50 America/Santiago")

    assert changes(window, SPRING - timedelta(hours=12), 1) == [datetime(2026, 9, 7, 3, 10, tzinfo=UTC)]


def test_a_window_in_the_hour_that_comes_twice_is_open_twice():
    window = Window.parse("23:15-23:45 America/Santiago")

    opened = [AUTUMN + timedelta(minutes=minutes) for minutes in (-45, -15, 15, 45)]

    assert changes(window, AUTUMN - timedelta(hours=5), 4) == opened


def test_a_night_is_an_hour_shorter_or_longer_when_the_clock_is_put():
    spring = changes(NIGHT, SPRING - timedelta(hours=12), 2)
    autumn = changes(NIGHT, AUTUMN - timedelta(hours=12), 2)

    assert [end - start for start, end in (spring, autumn)] == [timedelta(hours=9), timedelta(hours=11)]


@given(window=some_windows(), at=instants)
def test_nothing_changes_before_the_next_change(window, at):
    change = windows.next_change([window], at)
    before = window.is_open(at)

    between = [at + (change - at) * share / 37 for share in range(37)]

    assert {window.is_open(each) for each in between} == {before}
    assert window.is_open(change) is not before


@given(window=some_windows(), at=instants)
def test_what_is_written_is_read_again(window, at):
    again = Window.parse(str(window))

    assert (str(again), again.is_open(at)) == (str(window), window.is_open(at))


@given(first=some_windows(), second=some_windows(), at=instants)
def test_of_several_windows_one_that_is_open_is_enough(first, second, at):
    assert windows.are_open([first, second], at) is (first.is_open(at) or second.is_open(at))


def test_without_windows_it_is_always_open():
    assert windows.are_open([], SPRING)
    assert windows.next_change([], SPRING) is None


def test_the_whole_day_never_closes():
    assert windows.next_change([Window.parse("00:00-24:00 UTC")], SPRING) is None


@pytest.mark.parametrize(
    "text",
    [
        "20:00-06:00",
        "20-06 UTC",
        "20:00-25:00 UTC",
        "24:00-06:00 UTC",
        "20:00-24:30 UTC",
        "20:00-20:00 UTC",
        "20:00-06:00 Atacama/Chajnantor",
        "20:00-06:00 ../../etc/passwd",
        "",
    ],
)
def test_what_is_no_window_is_refused_with_its_text(text):
    with pytest.raises(BadRequest) as refused:
        Window.parse(text)

    assert refused.value.remedy
    assert (text.split(" ")[-1] or "''") in refused.value.message


@pytest.mark.parametrize(("moving", "wall"), [(0, 0), (3, 3), (5, 19), (15, 43), (34, 76)])
def test_an_estimate_counts_the_hours_in_which_windows_are_closed(moving, wall):
    # It is open for four hours more.
    now = datetime(2026, 11, 25, 5, tzinfo=UTC)

    assert windows.wall_seconds([NIGHT], now, moving * 3600) == wall * 3600


def test_a_long_estimate_goes_by_what_the_first_days_were_like():
    now = datetime(2026, 11, 24, 9, tzinfo=UTC)

    days = windows.wall_seconds([NIGHT], now, 1000 * 3600) / 86_400

    assert 99 < days < 101
    assert windows.wall_seconds([], now, 1000 * 3600) == 1000 * 3600
