"""The bytes of uploads over HTTP: whole, resumed, by member and as tar; one writer at a time, and no way out."""

import asyncio
import io
import tarfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.site_fixtures import served
from tests.uploading import checksum_of, file_called
from tests.web.uploads_over_http import UPLOADS, commit, content_of, opened, put, working

__all__ = ["working"]


def tar_of(members: dict[str, bytes | None], *, top="./") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in {"": None, **members}.items():
            info = tarfile.TarInfo(top + name)
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


async def test_a_file_is_resumed_where_it_was_cut_off(working):
    upload = await opened(working, "a", b"truth")
    await put(working, upload, b"tru")
    there = await working.call("HEAD", content_of(upload), user="uploader")
    rest = await put(working, upload, b"th", offset=int(there.headers["Upload-Offset"]))

    reply = await commit(working, upload, checksum_of(b"truth"))

    assert (there.headers["Upload-Offset"], there.headers["Upload-Length"]) == ("3", "5")
    assert rest.json["received"] == 5
    assert reply.json["state"] == "completed"


async def test_a_content_range_resumes_as_an_offset_does(live_server):
    upload = await opened(live_server, "a", b"truth")
    await put(live_server, upload, b"tru")

    reply = await put(live_server, upload, b"th", headers={"Content-Range": "bytes 3-4/5"})

    assert reply.json["received"] == 5


@pytest.mark.parametrize("sent", ["bytes 3-4/6", "bytes 4-3/5", "items 3-4/5", "bytes 3-9/5", "bytes */5"])
async def test_a_content_range_that_contradicts_is_refused(live_server, sent):
    upload = await opened(live_server, "a", b"truth")
    await put(live_server, upload, b"tru")

    assert (await put(live_server, upload, b"th", headers={"Content-Range": sent})).status == 400


async def test_no_hole_is_written(live_server):
    upload = await opened(live_server, "a", b"truth")
    await put(live_server, upload, b"tr")

    reply = await put(live_server, upload, b"th", offset=3)

    assert (reply.status, reply.json["details"]["size"]) == (416, 2)


async def test_more_bytes_than_promised_are_refused(live_server):
    upload = await opened(live_server, "a", b"truth")

    assert (await put(live_server, upload, b"truths")).status == 413


async def test_a_put_again_replaces_what_was_there(working):
    upload = await opened(working, "a", b"truth")
    await put(working, upload, b"liess")
    await put(working, upload, b"truth")

    assert (await commit(working, upload, checksum_of(b"truth"))).json["state"] == "completed"


BOOK = {"header": b"h" * 10, "data": None, "data/a": b"a" * 300_000, "data/b": b"", "empty": None}
BOOK_SUM = checksum_of({name: inner for name, inner in BOOK.items() if name != "data"})


@pytest.mark.parametrize("top", ["./", "book/"])
async def test_a_book_comes_as_one_tar_stream(working, top):
    upload = await opened(working, "2026/book", BOOK)
    sent = await put(working, upload, tar_of(BOOK, top=top))

    reply = await commit(working, upload, BOOK_SUM)

    assert (sent.status, sent.json["received"]) == (200, 300_010)
    assert reply.json["state"] == "completed"
    assert (await file_called(working.site, "2026/book")).checksum == BOOK_SUM


async def test_a_book_comes_member_by_member_side_by_side(working):
    members = {f"d/{number}": bytes([number]) * 100 for number in range(8)}
    upload = await opened(working, "book", members)
    sent = await asyncio.gather(*(put(working, upload, inner, name) for name, inner in members.items()))

    reply = await commit(working, upload, checksum_of(members))

    assert {each.status for each in sent} == {200}
    assert reply.json["state"] == "completed"


async def test_a_member_is_resumed(live_server):
    upload = await opened(live_server, "book", {"d/a": b"truth"})
    await put(live_server, upload, b"tru", "d/a")
    there = await live_server.call("HEAD", content_of(upload, "d/a"), user="uploader")

    rest = await put(live_server, upload, b"th", "d/a", offset=3)

    assert (there.headers["Upload-Offset"], rest.headers["Upload-Offset"]) == ("3", "5")
    assert (Path(upload["staging_path"]) / "d" / "a").read_bytes() == b"truth"


