"""What rsync's exit codes and lines mean: for single items, and for everything."""

import pytest

from librarian.errors import ConfigurationError, Forbidden, NoRoom, PeerUnavailable, Unauthenticated
from librarian.transfers.rsync_troubles import Ending, lines_of

ONE, TWO = "1" * 32, "2" * 32


def ending(code, *said):
    return Ending(code=code, lines=tuple(lines_of("\n".join(said).encode())))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (f'rsync: [sender] link_stat "/l/{ONE}/payload" failed: No such file or directory (2)', "at the sender"),
        (f'rsync: link_stat "/l/{ONE}/payload" failed: No such file or directory (2)', "at the sender"),
        (f'rsync: [sender] read errors mapping "/l/{ONE}/payload": Input/output error (5)', "at the sender"),
        (f'rsync: [sender] send_files failed to open "/l/{ONE}/payload": Permission denied (13)', "at the sender"),
        (f'file has vanished: "/l/{ONE}/payload/deep"', "at the sender"),
        (f"ERROR: {ONE}/payload failed verification -- update retained.", "not arrive as it was sent"),
        (f'rsync: [generator] recv_generator: mkdir "/s/{ONE}/payload/x" failed: File name too long (36)', "receiver"),
    ],
)
def test_a_line_about_an_item_fails_that_item_and_nothing_else(said, reason):
    found = ending(23, said, "rsync error: some files/attrs were not transferred (code 23)")

    failures = found.failures([ONE, TWO])

    assert list(failures) == [ONE]
    assert reason in failures[ONE]
    assert found.trouble("nersc") is None


@pytest.mark.parametrize(
    ("code", "said", "kind"),
    [
        (11, f'rsync: [receiver] write failed on "/s/{ONE}/payload": No space left on device (28)', NoRoom),
        (11, f'rsync: [receiver] close failed on "/s/{ONE}/payload": Disk quota exceeded (122)', NoRoom),
        (23, f'rsync: [receiver] mkstemp "/s/{ONE}/payload" failed: Permission denied (13)', Forbidden),
        (23, f'rsync: [receiver] open "/s/{ONE}/payload" failed: No such file or directory (2)', Forbidden),
        (
            23,
            f'rsync: [generator] recv_generator: mkdir "/s/{ONE}/x" failed: Read-only file system (30)',
            PeerUnavailable,
        ),
        (255, "t@host: Permission denied (publickey).", Unauthenticated),
        (255, "Host key verification failed.", Unauthenticated),
        (12, "No ED25519 host key is known for host and you have requested strict checking.", Unauthenticated),
        (127, "bash: line 1: rsync: command not found", ConfigurationError),
        (12, "/usr/bin/rrsync error: option --append has been disabled on this server.", ConfigurationError),
        (2, "protocol version mismatch -- is your shell clean?", ConfigurationError),
        (255, "ssh: connect to host host port 22: Connection refused", PeerUnavailable),
        (255, "ssh: Could not resolve hostname host: Name or service not known", PeerUnavailable),
        (12, "rsync: connection unexpectedly closed (8 bytes received so far) [sender]", PeerUnavailable),
        (30, "rsync error: timeout in data send/receive (code 30)", PeerUnavailable),
        (20, "", PeerUnavailable),
        (12, 'rsync: [sender] send_files failed to open "/l/x": Permission denied (13)', PeerUnavailable),
    ],
)
def test_what_is_wrong_with_everything_fails_no_item(code, said, kind):
    found = ending(code, said)

    trouble = found.trouble("nersc")

    assert type(trouble) is kind
    assert "nersc" in trouble.message
    assert found.failures([ONE, TWO]) == {}


def test_a_good_end_is_no_trouble():
    assert (ending(0).trouble("nersc"), ending(0).failures([ONE])) == (None, {})


def test_lines_about_what_is_not_ours_change_nothing():
    found = ending(23, f'rsync: [sender] link_stat "/l/{TWO}/payload" failed: No such file or directory (2)')

    assert found.failures([ONE]) == {}


def test_what_the_other_end_says_cannot_act_on_a_terminal_or_a_log():
    (line,) = lines_of(b"a\x1b[2J\x07b \xff")

    assert line.text.isprintable()
    assert "\x1b" not in line.text


def test_no_more_is_told_than_a_person_reads():
    trouble = ending(255, "x" * 10_000).trouble("nersc")

    assert len(trouble.message) < 500
