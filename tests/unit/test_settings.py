"""Settings: a file, overridden by the environment; everything wrong is told at once."""

from datetime import timedelta
from pathlib import Path

import pytest

from librarian.errors import ConfigurationError
from librarian.quantities import parse_size, parse_span
from librarian.settings import check_settings, load_settings, reference
from tests.contracts.mounts import Mounts

GOOD = """
name = "chajnantor"
state = "{tmp}/state"
[[stores]]
name = "fast"
root = "{tmp}/store"
staging = "{tmp}/staging"
limit = "20 TiB"
"""


@pytest.fixture(autouse=True)
def _own_state(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "site.toml"
        path.write_text(text.replace("{tmp}", str(tmp_path)))
        return path

    return write


def problems_of(path: Path | None) -> list[str]:
    with pytest.raises(ConfigurationError) as refusal:
        check_settings(load_settings(path), path)
    assert refusal.value.remedy
    return refusal.value.details["problems"]


def test_a_good_file_is_read(write):
    settings = load_settings(write(GOOD))

    check_settings(settings)
    assert (settings.name, settings.stores[0].limit) == ("chajnantor", 20 * 1024**4)


def test_without_a_file_there_is_a_site_with_one_store(tmp_path):
    settings = load_settings(None)

    check_settings(settings)
    assert settings.state == tmp_path / "xdg" / "librarian"
    assert [store.name for store in settings.stores] == ["main"]
    assert settings.url == "http://127.0.0.1:21108"
    assert settings.database_url == f"sqlite+aiosqlite:///{settings.state}/catalog.sqlite"


def test_checking_leaves_nothing_behind(write, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "staging").mkdir()
    path = write(GOOD)

    check_settings(load_settings(path))

    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["site.toml", "staging", "store"]


def test_the_environment_beats_the_file(write, monkeypatch):
    monkeypatch.setenv("LIBRARIAN__NAME", "elsewhere")
    monkeypatch.setenv("LIBRARIAN__LIMITS__DRAIN", "5 s")

    settings = load_settings(write(GOOD + "[limits]\ndrain = '1 min'\n"))

    assert (settings.name, settings.limits.drain) == ("elsewhere", timedelta(seconds=5))


def test_a_variable_that_sets_nothing_is_refused(monkeypatch):
    monkeypatch.setenv("LIBRARIAN__LIMTS__DRAIN", "5 s")

    assert any("LIBRARIAN__LIMTS__DRAIN" in problem for problem in problems_of(None))


def test_unknown_keys_and_bad_values_are_told_at_once(write):
    found = problems_of(write('nmae = "x"\nname = "UPPER"\n[limits]\nworkers = 0\nspeed = 1\n[[stores]]\nname = "a"\n'))

    told = "\n".join(found)
    assert all(word in told for word in ("nmae", "name:", "limits.workers", "limits.speed", "root", "staging"))


def test_a_bad_name_is_told_in_our_own_words(write):
    assert problems_of(write('name = "New York"\n'))[0].startswith("name: 'New York' cannot be a site's name.")


def test_the_default_store_is_not_blamed_where_every_named_one_is_wrong(write, tmp_path):
    (tmp_path / "occupied").touch()

    found = problems_of(write(f'state = "{tmp_path}/occupied"\n[[stores]]\nname = "UPPER"\n'))

    assert not [problem for problem in found if problem.startswith("stores.main")]


def test_impossible_combinations_are_told_at_once(write):
    found = problems_of(
        write(
            'listen = "0.0.0.0:80"\nstate = "relative"\ndatabase = "mysql://x/y"\ntrusted_proxies = ["nowhere"]\n'
            'public_url = "ftp://x"\n'
            '[tls]\ncertificate = "/no/such/cert"\nkey = "/no/such/key"\n'
            '[[stores]]\nname = "a"\nroot = "{tmp}/r"\nstaging = "{tmp}/r/inner"\n'
            '[[stores]]\nname = "b"\nroot = "{tmp}/r"\nstaging = "{tmp}/s"\n'
            '[[stores]]\nname = "c"\nroot = "not/absolute"\nstaging = "/proc/version/x"\n'
            '[[rules]]\nname = "r"\npeer = "p"\nfrom_store = "none"\n'
        )
    )

    told = "\n".join(found)
    for word in (
        "state: relative",
        "'mysql' is not known",
        "'nowhere' is no address",
        "'ftp://x' is not an http(s) URL",
        "tls.certificate",
        "tls.key",
        "staging lies among the published names",
        "'a' and 'b' share",
        "not/absolute is not an absolute path",
        "/proc/version is not a folder",
        "there is no store 'none'",
    ):
        assert word in told


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "192.0.2.7:80", "[::]:80", "example.org:80"])
def test_listening_beyond_loopback_needs_tls_or_an_explicit_word(write, listen):
    refused = problems_of(write(GOOD.replace("state =", f'listen = "{listen}"\nstate =')))
    allowed = load_settings(write(GOOD.replace("state =", f'listen = "{listen}"\nallow_plaintext = true\nstate =')))

    check_settings(allowed)
    assert len(refused) == 1
    assert "allow_plaintext" in refused[0]


