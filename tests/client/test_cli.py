"""The commands for people who bring, find and fetch files: what they do, print and answer."""

import json
from pathlib import Path

import pytest

from librarian.names import StoreName
from tests.holding import hold


@pytest.fixture
def database_url(sqlite_url):
    """One database is enough: nothing here depends on which it is."""
    return sqlite_url


def published(working, name):
    return working.site.stores.lookup(StoreName("fast")).root / name


async def test_upload_says_in_a_pipe_what_was_done_in_fields(working, run, source):
    code, out, err = await run("upload", source(b"content"), "2026/a")

    how, name, size, checksum = out.rstrip("\n").split("\t")
    assert (code, err) == (0, "")
    assert (how, name, size) == ("uploaded", "2026/a", "7")
    assert checksum.startswith("xxh3:")
    assert published(working, "2026/a").read_bytes() == b"content"


async def test_a_directory_becomes_a_book(working, run, source):
    code, out, _ = await run("upload", source({"a": b"1", "b/c": b"2"}), "book")

    assert code == 0
    assert "book1-xxh3:" in out
    assert (published(working, "book") / "b" / "c").read_bytes() == b"2"


async def test_each_uploads_the_files_of_a_directory_separately(working, run, source):
    code, out, _ = await run("upload", "--each", source({"a": b"1", "b/c": b"2"}), "night/")

    assert code == 0
    assert [line.split("\t")[1] for line in out.splitlines()] == ["night/a", "night/b/c"]


async def test_several_sources_get_their_own_names_below_the_last_argument(run, source):
    code, out, _ = await run("upload", source(b"1", "x"), source(b"2", "y"), "2026/")

    assert code == 0
    assert [line.split("\t")[1] for line in out.splitlines()] == ["2026/x", "2026/y"]


async def test_two_sources_of_one_name_are_refused(run, source):
    code, _, err = await run("upload", source(b"1", "a/x"), source(b"2", "b/x"), "2026/")

    assert code == 2
    assert "'2026/x'" in err


async def test_a_repeat_says_that_it_is_held(run, source):
    path = source(b"content")
    await run("upload", path, "a")

    code, out, _ = await run("upload", path, "a")

    assert code == 0
    assert out.startswith("already held\ta\t7\t")


async def test_http_works_where_the_file_system_is_shared(working, run, source):
    code, _, _ = await run("upload", "--http", source({"a": b"1", "empty": None}), "book")

    assert code == 0
    assert (published(working, "book") / "empty").is_dir()


async def test_json_is_one_object_per_line(run, source):
    _, uploaded, _ = await run("upload", "--json", source(b"1", "x"), source(b"2", "y"), "2026/")
    _, found, _ = await run("search", "--json", "2026/*")
    _, shown, _ = await run("show", "--json", "2026/x")
    _, where, _ = await run("where", "--json", "2026/x")
    _, pinged, _ = await run("ping", "--json")
    _, got, _ = await run("download", "--json", "2026/x", "got")
    _, verified, _ = await run("verify", "--json", "got", "2026/x")

    lines = [json.loads(line) for out in (uploaded, found) for line in out.splitlines()]
    assert [line["name"] for line in lines] == ["2026/x", "2026/y"] * 2
    assert json.loads(shown)["instances"][0]["path"] == json.loads(where)["path"]
    assert json.loads(pinged)["account"] == "uploader"
    assert json.loads(got)["checksum"] == json.loads(verified)["checksum"]


async def test_search_prints_fields_that_can_be_cut(working, run):
    await hold(working.site, "2026/a", b"content")
    await hold(working.site, "other", b"x")

    code, out, err = await run("search", "2026/*")

    assert (code, err) == (0, "")
    assert out.split("\t")[:4] == ["2026/a", "file", "7", "2026-11-05T12:30:00+00:00"]
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--since", "2026-11-05", "--until", "2026-11-06"], ["a", "b"]),
        (["--since", "7d"], []),
        (["--min-size", "1kB"], ["b"]),
        (["--max-size", "1KiB", "--kind", "file", "--uploader", "ana", "--store", "fast"], ["a"]),
        (["--order", "name", "-n", "1"], ["a"]),
        (["--all", "--order", "name"], ["a", "b"]),
    ],
)
async def test_search_takes_what_people_type(working, run, options, names):
    await hold(working.site, "a", b"content")
    await hold(working.site, "b", b"x" * 2000)

    code, out, _ = await run("search", *options)

    assert code == 0
    assert sorted(line.split("\t")[0] for line in out.splitlines()) == names


