"""A catalog that was put back from a backup: noticed by the next command, and acknowledged by an operator."""

import json
import shutil

import pytest


@pytest.fixture
def restored(idle, tmp_path):
    """A site whose catalog is older than its store."""
    catalog = tmp_path / "chajnantor" / "catalog.sqlite"
    idle("status")
    idle("database", "backup", tmp_path / "copy")
    idle("status")
    shutil.copyfile(tmp_path / "copy", catalog)
    return idle


def test_a_restored_backup_is_an_alert_with_the_command_to_run(restored):
    told = restored("status")

    assert "ALERT This catalog was restored from a backup" in told.out
    assert "python -m librarian.admin restored acknowledge" in told.out


def test_acknowledging_it_starts_a_later_epoch(restored):
    acknowledged = restored("restored", "acknowledge", "--json")

    told = json.loads(acknowledged.out)
    assert acknowledged.code == 0
    assert told.keys() == {"epoch", "generation"}
    assert told["epoch"] > 1


def test_what_was_acknowledged_is_no_alert_any_more(restored):
    restored("restored", "acknowledge")

    status = json.loads(restored("status", "--json").out)

    assert (status["restored"], status["alerts"]) == (None, [])


def test_without_a_restored_backup_there_is_nothing_to_acknowledge(idle):
    refused = idle("restored", "acknowledge")

    assert (refused.code, refused.out) == (2, "")
    assert "not held to be a restored backup" in refused.err
