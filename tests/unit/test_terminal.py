"""What people see on a terminal."""

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