async def test_what_has_arrived_is_told_of_the_whole_or_not_at_all(working):
    members = {"a": b"a" * 14, "b": b"b" * 6}
    upload = await opened(working, "book", members)
    await put(working, upload, members["a"], "a")
    second = await put(working, upload, members["b"], "b")
    asked = await working.call("GET", f"{UPLOADS}/{upload['id']}", user="uploader")

    done = await commit(working, upload, checksum_of(members))
    afterwards = await working.call("GET", f"{UPLOADS}/{upload['id']}", user="uploader")

    received = [reply.json["received"] for reply in (second, asked, done, afterwards)]
    assert received == [None, 20, 20, 20]
    assert upload["received"] is None
    assert second.headers["Upload-Offset"] == "6"


async def test_of_a_store_that_is_away_nobody_says_that_nothing_has_arrived(live_server):
    upload = await opened(live_server, "a", b"truth")
    await put(live_server, upload, b"tru")
    Path(upload["staging_path"]).parents[1].rename(Path(upload["staging_path"]).parents[1].with_name("away"))
    await live_server.site.stores.lookup("fast").probe()

    size = await live_server.call("HEAD", content_of(upload), user="uploader")
    described = await live_server.call("GET", f"{UPLOADS}/{upload['id']}", user="uploader")

    assert (size.status, size.headers.get("Upload-Offset")) == (503, None)
    assert (described.status, described.json["received"]) == (200, None)


def bytes_in(upload) -> int:
    return sum(path.stat().st_size for path in Path(upload["staging_path"]).rglob("*") if path.is_file())


async def test_members_bring_no_more_than_twice_the_promised_bytes(live_server):
    upload = await opened(live_server, "book", {"a": b"x" * 1000})

    replies = [await put(live_server, upload, b"x" * 1000, f"m{number}") for number in range(5)]

    assert [reply.status for reply in replies] == [200, 200, 413, 413, 413]
    assert replies[2].json["details"] == {"limit": 2000}
    assert bytes_in(upload) == 2000


async def test_members_that_come_side_by_side_bring_no_more_either(live_server):
    upload = await opened(live_server, "book", {"a": b"x" * 1000})

    replies = await asyncio.gather(*(put(live_server, upload, b"x" * 1000, f"m{number}") for number in range(12)))

    assert sorted(reply.status for reply in replies) == [200] * 2 + [413] * 10
    assert bytes_in(upload) == 2000


async def test_a_server_that_starts_anew_counts_what_had_come(live_server):
    upload = await opened(live_server, "book", {"a": b"x" * 1000})
    await put(live_server, upload, b"x" * 1000, "a")
    await put(live_server, upload, b"x" * 900, "b")

    async with served(live_server.site) as anew:
        replies = [await put(anew, upload, b"x" * size, name) for name, size in (("c", 101), ("d", 100))]

    assert [reply.status for reply in replies] == [413, 200]


async def test_a_member_that_is_sent_again_and_again_counts_once(live_server):
    upload = await opened(live_server, "book", {"a": b"x" * 1000})

    replies = [await put(live_server, upload, b"x" * 1000, "a") for _ in range(5)]

    assert {reply.status for reply in replies} == {200}


async def test_a_tar_that_is_sent_again_and_again_counts_once(live_server):
    upload = await opened(live_server, "book", {"a": b"x" * 1000})

    replies = [await put(live_server, upload, tar_of({"a": b"x" * 1000})) for _ in range(4)]

    assert [reply.json["received"] for reply in replies] == [1000] * 4


async def test_members_and_tar_streams_together_bring_no_more_than_twice(live_server):
    upload = await opened(live_server, "book", {"a": b"x" * 1000})
    await put(live_server, upload, tar_of({"a": b"x" * 1000}))
    await put(live_server, upload, b"x" * 800, "b")

    member = await put(live_server, upload, b"x" * 300, "c")
    stream = await put(live_server, upload, tar_of({"d": b"x" * 300}))

    assert (member.status, stream.status) == (413, 413)


async def test_of_a_member_that_never_came_nothing_is_there(live_server):
    upload = await opened(live_server, "book", {"d/a": b"truth"})

    assert (await live_server.call("HEAD", content_of(upload, "d/a"), user="uploader")).status == 404


