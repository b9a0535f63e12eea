"""Names, books and local paths as they come: blanks, dashes, other alphabets, nothing inside, something in the way."""

import os
import sqlite3
from contextlib import closing

import pytest

from librarian.cli import terminal
from librarian.names import StoreName
from tests.holding import hold


@pytest.fixture
def database_url(sqlite_url):
    """One database is enough: nothing here depends on which it is."""
    return sqlite_url


def published(working, name):
    return working.site.stores.lookup(StoreName("fast")).root / name


@pytest.mark.parametrize(
    "name", ["with some blanks", "日本/ünï", "-dash", "--json", "a'b\"c", "tilde~", "%2e%2e", "a?b#c"]
)
async def test_any_name_goes_there_and_back(working, run, tmp_path, name):
    (tmp_path / "source").write_bytes(b"content")

    up = await run("upload", "--", "source", name)
    found = await run("search", "--limit", "1")
    where = await run("where", "--", name)
    down = await run("download", "--", name, "copy")

    assert [outcome.code for outcome in (up, found, where, down)] == [0, 0, 0, 0]
    assert found.out.split("\t")[0] == name
    assert where.out == f"{published(working, name)}\n"
    assert (tmp_path / "copy").read_bytes() == b"content"


@pytest.mark.parametrize("local", ["-dash", "with some blanks", "日本"])
async def test_a_local_path_may_look_like_anything(working, run, tmp_path, local):
    (tmp_path / local).write_bytes(b"content")

    up = await run("upload", "--", local, "there/")
    equal = await run("verify", "--", local, f"there/{local}")

    assert (up.code, equal.code) == (0, 0)
    assert published(working, f"there/{local}").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../x", "has the part '..'"),
        ("/etc/passwd", "has the part ''"),
        ("a//b", "has the part ''"),
        (".", "has the part '.'"),
        ("", "the name is empty"),
        ("tab\there", "has a control character"),
        (".librarian-store", "is reserved"),
        ("x" * 1025, "has 1,025 bytes"),
        ("\udcff", "is not valid UTF-8"),
    ],
)
async def test_what_cannot_be_a_name_is_refused_before_anything_is_sent(run, tmp_path, name, words):
    (tmp_path / "source").write_bytes(b"content")

    code, out, err = await run("upload", "source", name)

    assert (code, out) == (2, "")
    assert words in err


@pytest.mark.parametrize("name", ["with/../dots", "a//b", "\udcff"])
@pytest.mark.parametrize("command", ["show", "where", "download"])
async def test_what_cannot_be_a_name_cannot_be_asked_for(run, command, name):
    code, out, err = await run(command, name)

    assert (code, out) == (2, "")
    assert "the name" in err


async def test_a_book_with_no_members_goes_there_and_back(working, run, tmp_path):
    (tmp_path / "empty").mkdir()

    up = await run("upload", "empty", "books/empty")
    down = await run("download", "books/empty", "copy")
    equal = await run("verify", "copy", "books/empty")
    shown = await run("show", "books/empty")

    assert [outcome.code for outcome in (up, down, equal, shown)] == [0, 0, 0, 0]
    assert list((tmp_path / "copy").iterdir()) == []
    assert "book, 0 B (0 bytes), 0 members" in shown.out


async def test_a_book_of_one_member_has_one_member(working, run):
    await hold(working.site, "book", {"a": b"1"})

    _, out, _ = await run("show", "book")

    assert "1 member\n" in out


async def test_a_book_comes_back_with_its_empty_directories(working, run, tmp_path):
    await hold(working.site, "book", {"a/b": b"1", "empty": None})

    code, _, _ = await run("download", "book")

    assert code == 0
    assert (tmp_path / "book" / "a" / "b").read_bytes() == b"1"
    assert (tmp_path / "book" / "empty").is_dir()


async def test_a_local_file_is_not_overwritten(working, run, tmp_path):
    await hold(working.site, "a", b"content")
    (tmp_path / "mine").write_bytes(b"mine")

    code, out, err = await run("download", "a", "mine")

    assert (code, out) == (2, "")
    assert "'mine' exists" in err
    assert (tmp_path / "mine").read_bytes() == b"mine"


async def test_a_local_book_is_not_mixed_with_another(working, run, tmp_path):
    await hold(working.site, "book", {"a": b"1"})
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "mine").write_bytes(b"mine")

    code, _, err = await run("download", "book")
    again, _, _ = await run("download", "book", "book")

    assert code == 2
    assert "'book' exists" in err
    assert again == 0
    assert sorted(path.name for path in (tmp_path / "book").iterdir()) == ["book", "mine"]


async def test_a_link_that_leads_nowhere_is_not_overwritten(working, run, tmp_path):
    await hold(working.site, "a", b"content")
    (tmp_path / "link").symlink_to("nowhere")

    code, _, err = await run("download", "a", "link")

    assert code == 2
    assert "'link' exists" in err
    assert not (tmp_path / "nowhere").exists()


async def test_folders_on_the_way_to_the_target_are_made(working, run, tmp_path):
    await hold(working.site, "a", b"content")

    code, _, _ = await run("download", "a", "some/where/new")

    assert code == 0
    assert (tmp_path / "some" / "where" / "new").read_bytes() == b"content"


@pytest.mark.parametrize("target", ["file/below", "/proc/here"])
async def test_a_target_that_cannot_be_written_exits_2(working, run, tmp_path, target):
    await hold(working.site, "a", b"content")
    (tmp_path / "file").touch()

    code, out, err = await run("download", "a", target)

    assert (code, out) == (2, "")
    assert "cannot write" in err


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.symlink_to("/etc"), "neither a directory nor a regular file"),
        (os.mkfifo, "neither a directory nor a regular file"),
        (lambda path: path.with_name("\udcff").touch(), "is not valid UTF-8"),
    ],
)
async def test_a_book_with_something_else_inside_is_refused(run, tmp_path, make, words):
    (tmp_path / "book").mkdir()
    make(tmp_path / "book" / "inside")

    code, out, err = await run("upload", "book", "book")

    assert (code, out) == (2, "")
    assert words in err


async def test_a_name_that_nothing_has_is_told_with_how_to_look_for_it(run):
    code, out, err = await run("where", "absent")

    assert (code, out) == (2, "")
    assert "no file is named 'absent'" in err
    assert "'*part*'" in err


async def test_a_copy_that_is_known_to_be_bad_is_no_place_to_open(working, run, sqlite_url):
    await hold(working.site, "a", b"content")
    with closing(sqlite3.connect(sqlite_url.partition(":///")[2])) as catalog, catalog:
        catalog.execute("UPDATE instances SET presence = 'corrupt'")

    code, out, err = await run("where", "a")

    assert (code, out) == (2, "")
    assert "no good copy of 'a' is at this site" in err


async def test_in_a_pipe_progress_is_told_in_lines_beside_the_results(run, source, some_bytes, monkeypatch):
    monkeypatch.setattr(terminal, "LINE_INTERVAL", 0)

    code, out, err = await run("upload", "--http", source(some_bytes(1_000_000)), "large")

    assert code == 0
    assert out.startswith("uploaded\tlarge\t1000000\t")
    assert err.splitlines()[-1].startswith("large: done, 1 MB of 1 MB, ")
    assert "\r" not in err
    assert "\x1b" not in err


async def test_with_json_no_progress_is_told(run, source, some_bytes, monkeypatch):
    monkeypatch.setattr(terminal, "LINE_INTERVAL", 0)

    _, out, err = await run("upload", "--json", "--http", source(some_bytes(1_000_000)), "large")

    assert err == ""
    assert out.count("\n") == 1
