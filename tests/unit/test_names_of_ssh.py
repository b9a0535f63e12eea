"""Addresses and paths for ssh: whatever parses is no option, no command, and one word to every shell."""

import shlex

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from librarian.errors import BadName
from librarian.names import SshAddress, SshPath

#: Text in which everything that shells, ssh and rsync may trip over is likely.
tricky = st.text(alphabet="ab0@:/.-_ \n\t'\"\\$`;|&<>*?[](){}#~%!=\0é", max_size=24)


def parsed(kind, text):
    try:
        return kind(text)
    except BadName:
        return None


@pytest.mark.parametrize(
    ("text", "target", "port"),
    [
        ("librarian@nersc.example:22", "librarian@nersc.example", 22),
        ("_data.in-1@10.0.0.7:2222", "_data.in-1@10.0.0.7", 2222),
        ("user@[2001:db8::7]:65535", "user@[2001:db8::7]", 65535),
    ],
)
def test_an_account_at_a_host_is_taken_apart(text, target, port):
    address = SshAddress(text)

    assert (address.target, address.port) == (target, port)


@given(text=st.one_of(tricky, tricky.map("user@{}:22".format), tricky.map("{}@host:22".format)))
@example(text="-oProxyCommand=id@host:22")
@example(text="user@-oProxyCommand=id:22")
@example(text="user@host:0")
@example(text="user@host:70000")
@example(text="user@host:22\n")
@example(text="user@host")
@example(text="host:22")
def test_an_address_is_one_word_that_is_no_option(text):
    address = parsed(SshAddress, text)

    assert address is None or (
        shlex.split(address, comments=True) == [text] and address[0] != "-" and "@-" not in address
    )


@given(text=st.one_of(tricky, tricky.map("/data/{}".format)))
@example(text="/")
@example(text="/data/staging/")
@example(text="/data/../etc")
@example(text="data")
@example(text="/data//staging")
@example(text="/a\n")
@example(text="/" + "a" * 5000)
@example(text="/" + "a/" * 400 + "é")
def test_a_path_is_absolute_and_one_word_that_leads_nowhere_else(text):
    path = parsed(SshPath, text)

    assert path is None or (
        shlex.split(path, comments=True) == [text] and path[0] == "/" and ".." not in path.split("/")
    )


@pytest.mark.parametrize("kind", [SshAddress, SshPath])
@pytest.mark.parametrize("text", [None, 5, b"/data"])
def test_what_is_no_text_is_neither(kind, text):
    assert parsed(kind, text) is None
