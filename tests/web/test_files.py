"""Searching, describing and listing over HTTP."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from librarian.catalog.queries import FileQuery, Order
from librarian.errors import BadRequest
from librarian.wire.cursors import read_cursor, write_cursor
from tests.holding import hold


async def search(live, query=""):
    return await live.call("GET", f"/api/v1/files{query}", user="reader")


async def test_a_search_without_conditions_finds_everything(live_server):
    checksum = await hold(live_server.site, "2026/a.h5", b"content")

    reply = await search(live_server)

    assert reply.status == 200
    assert reply.json == {
        "files": [
            {
                "name": "2026/a.h5",
                "kind": "file",
                "size": 7,
                "checksum": checksum,
                "uploader": "ana",
                "origin": "chajnantor",
                "created_at": "2026-11-05T12:30:00Z",
            }
        ],
        "next_cursor": None,
    }


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?match=2026/*", ["2026/a", "2026/b"]),
        ("?match=*b", ["2026/b"]),
        ("?match=2026/b", ["2026/b"]),
        ("?kind=book", ["book"]),
        ("?uploader=ben", []),
        ("?store=fast&order=name", ["2026/a", "2026/b", "book"]),
        ("?since=2026-11-05&until=2026-11-06&order=name", ["2026/a", "2026/b", "book"]),
        ("?since=2026-11-05T12:30:01Z", []),
        ("?until=2026-11-05T12:30:00Z", []),
        ("?min_size=2&max_size=2", ["2026/b"]),
        ("?origin=elsewhere", []),
    ],
)
async def test_a_search_finds_what_meets_its_conditions(live_server, query, names):
    await hold(live_server.site, "2026/a", b"1")
    await hold(live_server.site, "2026/b", b"22")
    await hold(live_server.site, "book", {"x": b"333"})

    reply = await search(live_server, query)

    assert [file["name"] for file in reply.json["files"]] == names


async def test_following_the_cursor_visits_every_file_once(live_server):
    for number in range(5):
        await hold(live_server.site, f"f{number}", b"x")

    first = await search(live_server, "?limit=2&order=name")
    second = await search(live_server, f"?limit=2&order=name&cursor={first.json['next_cursor']}")
    third = await search(live_server, f"?limit=2&order=name&cursor={second.json['next_cursor']}")

    found = [file["name"] for reply in (first, second, third) for file in reply.json["files"]]
    assert found == ["f0", "f1", "f2", "f3", "f4"]
    assert third.json["next_cursor"] is None


async def test_a_cursor_of_another_search_is_refused(live_server):
    for number in range(3):
        await hold(live_server.site, f"f{number}", b"x")
    cursor = (await search(live_server, "?limit=1")).json["next_cursor"]

    reply = await search(live_server, f"?limit=1&kind=file&cursor={cursor}")

    assert (reply.status, reply.json["code"]) == (400, "bad_request")
    assert "next_cursor" in reply.json["remedy"]


@pytest.mark.parametrize("cursor", ["x", "AAAA", "%00", "..%2F..%2Fetc", "é", "A" * 20_000, "=" * 8])
async def test_a_made_up_cursor_is_refused(live_server, cursor):
    reply = await search(live_server, f"?cursor={cursor}")

    assert reply.status == 400


@pytest.mark.parametrize(
    ("at", "status"),
    [
        ("2026-01-01T00:00:00+00:00", 200),
        ("2026-01-01T00:00:00", 200),
        ("9999-12-31T23:59:59-12:00", 400),
        ("yesterday", 400),
    ],
)
async def test_a_forged_cursor_is_read_or_refused(live_server, at, status):
    question = f"files {FileQuery(order=Order.NEWEST)}"

    reply = await search(live_server, f"?cursor={write_cursor(question, (at, 1, 'a'))}")

    assert reply.status == status


@given(
    parts=st.lists(st.one_of(st.text(max_size=20), st.integers(-(2**62), 2**62)), max_size=3),
    position=st.integers(0, 200),
    letter=st.sampled_from("abcXYZ019-_"),
)
def test_an_altered_cursor_is_refused(parts, position, letter):
    cursor = write_cursor("question", parts)
    kinds = [type(part) for part in parts]
    at = position % len(cursor)
    altered = cursor[:at] + letter + cursor[at + 1 :]

    assert read_cursor("question", cursor, kinds) == tuple(parts)
    if altered != cursor:
        with pytest.raises(BadRequest):
            read_cursor("question", altered, kinds)


@pytest.mark.parametrize(
    "query",
    [
        "?limit=0",
        "?limit=1001",
        "?limit=x",
        "?since=yesterday",
        "?kind=directory",
        "?order=size",
        "?min_size=-1",
        "?match=",
        "?match=%0a",
        "?uploader=%2e%2e/x",
        "?unknown=1",
        "?match=a&match=b",
        "?since=999999-01-01",
        "?min_size=99999999999999999999",
        "?since=9999-12-31T23:59:59-12:00",
        "?until=0001-01-01T00:00:00%2b14:00",
    ],
)
async def test_a_nonsensical_condition_is_refused_with_its_name(live_server, query):
    reply = await search(live_server, query)

    assert reply.status == 400
    assert reply.json["remedy"]


async def test_the_description_says_where_to_open_the_file(live_server):
    await hold(live_server.site, "2026/a.h5", b"content")

    reply = await live_server.call("GET", "/api/v1/files/2026/a.h5", user="reader")

    instance = reply.json["instances"][0]
    assert reply.status == 200
    assert instance["store"] == "fast"
    assert Path(instance["path"]).read_bytes() == b"content"
    assert [event["what"] for event in reply.json["story"]] == ["ingested"]
    assert reply.json["remote_instances"] == reply.json["copies_due"] == []


async def test_the_description_of_a_book_counts_its_members(live_server):
    await hold(live_server.site, "book", {"a/x": b"1", "a/y": b"2", "empty": None})

    reply = await live_server.call("GET", "/api/v1/files/book", user="reader")

    assert reply.json["member_count"] == 3


@pytest.mark.parametrize("path", ["files", "members", "content"])
@pytest.mark.parametrize(
    "name", ["absent", "2026/absent", "%2e%2e/etc/passwd", "a%00b", "a//b", "%2Fetc%2Fpasswd", "a/."]
)
async def test_what_is_not_held_is_not_found(live_server, path, name):
    reply = await live_server.call("GET", f"/api/v1/{path}/{name}", user="reader")

    assert (reply.status, reply.json["code"]) == (404, "not_found")


async def test_a_name_with_strange_characters_is_described(live_server):
    name = "a b/é?#%&+.h5"
    await hold(live_server.site, name, b"x")

    reply = await live_server.call("GET", "/api/v1/files/a%20b/%C3%A9%3F%23%25%26%2B.h5", user="reader")

    assert reply.json["name"] == name


async def test_members_come_by_path_in_pages(live_server):
    await hold(live_server.site, "book", {"b": b"22", "a/x": b"1", "empty": None, "a": None} | {"c": b""})

    first = await live_server.call("GET", "/api/v1/members/book?limit=3", user="reader")
    cursor = first.json["next_cursor"]
    second = await live_server.call("GET", f"/api/v1/members/book?limit=3&cursor={cursor}", user="reader")

    members = first.json["members"] + second.json["members"]
    assert [(member["path"], member["size"]) for member in members] == [("a/x", 1), ("b", 2), ("c", 0), ("empty/", 0)]
    assert members[0]["checksum"].startswith("xxh3:")
    assert members[3]["checksum"] is None
    assert second.json["next_cursor"] is None


async def test_a_plain_file_has_no_members(live_server):
    await hold(live_server.site, "file", b"x")

    reply = await live_server.call("GET", "/api/v1/members/file", user="reader")

    assert reply.status == 404
