"""The manifest of a drive: written once, read and checked anywhere."""

import json
import os
import uuid
from datetime import UTC, datetime

import pytest

from librarian import manifest
from librarian.errors import BadRequest, ManifestDamaged, NotFound, ProtocolMismatch
from librarian.keys import SigningKey
from librarian.wire.manifest import Entry, Head, Sender

KEY = SigningKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
DIGEST = "0123456789abcdef" * 2


def head(files=0, **changes):
    known = {
        "uuid": str(uuid.UUID(int=1)),
        "drive": "A07",
        "store": str(uuid.UUID(int=2)),
        "generation": 7,
        "round": 1,
        "serial": None,
        "sender": Sender(name="chajnantor", uuid=str(uuid.UUID(int=3))),
        "to": "nersc",
        "sealed_at": datetime(2026, 11, 25, tzinfo=UTC),
        "files": files,
        "bytes": 3 * files,
        "key": KEY.public,
    }
    return Head(**{**known, **changes})


def entry(number, **changes):
    known = {
        "uuid": str(uuid.UUID(int=1000 + number)),
        "name": f"2026/11/file-{number:05}",
        "kind": "file",
        "size": 3,
        "checksum": f"xxh3:{DIGEST}",
        "uploader": "ana",
        "origin": "chajnantor",
        "created_at": datetime(2026, 11, 24, tzinfo=UTC),
    }
    return Entry(**{**known, **changes})


BOOK = entry(
    9,
    kind="book",
    checksum=f"book1-xxh3:{DIGEST}",
    members=(("deep/ü\u2028.fits", 3, DIGEST), ("empty", 0, None)),
)


def writer_at(folder, promised):
    return manifest.ManifestWriter(os.open(folder, os.O_RDONLY), promised)


def written(folder, entries, **changes):
    with writer_at(folder, head(len(entries), **changes)) as writer:
        writer.add(b"".join(map(manifest.line, entries)))
        writer.finish(KEY)
    return folder / manifest.NAME


def refusal_of(path):
    with pytest.raises(ManifestDamaged) as refused:
        manifest.open_manifest(path)
    return refused.value.details["reason"], refused.value.details["line"]


@pytest.fixture
def three(tmp_path):
    """A manifest of three files."""
    return written(tmp_path, [entry(1), BOOK, entry(2)])


def test_what_was_written_is_read_again(three):
    found = manifest.open_manifest(three)

    assert found.head == head(3)
    assert list(found.entries()) == [entry(1), BOOK, entry(2)]
    assert [member.path for member in manifest.members_of(BOOK)] == ["deep/ü\u2028.fits", "empty"]


def test_an_empty_drive_has_a_manifest_too(tmp_path):
    found = manifest.open_manifest(written(tmp_path, []))

    assert list(found.entries()) == []


@pytest.mark.parametrize("after", [0, 1, 255, 256, 257, 999, 1000, 1001])
def test_reading_goes_on_after_any_entry(tmp_path, after):
    entries = [entry(number) for number in range(1000)]
    found = manifest.open_manifest(written(tmp_path, entries))

    assert list(found.entries(after=after)) == entries[after:]


def test_every_line_is_json_of_the_public_form(three):
    first, second, book, _, last = map(json.loads, three.read_text().split("\n")[:-1])

    assert first["librarian_manifest"] == 1
    assert first["from"] == {"name": "chajnantor", "uuid": str(uuid.UUID(int=3))}
    assert "members" not in second
    assert book["members"] == [["deep/ü\u2028.fits", 3, DIGEST], ["empty", 0, None]]
    assert set(last) == {"blake3", "signature"}


def test_a_manifest_that_was_not_finished_does_not_stand_on_the_drive(tmp_path):
    with writer_at(tmp_path, head(1)) as writer:
        writer.add(manifest.line(entry(1)))

    with pytest.raises(NotFound):
        manifest.open_manifest(tmp_path / manifest.NAME)


def test_a_manifest_is_written_anew_over_one_that_was_not_finished(tmp_path):
    writer_at(tmp_path, head(1)).close()

    found = manifest.open_manifest(written(tmp_path, [entry(1)]))

    assert found.head.files == 1
    assert [each.name for each in tmp_path.iterdir()] == [manifest.NAME]