def test_a_store_that_cannot_be_renamed_into_is_found_by_trying(write, tmp_path):
    mounts = Mounts()
    mounts.bind(tmp_path / "elsewhere", tmp_path / "staging")
    (tmp_path / "store").mkdir()

    try:
        (problem,) = problems_of(write(GOOD))
    finally:
        mounts.unmount_now(tmp_path / "staging")

    assert "cannot be renamed" in problem


@pytest.mark.parametrize("text", ["name = ", "[[stores]", "\x00"])
def test_what_is_no_toml_is_told_with_its_place(write, text):
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        load_settings(write(text))


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_settings(tmp_path / "none.toml")


def test_a_password_in_the_database_url_is_refused(write):
    (problem,) = problems_of(write(GOOD.replace("state =", 'database = "postgresql://a:secret@h/d"\nstate =')))

    assert "database_password_file" in problem
    assert "secret" not in problem


@pytest.mark.parametrize(
    ("text", "size"),
    [("10", 10), ("1 kB", 1000), ("1 KiB", 1024), ("1.5 GB", 1_500_000_000), ("20TiB", 20 * 1024**4), (7, 7)],
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["ten", "1 XB", "-1 kB", ""])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90 s", timedelta(seconds=90)),
        ("2 days", timedelta(days=2)),
        ("1 h", timedelta(hours=1)),
        ("3 minutes", timedelta(minutes=3)),
    ],
)
def test_spans_are_read_as_people_write_them(text, span):
    assert parse_span(text) == span


def test_the_reference_page_is_what_the_models_say():
    page = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"

    assert page.read_text() == reference.page(), (
        "run: python -m librarian.settings.reference > docs/reference/settings.md"
    )


def test_every_setting_is_described():
    assert [row for row in reference.rows() if not row.description] == []


GLOBUS = """
[globus]
client_id = "9c1a3c0e-1111-4222-8333-000000000001"
{credentials}
[[stores]]
name = "fast"
root = "{tmp}/store"
staging = "{tmp}/staging"
globus = {collection = "9c1a3c0e-1111-4222-8333-000000000002", root = "{root}", staging = "/staging"}
"""


def globus_settings(*, credentials='client_secret_file = "{tmp}/secret"', root="/store"):
    return GLOBUS.replace("{credentials}", credentials).replace("{root}", root)


def test_a_site_is_known_to_globus_by_a_secret_in_a_file(write, tmp_path):
    (tmp_path / "secret").write_text("s3cret")

    settings = load_settings(write(globus_settings()))

    check_settings(settings)
    assert settings.stores[0].globus.root == "/store"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (globus_settings(), "globus.client_secret_file: {tmp}/secret cannot be read"),
        (globus_settings(credentials=""), "globus: give either 'client_secret_file' or 'refresh_token_file'"),
        (globus_settings(credentials="", root="store"), "stores.fast.globus.root: 'store' is not a path"),
        (globus_settings(credentials="", root="/a/../b"), "stores.fast.globus.root: '/a/../b' is not a path"),
        (globus_settings().partition("globus = {")[0], "globus: no store says where it is found at Globus"),
    ],
)
def test_what_globus_cannot_work_with_is_told(write, tmp_path, text, problem):
    problems = problems_of(write(text))

    assert any(told.startswith(problem.replace("{tmp}", str(tmp_path))) for told in problems)


RSYNC = """
name = "chajnantor"
[rsync]
key_file = "{key}"
[[stores]]
name = "fast"
root = "{tmp}/fast/root"
staging = "{tmp}/fast/staging"
rsync = {target = "{target}", port = 2222, staging = "{staging}"}
"""


def rsync_settings(*, key="{tmp}/key", target="librarian@host.example", staging="/staging"):
    return RSYNC.replace("{key}", key).replace("{target}", target).replace("{staging}", staging)


def test_a_store_is_found_at_ssh_under_an_address(write, tmp_path):
    (tmp_path / "key").touch(mode=0o600)

    settings = load_settings(write(rsync_settings()))

    check_settings(settings)
    assert settings.rsync.key_file == tmp_path / "key"
    assert settings.stores[0].rsync.address == "librarian@host.example:2222"


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"target": "host.example"}, "is not the address of an account at a host"),
        ({"target": "-oProxyCommand=id@host"}, "is not the address of an account at a host"),
        ({"staging": "/a b"}, "is not a path that can be handed to ssh"),
    ],
)
def test_what_could_be_more_than_a_name_to_ssh_is_refused(write, wrong, problem):
    with pytest.raises(ConfigurationError, match=problem):
        load_settings(write(rsync_settings(**wrong)))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("none", "rsync.key_file: {tmp}/none cannot be read"),
        ("my key", "rsync.key_file: '{tmp}/my key' is not an absolute path of letters"),
        ("open", "rsync.key_file: others may read {tmp}/open, and ssh would refuse it"),
    ],
)
def test_a_key_that_ssh_cannot_work_with_is_told(write, tmp_path, name, problem):
    (tmp_path / "my key").touch(mode=0o600)
    (tmp_path / "open").touch(mode=0o644)

    problems = problems_of(write(rsync_settings(key=f"{tmp_path}/{name}")))

    assert [told.startswith(problem.replace("{tmp}", str(tmp_path))) for told in problems] == [True]
