"""Stores: seen, closed to new files, opened again."""

import json

import pytest

from librarian.client import connect
from librarian.errors import NoRoom


@pytest.fixture
def upload(server, tmp_path):
    """Upload one small file to the shared server."""

    def bring(name):
        source = tmp_path / "source"
        source.write_bytes(b"first light")
        return connect(server.url, user="admin", password=server.password).upload(source, name)

    return bring


@pytest.fixture
def closed(beside):
    """The shared server's store, closed until the end of the test."""
    yield beside("store", "close", "fast")
    beside("store", "open", "fast")


def test_stores_are_listed_with_their_room_in_fields_that_can_be_cut(beside, server):
    name, state, free, root, problem = beside("store", "list").out.rstrip("\n").split("\t")

    assert (name, state, root, problem) == ("fast", "open", f"{server.folder}/fast/root", "-")
    assert int(free) > 0


def test_the_list_in_json_is_one_store_per_line(beside):
    (line,) = beside("store", "list", "--json").out.splitlines()

    found = json.loads(line)
    keys = {"name", "kind", "uuid", "root", "staging", "is_open", "total_bytes", "free_bytes", "problem"}
    assert found.keys() == keys
    assert (found["is_open"], found["problem"]) == (True, None)


def test_a_closed_store_takes_no_new_files(closed, upload):
    with pytest.raises(NoRoom):
        upload("stores/refused")

    assert closed.out == "The store 'fast' is closed.\n"


def test_a_closed_store_is_still_read(beside, server, upload, tmp_path):
    upload("stores/kept")
    beside("store", "close", "fast")

    connect(server.url, user="admin", password=server.password).download("stores/kept", tmp_path / "copy")

    beside("store", "open", "fast")
    assert (tmp_path / "copy").read_bytes() == b"first light"


def test_an_opened_store_takes_files_again(closed, beside, upload):
    opened = beside("store", "open", "fast", "--json")

    assert json.loads(opened.out)["is_open"] is True
    assert upload("stores/taken").name == "stores/taken"


@pytest.mark.parametrize(
    ("name", "words"), [("absent", "no store is called 'absent'"), ("a/b", "'a/b' cannot be a store's name")]
)
def test_a_store_that_is_not_there_is_told(beside, name, words):
    refused = beside("store", "close", name)

    assert (refused.code, refused.out) == (2, "")
    assert words in refused.err