@pytest.mark.parametrize("lines", [1, 2, 4])
def test_a_manifest_that_ends_early_is_truncated(three, lines):
    three.write_bytes(b"".join(three.read_bytes().splitlines(keepends=True)[:lines]))

    assert refusal_of(three) == ("truncated", lines)


def test_a_manifest_that_is_cut_within_a_line_is_truncated(three):
    three.write_bytes(three.read_bytes()[:-20])

    assert refusal_of(three) == ("truncated", 5)
    with pytest.raises(ManifestDamaged, match="ends without a seal after 3 of 3 files"):
        manifest.open_manifest(three)


def test_an_empty_manifest_is_truncated(tmp_path):
    (tmp_path / "empty").touch()

    assert refusal_of(tmp_path / "empty") == ("truncated", 1)


def test_a_changed_size_is_noticed(three):
    three.write_bytes(three.read_bytes().replace(b'"size":3', b'"size":4', 1))

    assert refusal_of(three) == ("altered", 5)


def test_a_line_that_rotted_is_named(three):
    three.write_bytes(three.read_bytes().replace(b'"kind":"book"', b'"kind":"bo\x00k"'))

    assert refusal_of(three) == ("malformed", 3)


def test_a_name_that_leaves_the_drive_is_named(three):
    three.write_bytes(three.read_bytes().replace(b"2026/11/file-00002", b"../../11/file-00002"))

    assert refusal_of(three) == ("malformed", 4)


def test_lines_may_not_be_left_out(three):
    lines = three.read_bytes().splitlines(keepends=True)
    three.write_bytes(b"".join([*lines[:1], *lines[2:]]))

    assert refusal_of(three) == ("altered", 4)


def test_a_seal_by_another_key_is_forged(three):
    lines = three.read_bytes().splitlines(keepends=True)
    digest = json.loads(lines[-1])["blake3"]
    stranger = manifest.seal(digest, SigningKey(SigningKey.mint()))
    three.write_bytes(b"".join([*lines[:-1], manifest.line(stranger)]))

    assert refusal_of(three) == ("forged", 5)


def test_another_promise_than_what_is_listed_is_malformed(tmp_path):
    with writer_at(tmp_path, head(2)) as writer:
        writer.add(manifest.line(entry(1)))
        writer.finish(KEY)

    assert refusal_of(tmp_path / manifest.NAME) == ("malformed", 1)


@pytest.mark.parametrize("text", [b"[]\n", b"{}\n", b"a letter\n", b"\x00" * 70_000, b"[" * 60_000])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "other").write_bytes(text)

    assert refusal_of(tmp_path / "other") == ("malformed", 1)


def test_a_fifo_holds_nobody_up(tmp_path):
    os.mkfifo(tmp_path / "fifo")

    assert refusal_of(tmp_path / "fifo") == ("malformed", 1)


def test_another_version_is_told_apart_from_damage(three):
    three.write_bytes(three.read_bytes().replace(b'"librarian_manifest":1', b'"librarian_manifest":2'))

    with pytest.raises(ProtocolMismatch, match="version 2"):
        manifest.open_manifest(three)


def test_what_changes_after_the_check_is_not_read(three):
    found = manifest.open_manifest(three)
    three.write_bytes(three.read_bytes() + b"\n")

    with pytest.raises(ManifestDamaged, match="changed"):
        next(found.entries())


def test_fields_of_a_newer_writer_are_tolerated(tmp_path):
    newer = manifest.line(entry(1)).replace(b'"kind"', b'"colour":"red","kind"')
    with writer_at(tmp_path, head(1)) as writer:
        writer.add(newer)
        writer.finish(KEY)

    assert list(manifest.open_manifest(tmp_path / manifest.NAME).entries()) == [entry(1)]


def test_a_fingerprint_can_be_read_aloud(three):
    found = manifest.open_manifest(three).fingerprint

    assert [len(group) for group in found.split("-")] == [4] * 6
    assert manifest.is_fingerprint(found, of=KEY.public)
    assert manifest.is_fingerprint(found.lower().replace("-", " "), of=KEY.public)
    assert not manifest.is_fingerprint(found, of=SigningKey(SigningKey.mint()).public)
    assert not manifest.is_fingerprint("", of=KEY.public)


def test_what_is_no_key_has_no_fingerprint():
    with pytest.raises(BadRequest):
        manifest.fingerprint("no key!")
