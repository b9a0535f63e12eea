"""Searching from scripts: the same words through both doors."""

import asyncio

import pytest

from librarian.client import FilesQuery, connect
from librarian.errors import BadRequest
from tests.holding import hold
from tests.site_fixtures import password_of


@pytest.fixture
def database_url(sqlite_url):
    """One database is enough: nothing here depends on which it is."""
    return sqlite_url


@pytest.fixture
async def held(working):
    """A few files and a book."""
    for name, content in {"2025/a": b"x", "2026/a": b"xx", "2026/b": b"xxx", "2026/book": {"m": b"xxxx"}}.items():
        await hold(working.site, name, content)


@pytest.fixture(params=["async", "script"])
def search(request, client, working):
    """Search through one of the doors; gives the names that were found."""

    async def waiting(*wanted, **conditions):
        return [file.name async for file in client.search(*wanted, **conditions)]

    def script(*wanted, **conditions):
        with connect(working.url, user="uploader", password=password_of("uploader")) as archive:
            return [file.name for file in archive.search(*wanted, **conditions)]

    async def in_a_script(*wanted, **conditions):
        return await asyncio.to_thread(script, *wanted, **conditions)

    return {"async": waiting, "script": in_a_script}[request.param]


@pytest.mark.parametrize(
    ("wanted", "conditions", "names"),
    [
        ((), {}, ["2026/book", "2026/b", "2026/a", "2025/a"]),
        (("2026/*",), {}, ["2026/a", "2026/b", "2026/book"]),
        ((), {"match": "2026/*"}, ["2026/a", "2026/b", "2026/book"]),
        (("2026/*",), {"kind": "file", "min_size": 3}, ["2026/b"]),
        (("*/a",), {"order": "name", "since": "2026-01-01"}, ["2025/a", "2026/a"]),
        ((FilesQuery(match="2026/*", limit=1),), {}, ["2026/a", "2026/b", "2026/book"]),
        ((FilesQuery(match="2026/*"),), {"kind": "book"}, ["2026/book"]),
        ((), {"uploader": None, "kind": "book"}, ["2026/book"]),
    ],
)
async def test_a_glob_conditions_or_a_query_find_what_they_say(held, search, wanted, conditions, names):
    assert await search(*wanted, **conditions) == names


@pytest.mark.parametrize(
    ("wanted", "conditions", "words"),
    [
        (("",), {}, "pattern"),
        ((), {"kind": "folder"}, "kind"),
        ((), {"knd": "book"}, "knd"),
        ((), {"min_size": -1}, "min_size"),
        ((), {"limit": 5}, "limit"),
    ],
)
async def test_a_condition_that_makes_no_sense_is_refused_with_its_name(search, wanted, conditions, words):
    with pytest.raises(BadRequest, match=words) as refused:
        await search(*wanted, **conditions)

    assert refused.value.remedy


async def test_a_condition_that_makes_no_sense_is_refused_before_the_iteration(client):
    with pytest.raises(BadRequest):
        client.search(kind="folder")


async def test_a_page_leads_to_the_next(held, client):
    first = await client.page(FilesQuery(match="2026/*", limit=2))
    second = await client.page(FilesQuery(match="2026/*", limit=2, cursor=first.next_cursor))

    assert [file.name for file in (*first.files, *second.files)] == ["2026/a", "2026/b", "2026/book"]
    assert second.next_cursor is None
