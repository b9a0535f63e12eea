"""``config check``: everything that is wrong with the settings, at once, with nothing started or left behind."""

import json
import subprocess

import pytest

from tests.contracts.mounts import Mounts

STORE = '[[stores]]\nname = "{name}"\nroot = "{tmp}/{name}/root"\nstaging = "{tmp}/{name}/staging"\n'


@pytest.fixture
def check(admin, tmp_path):
    """Check settings written as TOML; ``{tmp}`` stands for a folder of this test."""

    def run(text, *options, **environment):
        path = tmp_path / "site.toml"
        path.write_text(text.replace("{tmp}", str(tmp_path)))
        return admin("--config", path, "config", "check", *options, environment=environment)

    return run


@pytest.fixture
def mounts():
    """Mounts that are gone afterwards."""
    made = Mounts()
    yield made
    made.clean_up()


@pytest.fixture
def certificate(tmp_path):
    """Make a certificate and its key called *name*, the key with a passphrase if there is one."""

    def make(name, *, passphrase=None):
        protection = ["-nodes"] if passphrase is None else ["-passout", f"pass:{passphrase}"]
        places = ("-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", *protection, "-subj", f"/CN={name}", *places],
            check=True,
            capture_output=True,
        )

    return make


def problems_of(outcome):
    """What was wrong, from the JSON of a refusal."""
    assert (outcome.code, outcome.out) == (2, ""), outcome
    refusal = json.loads(outcome.err)
    assert (refusal["code"], refusal["exit_code"]) == ("configuration", 2)
    return refusal["details"]["problems"]


def test_good_settings_are_said_to_be_good_and_nothing_is_made(check, tmp_path):
    told = check('name = "chajnantor"\nstate = "{tmp}/state"\n' + STORE.replace("{name}", "fast"))

    assert (told.code, told.out, told.err) == (0, "The settings of site 'chajnantor' can work.\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["site.toml"]


def test_in_json_the_settings_are_told_as_they_will_be(check):
    told = check('name = "chajnantor"\nstate = "{tmp}/state"\n', "--json", LIBRARIAN__LIMITS__WORKERS="3")

    settings = json.loads(told.out)
    assert (settings["name"], settings["limits"]["workers"]) == ("chajnantor", 3)
    assert [store["name"] for store in settings["stores"]] == ["main"]


def test_mistakes_of_form_and_of_substance_are_told_together(check):
    found = problems_of(
        check(
            'nmae = "x"\nlisten = "0.0.0.0:1"\nstate = "relative"\n[limits]\nworkers = 0\nspeed = 1\n'
            '[[stores]]\nname = "a"\nroot = "{tmp}/r"\nstaging = "{tmp}/s"\ncolour = "red"\n'
            '[[stores]]\nname = "b"\n'
            '[[stores]]\nname = "c"\nroot = "{tmp}/r"\nstaging = "{tmp}/t"\n'
            '[[rules]]\nname = "r"\npeer = "nersc"\nfrom_store = "b"\n',
            "--json",
            LIBRARIAN__LIMTS__DRAIN="1",
        )
    )

    assert [problem.partition(": ")[0] for problem in found] == [
        "the environment variable LIBRARIAN__LIMTS__DRAIN sets nothing",
        "stores.0.colour",
        "stores.1.root",
        "stores.1.staging",
        "limits.workers",
        "limits.speed",
        "nmae",
        "listen",
        "database",
        "state",
        "stores",
    ]
    assert "'a' and 'c' share" in found[-1]


def test_each_problem_stands_on_a_line_of_its_own_for_people(check):
    told = check('nmae = "x"\nstate = "relative"\n')

    assert told.code == 2
    assert "\n  - nmae: there is no such key\n" in told.err
    assert "\n  - state: relative is not an absolute path\n" in told.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('listen = "here"', "listen: 'here' is not '<address>:<port>'"),
        ('listen = "127.0.0.1:70000"', "is not '<address>:<port>'"),
        ('public_url = "http://far.example"', "public_url: http://far.example is neither https nor loopback"),
        ('database = "sqlite:////no/such/folder/x.sqlite"', "database: the folder /no/such/folder does not exist"),
        ('database = "sqlite:///{tmp}/a?b.sqlite"', "a?b.sqlite has a '?'"),
        ('database = "oracle://x/y"', "'oracle' is not known"),
        ('database_password_file = "{tmp}/absent"', "database_password_file: {tmp}/absent cannot be read"),
        ('[slack]\nwebhook_file = "{tmp}/absent"', "slack.webhook_file: cannot read {tmp}/absent: No such file"),
        ('[[rules]]\nname = "r"\npeer = "chajnantor"', "rules.r: the peer is this site itself"),
        ('[[rules]]\nname = "r"\npeer = "x"\n[[rules]]\nname = "r"\npeer = "y"', "rules: the name 'r' is given twice"),
        (STORE.replace("{name}", "a") * 2, "stores: the name 'a' is given twice"),
    ],
)
def test_what_cannot_work_is_told(check, tmp_path, text, words):
    found = problems_of(check(f'name = "chajnantor"\nstate = "{{tmp}}/state"\n{text}\n', "--json"))

    assert any(words.replace("{tmp}", str(tmp_path)) in problem for problem in found), found


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"LIBRARIAN__LIMITS__WORKERS": "0"}, "limits.workers"),
        ({"LIBRARIAN__LIMITS__WORKRS": "1"}, "limits.workrs: there is no such key"),
        ({"LIBRARIAN__NAME": "UPPER"}, "name"),
        ({"LIBRARIAN__TRUSTED_PROXIES": "10.0.0.0/8"}, "trusted_proxies"),
    ],
)
def test_what_the_environment_overrides_is_looked_at_too(check, variables, words):
    found = problems_of(check('state = "{tmp}/state"\n', "--json", **variables))

    assert any(words in problem for problem in found), found


