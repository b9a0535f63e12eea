"""``database``: made, brought up to date, looked through and copied, whether a server runs or not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import librarian
from librarian.catalog import migrations
from tests.admin.conftest import PASSWORD

#: What a later version might add.
HEAD = migrations.head()
LATER = f"""
from alembic import op
import sqlalchemy as sa
revision, down_revision, branch_labels, depends_on = "later", "{HEAD}", None, None
def upgrade():
    op.add_column("files", sa.Column("colour", sa.Text(), nullable=True))
"""


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    """Run a command of a librarian that is one revision ahead of us."""
    package = tmp_path_factory.mktemp("later") / "librarian"
    # With what is compiled: it is still true of copies, and to compile everything takes longer than the tests.
    shutil.copytree(Path(librarian.__file__).parent, package)
    (package / "catalog" / "migrations" / "versions" / "later.py").write_text(LATER)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "librarian.admin", *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(package.parent)},
            input=PASSWORD,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(params=["sqlite", "postgresql"])
def config(request, new_config):
    """The settings of a site with a fresh catalog of either kind."""
    url = request.getfixturevalue(f"{request.param}_url").replace("+aiosqlite", "").replace("+asyncpg", "")
    return new_config(f'database = "{url}"')


def test_an_empty_database_is_brought_to_the_newest_revision(idle):
    migrated = idle("database", "migrate", "--json")

    assert (migrated.code, migrated.err) == (0, "")
    assert json.loads(migrated.out) == {"before": None, "after": HEAD}


def test_migrating_again_does_nothing(admin, config):
    migrated = admin("--config", config, "database", "migrate")

    assert (migrated.code, migrated.out) == (0, f"The catalog is at revision {HEAD} (was: {HEAD}).\n")


def test_settings_that_cannot_work_are_not_migrated(admin, new_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = new_config()
    config.write_text('state = "here"\n')

    refused = admin("--config", config, "database", "migrate")

    assert refused.code == 2
    assert "state: here is not an absolute path" in refused.err
    assert not (tmp_path / "here").exists()


def test_a_catalog_that_is_served_is_not_migrated(beside, server):
    refused = beside("database", "migrate")

    assert refused.code == 3
    assert f"pid {server.process.pid}" in refused.err


def test_an_older_catalog_is_refused_with_the_command_that_migrates_it(later, config):
    refused = later("--config", config, "account", "list")

    assert refused.returncode == 2
    assert f"the catalog is at revision {HEAD}, this librarian works with later" in refused.stderr
    assert "run 'python -m librarian.admin database migrate'" in refused.stderr


def test_a_check_of_an_older_catalog_says_to_migrate_it(later, config):
    checked = later("--config", config, "database", "check")

    assert checked.returncode == 4
    assert "older than later: run 'database migrate'" in checked.stderr


def test_a_migrated_catalog_is_newer_than_we_know(later, admin, config):
    migrated = later("--config", config, "database", "migrate")
    refused = admin("--config", config, "account", "list")

    assert (migrated.returncode, migrated.stdout) == (0, f"The catalog is at revision later (was: {HEAD}).\n")
    assert refused.code == 2
    assert "A newer librarian wrote it" in refused.err


def test_a_sound_catalog_is_said_to_be_sound_while_it_is_served(beside):
    text, in_json = beside("database", "check"), beside("database", "check", "--json")

    assert (text.code, text.out) == (0, "The catalog is sound.\n")
    assert (in_json.code, json.loads(in_json.out)) == (0, {"problems": []})


def test_a_damaged_catalog_exits_4_with_every_problem(idle, tmp_path):
    idle("database", "migrate")
    (tmp_path / "chajnantor" / "catalog.sqlite").write_bytes(b"SQLite format 3\x00 and then nothing of the kind")

    checked = idle("database", "check", "--json")

    refusal = json.loads(checked.err)
    assert (checked.code, checked.out, refusal["code"]) == (4, "", "integrity")
    assert refusal["details"]["problems"]


def test_every_command_tells_a_damaged_catalog_from_a_bug(idle, tmp_path):
    idle("database", "migrate")
    (tmp_path / "chajnantor" / "catalog.sqlite").write_bytes(b"not a database, whatever it is called")

    refused = idle("account", "list", "--json")

    assert (refused.code, json.loads(refused.err)["code"]) == (4, "catalog_damaged")


def test_a_check_makes_no_catalog_where_there_is_none(idle, tmp_path):
    checked = idle("database", "check")

    assert checked.code == 2
    assert "there is no catalog" in checked.err
    assert not (tmp_path / "chajnantor").exists()


def test_a_backup_is_written_while_the_catalog_is_served(beside, tmp_path):
    written = beside("database", "backup", tmp_path / "copy", "--json")

    told = json.loads(written.out)
    assert told == {"path": f"{tmp_path}/copy", "size": (tmp_path / "copy").stat().st_size}


def test_a_backup_is_written_of_either_database_and_found_sound(admin, config, tmp_path):
    written = admin("--config", config, "database", "backup", tmp_path / "copy")
    checked = admin("--config", config, "database", "check", tmp_path / "copy")

    assert written.out.startswith(f"Wrote {tmp_path}/copy, ")
    assert (checked.code, checked.err) == (0, "")
    assert checked.out == f"{tmp_path}/copy is sound.\n"


def test_a_backup_never_overwrites(beside, tmp_path):
    (tmp_path / "copy").write_text("older backup")

    refused = beside("database", "backup", tmp_path / "copy")

    assert (refused.code, refused.out) == (2, "")
    assert (tmp_path / "copy").read_text() == "older backup"


def test_a_broken_backup_exits_4(idle, tmp_path):
    idle("database", "migrate")
    idle("database", "backup", tmp_path / "copy")
    os.truncate(tmp_path / "copy", 100_000)

    checked = idle("database", "check", tmp_path / "copy")

    assert checked.code == 4
    assert f"{tmp_path}/copy is not sound" in checked.err
