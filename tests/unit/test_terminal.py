"""What people see on a terminal."""

import pytest

from librarian.cli import terminal
from librarian.cli.terminal import Terminal
from librarian.client.progress import Phase, Progress


def test_a_bar_with_bytes_rate_and_time_left_is_one_line_on_a_narrow_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")

    with Terminal().progress("drive A08") as show:
        for done in (100_000_000, 200_000_000, 300_000_000):
            show(
                Progress(phase=Phase.COPYING, done_bytes=done, total_bytes=605_000_000, done_files=0, total_files=1_000)
            )

    assert "300.0/605.0 MB" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("then", "told"),
    [
        (600_000_000, "600 MB of 1.6 GB, 10 MB/s, 1 min 40 s left"),
        (500_000_000, "500 MB of 1.6 GB, 0 B/s"),
    ],
)
def test_the_time_left_is_judged_by_what_was_seen_to_be_done(monkeypatch, capsys, then, told):
    clock = iter([0.0, 0.0, 10.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))

    with Terminal().progress("drive A08") as show:
        for done in (500_000_000, then):
            show(Progress(phase=Phase.COPYING, done_bytes=done, total_bytes=1_600_000_000, done_files=0, total_files=1))

    assert capsys.readouterr().err == f"drive A08: copying, {told}\n"