def test_stores_can_come_from_the_environment(check, tmp_path):
    stores = json.dumps([{"name": "env", "root": f"{tmp_path}/env", "staging": f"{tmp_path}/env-staging"}])

    told = check('state = "{tmp}/state"\n', "--json", LIBRARIAN__STORES=stores)

    assert [store["name"] for store in json.loads(told.out)["stores"]] == ["env"]


def test_a_root_that_cannot_be_written_is_told(check, mounts, tmp_path):
    mounts.tmpfs(tmp_path / "a", "size=1m,ro")

    found = problems_of(check('state = "{tmp}/state"\n' + STORE.replace("{name}", "a"), "--json"))

    assert [problem.partition(": ")[0] for problem in found] == ["stores.a.root", "stores.a.staging"]


def test_a_staging_on_another_file_system_is_told(check, mounts, tmp_path):
    (tmp_path / "a" / "root").mkdir(parents=True)
    mounts.tmpfs(tmp_path / "a" / "staging", "size=1m")

    (problem,) = problems_of(check('state = "{tmp}/state"\n' + STORE.replace("{name}", "a"), "--json"))

    assert "cannot be renamed" in problem
    assert list((tmp_path / "a" / "staging").iterdir()) == []


def test_a_certificate_with_its_key_is_good(check, certificate):
    certificate("one")

    told = check('state = "{tmp}/state"\n[tls]\ncertificate = "{tmp}/one.pem"\nkey = "{tmp}/one.key"\n')

    assert told.code == 0


def test_a_certificate_with_another_key_is_told(check, certificate):
    certificate("one")
    certificate("two")
    text = 'state = "{tmp}/state"\n[tls]\ncertificate = "{tmp}/one.pem"\nkey = "{tmp}/two.key"\n'

    (problem,) = problems_of(check(text, "--json"))

    assert problem.startswith("tls: ")
    assert "one.pem" in problem


def test_a_key_with_a_passphrase_is_told_and_nobody_is_asked(check, certificate):
    certificate("one", passphrase="hush hush")
    text = 'state = "{tmp}/state"\n[tls]\ncertificate = "{tmp}/one.pem"\nkey = "{tmp}/one.key"\n'

    (problem,) = problems_of(check(text, "--json"))

    assert problem.startswith("tls: ")


def test_a_missing_file_is_told(admin, tmp_path):
    told = admin("--config", tmp_path / "none.toml", "config", "check")

    assert told.code == 2
    assert f"cannot read {tmp_path}/none.toml: No such file or directory" in told.err
