"""Named connections: where URL and credentials come from, and what is too open to be believed."""

import pytest

from librarian.client import connect
from librarian.client.connections import resolve
from librarian.errors import ConfigurationError


@pytest.fixture
def configured(tmp_path):
    """Write client.toml; returns the environment that finds it."""

    def write(text, *, mode=0o600):
        path = tmp_path / "librarian" / "client.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return {"XDG_CONFIG_HOME": str(tmp_path)}

    return write


def test_a_name_means_its_table(configured):
    environment = configured('[nersc]\nurl = "https://n.example"\nuser = "ana"\npassword = "hush"\n')

    address = resolve("nersc", environment=environment)

    assert (address.url, address.user, address.password) == ("https://n.example", "ana", "hush")


def test_the_default_is_used_when_nothing_is_said(configured):
    environment = configured('default = "nersc"\n[nersc]\nurl = "https://n.example"\n')

    assert resolve(None, environment=environment).url == "https://n.example"


def test_the_environment_is_used_before_the_default(configured):
    environment = configured('default = "nersc"\n[nersc]\nurl = "https://n.example"\n')

    address = resolve(
        None,
        environment=environment
        | {"LIBRARIAN_URL": "https://e.example", "LIBRARIAN_USER": "ben", "LIBRARIAN_PASSWORD": "hush"},
    )

    assert (address.url, address.user, address.password) == ("https://e.example", "ben", "hush")


def test_arguments_win_over_everything(configured):
    environment = configured('[nersc]\nurl = "https://n.example"\nuser = "ana"\npassword = "hush"\n')

    address = resolve("nersc", user="carl", password="mine", environment=environment)

    assert (address.user, address.password) == ("carl", "mine")


def test_a_password_may_stand_in_a_file_of_its_own(configured, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    secret.chmod(0o600)
    environment = configured(f'[n]\nurl = "https://n.example"\nuser = "ana"\npassword_file = "{secret}"\n', mode=0o644)

    assert resolve("n", environment=environment).password == "hush"


def test_a_password_file_that_others_may_read_is_refused_with_the_command_to_run(configured, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    secret.chmod(0o644)
    environment = configured(f'[n]\nurl = "https://n.example"\nuser = "ana"\npassword_file = "{secret}"\n')

    with pytest.raises(ConfigurationError) as refused:
        resolve("n", environment=environment)

    assert refused.value.remedy == f"Run: chmod 600 {secret}"


def test_a_configuration_with_a_password_that_others_may_read_is_refused(configured):
    environment = configured('[n]\nurl = "https://n.example"\nuser = "ana"\npassword = "hush"\n', mode=0o640)

    with pytest.raises(ConfigurationError, match="others may read") as refused:
        resolve("n", environment=environment)

    assert "hush" not in str(refused.value)


def test_the_environments_password_is_not_sent_to_a_connection_with_its_own_user(configured):
    environment = configured('[n]\nurl = "https://n.example"\nuser = "ana"\n') | {"LIBRARIAN_PASSWORD": "other"}

    assert resolve("n", environment=environment).password is None


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("", "n", "no connection 'n'"),
        ("[m]\nurl = 'https://x'", "n", "known: m"),
        ("[n]\nuser = 'ana'", "n", "url"),
        ("[n]\nurl = 'https://x'\ncolour = 'red'", "n", "colour"),
        ("not toml", "n", "cannot read"),
        ("", None, "no librarian was named"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_told(configured, text, name, words):
    with pytest.raises(ConfigurationError, match=words) as refused:
        resolve(name, environment=configured(text))

    assert refused.value.remedy


def test_without_any_configuration_the_remedy_says_what_to_do(tmp_path):
    with pytest.raises(ConfigurationError) as refused:
        resolve(None, environment={"XDG_CONFIG_HOME": str(tmp_path)})

    assert "LIBRARIAN_URL" in refused.value.remedy


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost", "http://[::1]:1", "https://far.example"])
def test_a_password_may_go_where_nobody_listens(url):
    assert resolve(url, user="ana", password="hush", environment={}).password == "hush"


def test_a_password_does_not_cross_the_network_unencrypted():
    with pytest.raises(ConfigurationError, match="unencrypted"):
        resolve("http://far.example", user="ana", password="hush", environment={})


def test_a_password_crosses_the_network_unencrypted_on_an_explicit_word():
    environment = {"LIBRARIAN_ALLOW_PLAIN_HTTP": "1"}

    assert resolve("http://far.example", user="ana", password="hush", environment=environment).user == "ana"


def test_connect_sends_nothing_yet():
    assert repr(connect("http://127.0.0.1:9", user="ana", password="hush")) == "<Librarian at http://127.0.0.1:9>"
