"""A sealed drive is checked on any machine: nothing but the drive is there."""

import json
import os
import uuid

import pytest

from librarian import manifest
from librarian.checksum import Algorithm, measure_blocking
from librarian.keys import SigningKey
from librarian.states import Kind
from librarian.stores import examining
from librarian.stores.identity import Identity
from librarian.timing import utc_now
from librarian.wire.manifest import Entry, Head, Sender
from tests.carrying import CONTENTS, write

KEY = SigningKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
STORE = str(uuid.UUID(int=2))


def entry_of(root, name):
    found = measure_blocking(root / name, Algorithm.XXH3)
    return Entry(
        uuid=str(uuid.uuid4()),
        name=name,
        kind=found.kind.value,
        size=found.size,
        checksum=found.checksum,
        uploader="ana",
        origin="chajnantor",
        created_at=utc_now(),
        members=tuple((m.path, m.size, m.hex) for m in found.members) if found.kind is Kind.BOOK else None,
    )


@pytest.fixture
def drive(tmp_path):
    """A sealed drive in a folder."""
    root = tmp_path / "media"
    for name, content in CONTENTS.items():
        write(root / name, content)
    (root / "2026/11/book/empty").mkdir()
    entries = [entry_of(root, name) for name in CONTENTS]
    examining.found(root, Identity(uuid=STORE, generation=7))
    head = Head(
        uuid=str(uuid.uuid4()),
        drive="A07",
        store=STORE,
        generation=7,
        round=1,
        serial=None,
        sender=Sender(name="chajnantor", uuid=str(uuid.UUID(int=3))),
        to="nersc",
        sealed_at=utc_now(),
        files=len(entries),
        bytes=sum(entry.size for entry in entries),
        key=KEY.public,
    )
    writer = manifest.ManifestWriter(os.open(root, os.O_RDONLY), head)
    writer.add(b"".join(map(manifest.line, entries)))
    writer.finish(KEY)
    writer.close()
    return root


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
        "cannot be read",
    ),
    "a folder": (lambda root: ((root / "top").unlink(), (root / "top").mkdir()), "top", None, "not a regular file"),
}


@pytest.mark.parametrize(("spoil", "name", "member", "words"), SPOIL.values(), ids=SPOIL)
def test_what_is_bad_is_named_with_its_reason(admin, drive, spoil, name, member, words):
    spoil(drive)

    found = admin("drive", "verify", drive, "--json")

    flaw, summary = map(json.loads, found.out.splitlines())
    assert found.code == 4
    assert (flaw["name"], flaw["member"]) == (name, member)
    assert words in flaw["reason"]
    assert (summary["bad"], summary["files"]) == (1, 3)


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