@pytest.mark.parametrize(
    "member", ["..%2Fa", "a/..%2F..%2F..%2Fb", "%2Fetc%2Fpasswd", "a%2F%2Fb", "a/", "%2E%2E", "a%00b", "a%0Ab"]
)
async def test_member_paths_that_escape_are_refused(live_server, tmp_path, member):
    upload = await opened(live_server, "book", {"a": b"truth"})
    before = sorted(tmp_path.rglob("*"))

    reply = await put(live_server, upload, b"truth", member)

    assert reply.status in (400, 404)
    assert sorted(tmp_path.rglob("*")) == before


async def test_a_member_that_is_not_named_in_utf_8_is_refused_not_renamed(live_server):
    upload = await opened(live_server, "book", {"a": b"truth"})

    reply = await put(live_server, upload, b"truth", "a%ff")

    assert (reply.status, reply.json["code"]) == (400, "bad_request")
    assert not Path(upload["staging_path"]).exists()


async def test_a_link_in_staging_is_not_followed_by_a_put(live_server, tmp_path):
    upload = await opened(live_server, "book", {"d/a": b"truth"})
    outside = tmp_path / "outside"
    outside.mkdir()
    Path(upload["staging_path"]).mkdir()
    (Path(upload["staging_path"]) / "d").symlink_to(outside)

    reply = await put(live_server, upload, b"truth", "d/a")

    assert reply.status >= 400
    assert list(outside.iterdir()) == []


async def test_a_file_has_no_members(live_server):
    upload = await opened(live_server, "a", b"truth")

    assert (await put(live_server, upload, b"truth", "x")).status == 409


async def test_a_tar_that_escapes_is_refused_and_writes_nothing_outside(live_server, tmp_path):
    upload = await opened(live_server, "book", {"a": b"truth"})

    reply = await put(live_server, upload, tar_of({"../../../escaped": b"x"}))

    assert (reply.status, reply.json["code"]) == (422, "unsupported_member")
    assert list(tmp_path.rglob("escaped")) == []


async def test_a_tar_with_more_bytes_than_promised_is_refused(live_server):
    upload = await opened(live_server, "book", {"a": b"truth"})

    assert (await put(live_server, upload, tar_of({"a": b"truth", "b": b"x"}))).status == 413


async def test_a_tar_that_was_cut_off_may_be_sent_again(working):
    upload = await opened(working, "book", {"a": b"truth"})
    stream = tar_of({"a": b"truth"})
    cut = await put(working, upload, stream[:700])
    await put(working, upload, stream)

    reply = await commit(working, upload, checksum_of({"a": b"truth"}))

    assert cut.status == 400
    assert reply.json["state"] == "completed"


@asynccontextmanager
async def a_slow_put(live, upload):
    """A PUT that has sent a part, and sends no more until the block ends."""
    go_on, begun = asyncio.Event(), asyncio.Event()

    async def chunks():
        yield b"tr"
        begun.set()
        await go_on.wait()
        yield b"uth"

    writing = asyncio.create_task(put(live, upload, chunks()))
    await begun.wait()
    async with asyncio.timeout(10):
        while not live.site.writers._pens:
            await asyncio.sleep(0.01)
    try:
        yield writing
    finally:
        go_on.set()
        await asyncio.wait([writing])


async def test_one_upload_has_one_writer_at_a_time(live_server):
    upload = await opened(live_server, "a", b"truth")

    async with a_slow_put(live_server, upload) as first:
        second = await put(live_server, upload, b"truth")

    assert (second.status, second.json["code"]) == (409, "name_busy")
    assert (await first).status == 200


async def test_nothing_is_committed_while_somebody_writes(live_server):
    upload = await opened(live_server, "a", b"truth")

    async with a_slow_put(live_server, upload):
        reply = await commit(live_server, upload, checksum_of(b"truth"))

    assert (reply.status, reply.json["code"]) == (409, "name_busy")


async def test_a_writer_that_is_silent_gives_way(live_server, monkeypatch):
    monkeypatch.setattr("librarian.writers.Pen.is_idle", lambda self, patience: True)
    upload = await opened(live_server, "a", b"truth")

    async with a_slow_put(live_server, upload):
        second = await put(live_server, upload, b"truth")

    assert second.status == 200


async def test_a_cancel_stops_the_writer(live_server):
    upload = await opened(live_server, "a", b"truth")

    async with a_slow_put(live_server, upload):
        reply = await live_server.call("DELETE", f"{UPLOADS}/{upload['id']}", user="uploader")

    assert (reply.status, reply.json["state"]) == (200, "cancelled")
