"""Drives from the command line: made, found, shown; here folders take the place of disks."""

import json

import pytest


@pytest.fixture
def folder(tmp_path):
    """An empty place."""
    path = tmp_path / "media"
    path.mkdir()
    return path


def test_a_drive_is_made_listed_and_shown(beside, folder):
    made = beside("drive", "init", folder, "--name", "B01", "--folder", "--json")
    (listed,) = [json.loads(line) for line in beside("drive", "list", "--json").out.splitlines() if "B01" in line]
    shown = beside("drive", "show", "B01")

    assert json.loads(made.out)["drive"] == {**listed, "free_bytes": json.loads(made.out)["drive"]["free_bytes"]}
    assert (listed["state"], listed["is_plugged"], listed["path"]) == ("loading", True, str(folder))
    assert listed["free_bytes"] > 0
    assert "drive 'B01': loading since" in shown.out
    assert "  made, by " in shown.out


def test_a_drive_stands_in_no_list_of_stores_and_is_not_closed_like_one(beside, folder):
    beside("drive", "init", folder, "--name", "B02", "--folder")

    assert "B02" not in beside("store", "list").out
    refused = beside("store", "close", "B02")
    assert (refused.code, "is a drive" in refused.err) == (2, True)


def test_a_folder_is_not_taken_for_a_disk(beside, folder):
    refused = beside("drive", "init", folder, "--name", "B03")

    assert refused.code == 2
    assert "nothing is mounted" in refused.err
    assert "--folder" in refused.err
    assert list(folder.iterdir()) == []


def test_a_drive_in_a_folder_is_told_where_it_is(beside, folder, tmp_path):
    beside("drive", "init", folder, "--name", "B04", "--folder")

    refused = beside("drive", "attach", "B04", tmp_path)
    again = beside("drive", "attach", "B04", folder)

    assert (refused.code, "is not at" in refused.err) == (2, True)
    assert (again.code, "is plugged in at" in again.out) == (0, True)


def test_a_drive_that_nobody_made_is_not_found(beside):
    refused = beside("drive", "show", "nobody")

    assert (refused.code, "drive list" in refused.err) == (2, True)


@pytest.mark.parametrize("name", ["A 07", "", "a/7"])
def test_a_drive_has_a_name_that_fits_a_label(beside, folder, name):
    refused = beside("drive", "init", folder, "--name", name, "--folder")

    assert refused.code == 2
    assert list(folder.iterdir()) == []


def test_a_drive_that_is_not_sealed_has_neither_slip_nor_manifest(beside, folder, tmp_path):
    beside("drive", "init", folder, "--name", "B05", "--folder")

    slip = beside("drive", "slip", "B05")
    manifest = beside("drive", "manifest", "B05", "--output", tmp_path / "b05.manifest")
    sealed = beside("drive", "seal", "B05", "--to", "nersc")

    assert (slip.code, manifest.code, sealed.code) == (2, 2, 2)
    assert "Seal it first" in slip.err
    assert "nothing is on the drive" in sealed.err
    assert not (tmp_path / "b05.manifest").exists()
