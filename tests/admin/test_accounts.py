"""Accounts: made before anything else exists, changed under a running server."""

import asyncio
import json
import os
import pty
import sys

import pytest

from librarian.client import connect
from librarian.errors import Unauthenticated
from tests.admin.conftest import PASSWORD


@pytest.fixture
def account(beside):
    """Make an account at the shared server; its name."""

    def make(name, *roles):
        options = [part for role in roles or ("reader",) for part in ("--role", role)]
        made = beside("account", "create", name, *options, "--password-file", "-", stdin=PASSWORD)
        assert made.code == 0, made.err
        return name

    return make


@pytest.fixture
def log_in(server):
    """Ask who we are at the shared server, over the network."""

    def ask(name, password=PASSWORD):
        return connect(server.url, user=name, password=password).ping().account

    return ask


def test_an_account_is_made_before_anything_else_exists(idle, tmp_path):
    made = idle("account", "create", "ana", "--role", "uploader", "--password-file", "-", stdin=f"{PASSWORD}\n")

    assert (made.code, made.out, made.err) == (0, "Created the account 'ana' (uploader).\n", "")
    assert idle("account", "list").out.startswith("ana\tuploader\tyes\t")
    assert not (tmp_path / "chajnantor" / "admin.sock").exists()


def test_an_account_logs_in_at_the_running_server_at_once(account, log_in):
    assert log_in(account("created", "reader", "uploader")) == "created"


def test_a_password_comes_from_the_first_line_of_a_file(beside, log_in, tmp_path):
    (tmp_path / "secret").write_text(f"{PASSWORD}\nanything else\n")

    made = beside("account", "create", "from-file", "--role", "reader", "--password-file", tmp_path / "secret")

    assert made.code == 0
    assert log_in("from-file") == "from-file"


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        ("", "there is no password in standard input"),
        ("\nsecond line", "there is no password in standard input"),
        ("short", "the password is too short"),
        ("1234567", "the password is too short"),
        ("x" * 257, "the password is too long"),
        ("tab\tinside", "control character"),
    ],
)
def test_a_password_that_cannot_be_one_is_refused(beside, stdin, words):
    refused = beside("account", "create", "weak", "--role", "reader", stdin=stdin)

    assert (refused.code, refused.out) == (2, "")
    assert words in refused.err


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"\xff\xfe-not-text", "is not UTF-8"), (b"", "there is no password")],
)
def test_a_password_file_that_cannot_be_read_is_refused(beside, tmp_path, content, words):
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)

    refused = beside("account", "create", "unread", "--role", "reader", "--password-file", path)

    assert refused.code == 2
    assert words in refused.err
    assert str(path) in refused.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "Ana B", "--role", "reader"], "'Ana B' cannot be an account's name"),
        (["create", "ana", "--role", "king"], "king"),
        (["create", "ana"], "--role"),
        (["create", "admin", "--role", "reader"], "an account called 'admin' exists"),
        (["set", "admin"], "there is nothing to change"),
        (["set", "absent", "--role", "reader"], "no account is called 'absent'"),
        (["disable", "absent"], "no account is called 'absent'"),
        (["enable", "../stores"], "'../stores' cannot be an account's name"),
        (["disable", "admin"], "'admin' is the last enabled admin"),
        (["set", "admin", "--role", "reader"], "'admin' is the last enabled admin"),
    ],
)
def test_what_the_caller_got_wrong_exits_2_with_words(beside, arguments, words):
    refused = beside("account", *arguments, stdin=PASSWORD)

    assert (refused.code, refused.out) == (2, "")
    assert words in refused.err


def test_a_disabled_account_is_logged_out_at_once(account, beside, log_in):
    name = account("left")
    log_in(name)

    disabled = beside("account", "disable", name)

    assert disabled.out == "Disabled the account 'left' (reader).\n"
    with pytest.raises(Unauthenticated):
        log_in(name)


def test_disabling_twice_does_nothing(account, beside):
    name = account("left-twice")
    beside("account", "disable", name)

    assert beside("account", "disable", name).code == 0


def test_an_enabled_account_logs_in_again(account, beside, log_in):
    name = account("returned")
    beside("account", "disable", name)

    beside("account", "enable", name)

    assert log_in(name) == name


def test_a_new_password_ends_the_old_at_once(account, beside, log_in):
    name = account("careful")
    log_in(name)

    beside("account", "set", name, "--password-file", "-", stdin="another secret phrase")

    assert log_in(name, "another secret phrase") == name
    with pytest.raises(Unauthenticated):
        log_in(name)


def test_new_roles_replace_the_old_ones(account, beside):
    name = account("promoted", "reader", "callback")

    changed = beside("account", "set", name, "--role", "uploader", "--json")

    assert json.loads(changed.out)["roles"] == ["uploader"]


def test_the_list_in_json_is_one_account_per_line_without_secrets(account, beside):
    account("listed")

    listed = [json.loads(line) for line in beside("account", "list", "--json").out.splitlines()]

    (found,) = [each for each in listed if each["name"] == "listed"]
    assert found.keys() == {"name", "roles", "is_enabled", "created_at"}
    assert found["roles"] == ["reader"]


async def typed(arguments, *answers):
    """Run ``python -m librarian.admin`` on a terminal where a person types *answers*; its exit code and the screen."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "always", "-m", "librarian.admin", *map(str, arguments)),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    screen = b""
    for answer in answers:
        while not screen.endswith(b": "):
            screen += await asyncio.to_thread(os.read, ours, 1024)
        os.write(ours, answer.encode())
        screen += b"|"
    code = await asyncio.wait_for(process.wait(), 60)
    screen += os.read(ours, 4096)
    os.close(ours)
    return code, screen.decode()


async def test_on_a_terminal_the_password_is_asked_for_twice_and_never_shown(server, log_in):
    command = ["--config", server.config, "account", "create", "typist", "--role", "reader"]

    code, screen = await typed(command, f"{PASSWORD}\n", f"{PASSWORD}\n")

    assert code == 0
    assert "Created the account 'typist'" in screen
    assert PASSWORD not in screen
    assert await asyncio.to_thread(log_in, "typist") == "typist"


async def test_a_password_that_was_mistyped_is_refused(server):
    command = ["--config", server.config, "account", "create", "hasty", "--role", "reader"]

    code, screen = await typed(command, f"{PASSWORD}\n", f"{PASSWORD}?\n")

    assert code == 2
    assert "the two passwords differ" in screen


async def test_typing_no_password_at_all_is_refused(server):
    control_d = "\x04"

    code, screen = await typed(
        ["--config", server.config, "account", "set", "admin", "--password-file", "-"], control_d
    )

    assert code == 2
    assert "there is no password" in screen
