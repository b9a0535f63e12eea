"""Which librarian a command speaks to, and as whom: an option, the environment, or ``client.toml``."""

import pytest

from librarian.auth import Doorkeeper
from librarian.doors import Throttle
from tests.site_fixtures import CHEAP, password_of

PASSWORD = password_of("reader")


@pytest.fixture
def database_url(sqlite_url):
    """One database is enough: nothing here depends on which it is."""
    return sqlite_url


@pytest.fixture
def ping(run, tmp_path):
    """Ask ``librarian ping`` with a client.toml of *text* and nothing in the environment but what is given."""

    async def ask(text, *arguments, mode=0o600, **changes):
        path = tmp_path / ".config" / "librarian" / "client.toml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(mode)
        nothing = {"LIBRARIAN_URL": "", "LIBRARIAN_USER": "", "LIBRARIAN_PASSWORD": ""}
        return await run("ping", *arguments, **(nothing | changes))

    return ask


@pytest.fixture
def table(working):
    """A table of client.toml that leads to the site."""
    return f'[here]\nurl = "{working.url}"\nuser = "reader"\npassword = "{PASSWORD}"\n'


async def test_a_named_connection_is_used(ping, table):
    code, out, _ = await ping(table, "--at", "here")

    assert code == 0
    assert "you are reader (reader)" in out


async def test_the_default_connection_is_used_when_nothing_is_said(ping, table):
    code, out, _ = await ping(f'default = "here"\n{table}')

    assert code == 0
    assert "you are reader" in out


async def test_an_option_beats_the_environment_which_beats_the_default(ping, table, working):
    text = f'default = "elsewhere"\n[elsewhere]\nurl = "http://127.0.0.1:9"\n{table}'
    environment = {"LIBRARIAN_URL": working.url, "LIBRARIAN_USER": "uploader"}

    code, out, _ = await ping(text, "-a", "here", **environment, LIBRARIAN_PASSWORD=password_of("uploader"))

    assert code == 0
    assert "you are reader" in out


async def test_the_environment_beats_the_default(ping, working):
    text = 'default = "elsewhere"\n[elsewhere]\nurl = "http://127.0.0.1:9"\n'
    environment = {"LIBRARIAN_URL": working.url, "LIBRARIAN_USER": "uploader"}

    code, out, _ = await ping(text, **environment, LIBRARIAN_PASSWORD=password_of("uploader"))

    assert code == 0
    assert "you are uploader" in out


async def test_a_url_on_the_command_line_takes_its_login_from_the_environment(ping, working):
    login = {"LIBRARIAN_USER": "reader", "LIBRARIAN_PASSWORD": PASSWORD}

    code, _, _ = await ping("", "--at", working.url, **login)

    assert code == 0


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
async def test_a_file_with_a_password_that_others_may_read_is_refused(ping, table, tmp_path, mode):
    code, out, err = await ping(table, "--at", "here", mode=mode)

    assert (code, out) == (2, "")
    assert "others may read it" in err
    assert f"chmod 600 {tmp_path}/.config/librarian/client.toml" in err
    assert PASSWORD not in err


async def test_without_a_login_the_remedy_says_where_it_comes_from(ping, working):
    code, _, err = await ping(f'[here]\nurl = "{working.url}"\n', "--at", "here")

    assert code == 2
    assert "LIBRARIAN_USER and LIBRARIAN_PASSWORD" in err
    assert "client.toml" in err


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("", [], "no librarian was named"),
        ("", ["--at", "here"], "no connection 'here' (known: none)"),
        ('[there]\nurl = "http://x"\n', ["--at", "here"], "(known: there)"),
        ('[here]\nurl = "http://x"\ncolour = "red"\n', ["--at", "here"], "colour"),
        ("[here\n", ["--at", "here"], "cannot read"),
        ("", ["--at", "ftp://x"], "is not the URL of a librarian"),
        ("", ["--at", "http://ana:hush@127.0.0.1:9"], "carries no user, password"),
        ('[here]\nurl = "http://far.example"\nuser = "a"\npassword = "hush"\n', ["--at", "here"], "unencrypted"),
    ],
)
async def test_what_is_wrong_with_a_connection_exits_2_with_words(ping, text, arguments, words):
    code, out, err = await ping(text, *arguments)

    assert (code, out) == (2, "")
    assert words in err
    assert "hush" not in err


async def test_who_guessed_too_often_is_told_to_come_back_later(ping, table, working):
    throttle = Throttle()
    working.site.doorkeeper = Doorkeeper(working.site.catalog, hasher=CHEAP, throttle=throttle)
    for _ in range(20):
        throttle.failed(address="127.0.0.1", account="reader")

    code, _, err = await ping(table, "--at", "here")

    assert code == 3
    assert "too many failed logins" in err
