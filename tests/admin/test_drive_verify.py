"""A sealed drive is checked on any machine: nothing but the drive is there."""

import json

import pytest

from librarian import manifest
from librarian.stores import examining
from librarian.stores.identity import Identity
from tests.suitcases import KEY, STORE, seal_folder


@pytest.fixture
def drive(tmp_path):
    """A sealed drive in a folder."""
    root = tmp_path / "media"
    (root / "2026/11/book/empty").mkdir(parents=True)
    return seal_folder(root)


def test_a_good_drive_is_good_and_says_who_signed_it(admin, drive):
    found = admin("drive", "verify", drive)

    assert found.code == 0, found.err
    assert "3 files, 1.01 kB: all good" in found.out
    assert manifest.fingerprint(KEY.public) in found.out


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


SPOIL = {
    "a flipped byte": (lambda root: flip(root / "2026/11/book/deep/a"), "2026/11/book", "deep/a", "digest"),
    "a short file": (lambda root: (root / "top").write_bytes(b""), "top", None, "0 bytes instead of 1"),
    "a missing file": (lambda root: (root / "top").unlink(), "top", None, "missing"),
    "a missing member": (lambda root: (root / "2026/11/book/c").unlink(), "2026/11/book", "c", "missing"),
    "a missing folder": (lambda root: (root / "2026/11/book/empty").rmdir(), "2026/11/book", "empty", "missing"),
    "another member": (lambda root: (root / "2026/11/book/d").touch(), "2026/11/book", "d", "not in the manifest"),
    "a missing book": (
        lambda root: (root / "2026/11/book").rename(root / "2026/11/moved"),
        "2026/11/book",
        None,
        "missing",
    ),
    "a link": (
        lambda root: ((root / "top").unlink(), (root / "top").symlink_to("2026/11/one")),
        "top",
        None,
        "it is a symbolic link",
    ),
    "a folder": (lambda root: ((root / "top").unlink(), (root / "top").mkdir()), "top", None, "not a regular file"),
}


@pytest.mark.parametrize(("spoil", "name", "member", "words"), SPOIL.values(), ids=SPOIL)
def test_what_is_bad_is_named_with_its_reason(admin, drive, spoil, name, member, words):
    spoil(drive)

    found = admin("drive", "verify", drive, "--json")

    flaw, *_, summary = map(json.loads, found.out.splitlines())
    assert found.code == 4
    assert (flaw["name"], flaw["member"]) == (name, member)
    assert words in flaw["reason"]
    assert (summary["bad"], summary["files"]) == (1, 3)


def test_what_stands_beside_the_sealed_files_is_named_and_no_fault(admin, drive):
    for folder in ("lost+found", ".librarian-staging", "photos/summer", "2026/11/empty"):
        (drive / folder).mkdir(parents=True)
    for name in ("photos/summer/beach.jpg", "2026/notes", "Readme"):
        (drive / name).touch()

    told = admin("drive", "verify", drive)
    lines = [json.loads(line) for line in admin("drive", "verify", drive, "--json").out.splitlines()]

    extras = ["2026/11/empty/", "2026/notes", "Readme", "photos/"]
    assert (told.code, "all good\nnot in the manifest, and not taken: 4 files or folders\n" in told.out) == (0, True)
    assert [line["extra"] for line in lines] == [*extras, 4]
    assert all(f"EXTRA  {name}: it is not in the manifest" in told.out for name in extras)


def test_a_copy_of_the_drive_is_told_from_it(admin, drive):
    examining.found(drive, Identity(uuid=STORE, generation=8))

    found = admin("drive", "verify", drive)

    assert found.code == 4
    assert "is not the drive that was sealed" in found.err


def test_a_damaged_manifest_is_told_and_another_one_helps(admin, drive, tmp_path):
    kept = tmp_path / "kept.manifest"
    kept.write_bytes((drive / manifest.NAME).read_bytes())
    (drive / manifest.NAME).write_bytes(kept.read_bytes()[:-50])

    damaged = admin("drive", "verify", drive)
    helped = admin("drive", "verify", drive, "--manifest", kept)

    assert (damaged.code, "truncated" in damaged.err) == (4, True)
    assert helped.code == 0


def test_a_place_without_a_manifest_is_no_sealed_drive(admin, tmp_path):
    assert admin("drive", "verify", tmp_path).code == 2
    assert admin("drive", "verify", tmp_path / "nowhere").code == 2


def test_verifying_changes_nothing(admin, drive):
    before = {path: path.stat().st_mtime_ns for path in drive.rglob("*")}

    admin("drive", "verify", drive)

    assert {path: path.stat().st_mtime_ns for path in drive.rglob("*")} == before