async def test_search_says_when_there_is_more(working, run):
    await hold(working.site, "a", b"1")
    await hold(working.site, "b", b"2")

    _, out, err = await run("search", "-n", "1")

    assert out.count("\n") == 1
    assert "More than 1" in err


async def test_show_tells_the_story(working, run):
    await hold(working.site, "a", b"content")

    code, out, _ = await run("show", "a")

    assert code == 0
    assert str(published(working, "a")) in out
    assert "ingested by ana" in out


async def test_where_prints_a_path_to_open(working, run):
    await hold(working.site, "a", b"content")

    code, out, _ = await run("where", "a")

    assert code == 0
    assert Path(out.rstrip("\n")).read_bytes() == b"content"


async def test_download_fills_a_directory_and_defaults_to_here(working, run, tmp_path):
    await hold(working.site, "2026/a", b"content")
    (tmp_path / "there").mkdir()

    first, _, _ = await run("download", "2026/a")
    second, _, _ = await run("download", "2026/a", "there")

    assert (first, second) == (0, 0)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "there" / "a").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "absent"], 2, "no file is named 'absent'"),
        (["upload", "absent", "a"], 2, "'absent' does not exist"),
        (["upload", "alone"], 2, "a source and a name"),
        (["search", "--since", "soon"], 2, "'soon' is no date"),
        (["search", "--min-size", "much"], 2, "'much' is not a size"),
        (["search", "--kind", "tape"], 2, "kind"),
        (["search", "--nonsense"], 2, "nonsense"),
        (["nonsense"], 2, "nonsense"),
        (["ping", "--at", "nowhere"], 2, "no connection 'nowhere'"),
        (["download", "absent"], 2, "no file is named"),
    ],
)
async def test_what_the_caller_got_wrong_exits_2_with_words(run, arguments, code, words):
    found, out, err = await run(*arguments)

    assert (found, out) == (code, "")
    assert words in err


async def test_a_wrong_password_exits_2(run):
    code, _, err = await run("ping", LIBRARIAN_PASSWORD="hunter2")

    assert code == 2
    assert "hunter2" not in err


async def test_an_unreachable_librarian_exits_3(run):
    code, _, err = await run("ping", LIBRARIAN_URL="http://127.0.0.1:9")

    assert code == 3
    assert "cannot reach http://127.0.0.1:9" in err


async def test_a_local_copy_that_differs_exits_4(working, run, source):
    await hold(working.site, "a", b"content")

    code, _, err = await run("verify", source(b"CONTENT"), "a")

    assert code == 4
    assert "checksum" in err


async def test_a_refusal_in_json_has_its_code(run):
    code, out, err = await run("show", "--json", "absent")

    problem = json.loads(err)
    assert (code, out) == (2, "")
    assert (problem["code"], problem["exit_code"]) == ("not_found", 2)
    assert problem["remedy"]


async def test_of_many_each_failure_is_told(working, run, source):
    await hold(working.site, "2026/x", b"other")

    code, out, err = await run("upload", source(b"1", "x"), source(b"2", "y"), "2026/")

    assert code == 2
    assert out.startswith("uploaded\t2026/y\t")
    assert "Error: 2026/x: " in err
    assert "1 of 2 uploads failed" in err


async def test_of_many_each_failure_is_told_to_programs_with_its_name(working, run, source):
    await hold(working.site, "2026/x", b"other")

    _, out, err = await run("upload", "--json", source(b"1", "x"), source(b"2", "y"), "2026/")

    one, whole = [json.loads(line) for line in err.splitlines()]
    assert json.loads(out)["name"] == "2026/y"
    assert (one["name"], one["code"]) == ("2026/x", "name_held")
    assert (whole["code"], whole["exit_code"]) == ("some_failed", 2)


@pytest.mark.parametrize("command", ["upload", "search", "show", "where", "download", "verify", "ping", "serve"])
async def test_every_command_helps_with_an_example(run, command):
    code, out, _ = await run(command, "--help")

    assert code == 0
    assert f"librarian {command}" in out.partition("Usage")[2].partition("\n")[2]


async def test_serve_refuses_a_configuration_that_cannot_be(run, tmp_path):
    (tmp_path / "site.toml").write_text("nonsense = 1\n")

    code, _, err = await run("serve", "--config", "site.toml")

    assert code == 2
    assert "nonsense" in err
