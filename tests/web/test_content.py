"""Downloads: whole, in ranges, one member, or a whole book as tar."""

import io
import subprocess
import tarfile
import tracemalloc

import pytest

from librarian.errors import RangeUnsatisfiable
from librarian.names import StoreName
from librarian.web.content import wanted_span
from tests.holding import TAKEN_IN, hold
from tests.site_fixtures import basic


@pytest.fixture
def database_url(sqlite_url):
    """One database is enough: nothing here depends on which it is."""
    return sqlite_url


async def get(live, path, *, method="GET", **headers):
    given = {key.replace("_", "-"): value for key, value in headers.items()}
    return await live.call(method, f"/api/v1/content/{path}", user="reader", headers=given)


def root_of(live):
    return live.site.stores.lookup(StoreName("fast")).root


async def test_a_file_comes_whole_with_its_checksum_as_tag(live_server):
    checksum = await hold(live_server.site, "2026/a.h5", b"0123456789")

    reply = await get(live_server, "2026/a.h5")

    assert (reply.status, reply.raw) == (200, b"0123456789")
    assert reply.headers["Etag"] == f'"{checksum}"'
    assert reply.headers["Content-Length"] == "10"
    assert reply.headers["Accept-Ranges"] == "bytes"
    assert reply.headers["Content-Disposition"] == "attachment; filename=\"a.h5\"; filename*=UTF-8''a.h5"


async def test_an_empty_file_comes(live_server):
    await hold(live_server.site, "empty", b"")

    reply = await get(live_server, "empty")

    assert (reply.status, reply.raw) == (200, b"")


@pytest.mark.parametrize(
    ("asked", "content", "told"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ],
)
async def test_a_range_comes_alone(live_server, asked, content, told):
    await hold(live_server.site, "file", b"0123456789")

    reply = await get(live_server, "file", Range=asked)

    assert (reply.status, reply.raw) == (206, content)
    assert reply.headers["Content-Range"] == told


@pytest.mark.parametrize(
    "asked",
    ["bytes=5-4", "bytes=-", "bytes=0-1,4-5", "lines=1-2", "bytes=a-b", "", "bytes=-99", "bytes=\u0661-\u0662"],
)
async def test_a_range_that_means_nothing_gives_the_whole(live_server, asked):
    await hold(live_server.site, "file", b"0123456789")

    reply = await get(live_server, "file", Range=asked)

    assert (reply.status, reply.raw) == (200, b"0123456789")


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(asked):
    with pytest.raises(RangeUnsatisfiable):
        wanted_span(asked, 10)


async def test_a_range_behind_the_end_is_answered_416(live_server):
    await hold(live_server.site, "file", b"0123456789")

    reply = await get(live_server, "file", Range="bytes=10-")

    assert (reply.status, reply.json["code"]) == (416, "range_unsatisfiable")


async def test_a_range_of_other_content_gives_the_whole(live_server):
    await hold(live_server.site, "file", b"0123456789")

    reply = await get(live_server, "file", Range="bytes=4-", If_Range='"xxh3:other"')

    assert (reply.status, reply.raw) == (200, b"0123456789")


async def test_what_the_caller_has_already_is_not_sent_again(live_server):
    checksum = await hold(live_server.site, "file", b"0123456789")

    reply = await get(live_server, "file", If_None_Match=f'"else", "{checksum}"')

    assert (reply.status, reply.raw) == (304, b"")


@pytest.mark.parametrize("name", ["file", "book"])
async def test_head_tells_without_sending(live_server, name):
    await hold(live_server.site, "file", b"0123456789")
    await hold(live_server.site, "book", {"x": b"1"})

    reply = await get(live_server, name, method="HEAD")

    assert (reply.status, reply.raw) == (200, b"")
    assert "Etag" in reply.headers


async def test_one_member_of_a_book_comes_with_ranges(live_server):
    await hold(live_server.site, "book", {"a/ü x": b"0123456789", "b": b""})

    reply = await get(live_server, "book?member=a/%C3%BC%20x", Range="bytes=2-3")

    assert (reply.status, reply.raw) == (206, b"23")
    assert "filename*=UTF-8''%C3%BC%20x" in reply.headers["Content-Disposition"]


@pytest.mark.parametrize("member", ["absent", "a", "empty", "%2e%2e/file", "/etc/passwd", ""])
async def test_what_is_no_member_is_refused(live_server, member):
    await hold(live_server.site, "file", b"secret")
    await hold(live_server.site, "book", {"a/x": b"1", "empty": None})

    reply = await get(live_server, f"book?member={member}")

    assert reply.status in (400, 404)


async def test_a_plain_file_has_no_members_to_fetch(live_server):
    await hold(live_server.site, "file", b"x")

    assert (await get(live_server, "file?member=x")).status == 404


async def test_a_book_comes_as_a_tar_that_unpacks_to_it(live_server, tmp_path):
    content = {"b": b"22", "a/x": b"1" * 1000, "empty": None, "ü/" + "n" * 150: b"long"}
    await hold(live_server.site, "2026/book", content)

    reply = await get(live_server, "2026/book")

    with tarfile.open(fileobj=io.BytesIO(reply.raw)) as archive:
        names = archive.getnames()
        assert {member.mtime for member in archive} == {int(TAKEN_IN.timestamp())}
    subprocess.run(["tar", "-x", "-C", tmp_path], input=reply.raw, check=True)
    assert names == ["book", *(f"book/{path}" for path in sorted(content))]
    assert (tmp_path / "book" / "a" / "x").read_bytes() == b"1" * 1000
    assert (tmp_path / "book" / "empty").is_dir()
    assert reply.headers["Content-Type"] == "application/x-tar"


async def test_two_tars_of_a_book_are_equal(live_server):
    await hold(live_server.site, "book", {"b": b"22", "a": b"1"})

    first, second = await get(live_server, "book"), await get(live_server, "book")

    assert first.raw == second.raw


async def test_an_empty_book_comes_as_a_tar(live_server):
    await hold(live_server.site, "book", {})

    reply = await get(live_server, "book")

    with tarfile.open(fileobj=io.BytesIO(reply.raw)) as archive:
        assert archive.getnames() == ["book"]


async def test_a_copy_that_became_shorter_is_refused_not_sent(live_server):
    await hold(live_server.site, "file", b"0123456789")
    (root_of(live_server) / "file").write_bytes(b"0123")

    reply = await get(live_server, "file")

    assert reply.status == 503
    assert "10" in reply.json["message"]


async def test_a_copy_that_is_gone_from_the_disk_is_refused(live_server):
    await hold(live_server.site, "file", b"0123456789")
    (root_of(live_server) / "file").unlink()

    reply = await get(live_server, "file")

    assert reply.status in (404, 503)


async def test_a_link_in_place_of_a_copy_is_not_followed(live_server, tmp_path):
    (tmp_path / "secret").write_bytes(b"0123456789")
    await hold(live_server.site, "file", b"0123456789")
    (root_of(live_server) / "file").unlink()
    (root_of(live_server) / "file").symlink_to(tmp_path / "secret")

    reply = await get(live_server, "file")

    assert reply.status >= 400
    assert reply.raw != b"0123456789"


async def test_a_large_file_flows_through_little_memory(live_server):
    size = 64 * 1024**2
    await hold(live_server.site, "big", bytes(size))
    url = f"{live_server.url}/api/v1/content/big"
    headers = {"Authorization": basic("reader")}

    tracemalloc.start()
    async with live_server.session.get(url, headers=headers) as answer:
        received = 0
        async for chunk in answer.content.iter_chunked(1024**2):
            received += len(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert received == size
    assert peak < 16 * 1024**2
