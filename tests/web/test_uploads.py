"""Uploads over HTTP: opened, brought in every way, committed and verified; repeats and tricks."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from librarian.states import Role
from tests.site_fixtures import create_account
from tests.uploading import checksum_of, ingest
from tests.web.uploads_over_http import UPLOADS, commit, opened, put, working

__all__ = ["working"]


async def test_a_file_is_opened_put_committed_and_verified(working):
    upload = await opened(working, "2026/a", b"truth")
    sent = await put(working, upload, b"truth")
    reply = await commit(working, upload, checksum_of(b"truth"))

    assert (sent.status, sent.json["received"]) == (200, 5)
    assert (reply.status, reply.json["state"]) == (200, "completed")
    assert working.site.stores.lookup("fast").path_of("2026/a").read_bytes() == b"truth"


async def test_opening_answers_where_to_bring_the_bytes(live_server):
    reply = await live_server.call("POST", UPLOADS, user="uploader", body={"name": "a", "size": 1})

    upload = reply.json
    assert reply.status == 201
    assert reply.headers["Location"] == f"{UPLOADS}/{upload['id']}"
    assert upload["content_url"] == f"{live_server.url}{UPLOADS}/{upload['id']}/content"
    assert upload["ways"] == ["shared", "http"]
    assert Path(upload["probe_path"]).is_dir()
    assert Path(upload["staging_path"]).parent == Path(upload["probe_path"])


async def test_the_answer_to_a_repeat_is_the_same_upload(live_server):
    first = await live_server.call("POST", UPLOADS, user="uploader", body={"name": "a", "size": 1})

    second = await live_server.call("POST", UPLOADS, user="uploader", body={"name": "a", "size": 1})

    assert first.json == second.json


async def test_a_list_has_an_answer_per_item(live_server):
    body = [
        {"name": "a", "size": 1},
        {"name": "a/b", "size": 1},
        {"name": "c", "size": 2**60},
        {"name": "d", "size": 0},
    ]

    reply = await live_server.call("POST", UPLOADS, user="uploader", body=body)

    codes = [answer["problem"]["code"] if answer["problem"] else "opened" for answer in reply.json]
    assert (reply.status, codes) == (200, ["opened", "name_nested", "no_room", "opened"])


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a", "a/../b", "a//b", "", ".", "a/", "x" * 256, ".librarian-store", "a\tb"]
)
async def test_names_that_escape_or_are_no_names_are_refused(live_server, name):
    reply = await live_server.call("POST", UPLOADS, user="uploader", body={"name": name, "size": 1})

    assert reply.status == 400


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a"},
        {"name": "a", "size": -1},
        {"name": "a", "size": "1"},
        {"name": "a", "size": 2**63},
        {"name": "a", "size": 1, "kind": "link"},
        {"name": "a", "size": 1, "token": "0" * 32},
        {"name": "a", "size": 1, "checksum": "md5:1"},
        [{"name": "a", "size": 1}, {"name": "/b", "size": 1}],
        None,
        "a",
    ],
    ids=str,
)
async def test_malformed_requests_are_refused_whole(live_server, body):
    reply = await live_server.call("POST", UPLOADS, user="uploader", body=body)

    assert reply.status == 400


async def test_a_held_name_answers_with_size_and_checksum(working):
    upload = await opened(working, "a", b"truth")
    await put(working, upload, b"truth")
    await commit(working, upload, checksum_of(b"truth"))

    reply = await working.call("POST", UPLOADS, user="uploader", body={"name": "a", "size": 5})

    assert (reply.status, reply.json["code"]) == (409, "name_held")
    assert (reply.json["details"]["size"], reply.json["details"]["checksum"]) == (5, checksum_of(b"truth"))


async def test_a_wrong_checksum_is_told_with_its_reason(working):
    upload = await opened(working, "a", b"truth")
    await put(working, upload, b"truth")

    reply = await commit(working, upload, checksum_of(b"liess"))

    assert (reply.status, reply.json["state"]) == (200, "failed")
    assert reply.json["problem"]["code"] == "checksum_mismatch"
    assert not Path(reply.json["probe_path"]).exists()


async def test_a_commit_that_does_not_wait_says_where_to_ask(live_server):
    upload = await opened(live_server, "a", b"truth")
    await put(live_server, upload, b"truth")

    reply = await commit(live_server, upload, checksum_of(b"truth"), wait=0)
    await ingest(live_server.site)
    later = await live_server.call("GET", reply.headers["Location"], user="uploader")

    assert (reply.status, reply.json["state"]) == (202, "staged")
    assert later.json["state"] == "completed"


async def test_the_same_commit_twice_has_the_same_answer(working):
    upload = await opened(working, "a", b"truth")
    await put(working, upload, b"truth")

    replies = [await commit(working, upload, checksum_of(b"truth")) for _ in range(2)]

    assert [reply.json["state"] for reply in replies] == ["completed", "completed"]


async def test_with_a_checksum_at_open_a_commit_needs_no_body(working):
    upload = await opened(working, "a", b"truth", checksum=checksum_of(b"truth"))
    await put(working, upload, b"truth")

    reply = await working.call("POST", f"{UPLOADS}/{upload['id']}/commit?wait=30", user="uploader")

    assert reply.json["state"] == "completed"


async def test_without_any_checksum_a_commit_is_refused(live_server):
    upload = await opened(live_server, "a", b"truth")

    assert (await commit(live_server, upload, None)).json["code"] == "bad_checksum"


async def test_many_are_committed_in_one_request_and_each_has_its_verdict(working):
    uploads = [await opened(working, name, b"truth") for name in ("a", "b")]
    for upload in uploads:
        await put(working, upload, b"truth")
    commits = [
        {"id": uploads[0]["id"], "checksum": checksum_of(b"truth")},
        {"id": uploads[1]["id"], "checksum": checksum_of(b"liess")},
        {"id": "nothing-of-that-name"},
    ]

    reply = await working.call("POST", f"{UPLOADS}/commit?wait=30", user="uploader", body=commits)

    assert [answer["upload"] and answer["upload"]["state"] for answer in reply.json] == ["completed", "failed", None]
    assert reply.json[2]["problem"]["code"] == "not_found"


async def test_after_the_commit_no_bytes_are_taken(live_server):
    upload = await opened(live_server, "a", b"truth")
    await put(live_server, upload, b"truth")
    await commit(live_server, upload, checksum_of(b"truth"), wait=0)

    assert (await put(live_server, upload, b"liess")).status == 409


async def test_a_cancelled_upload_is_gone_and_its_name_is_free(live_server):
    upload = await opened(live_server, "a", b"truth")
    reply = await live_server.call("DELETE", f"{UPLOADS}/{upload['id']}", user="uploader")

    assert (reply.status, reply.json["state"]) == (200, "cancelled")
    assert not Path(upload["probe_path"]).exists()
    assert (await opened(live_server, "a", b"other"))["id"] != upload["id"]


async def test_uploads_of_others_are_not_there(live_server):
    upload = await opened(live_server, "a", b"truth")
    await create_account(live_server.site, "ben", Role.UPLOADER)

    replies = [
        await live_server.call("GET", f"{UPLOADS}/{upload['id']}", user="ben"),
        await live_server.call("DELETE", f"{UPLOADS}/{upload['id']}", user="ben"),
        await put(live_server, upload, b"truth", user="ben"),
        await commit(live_server, upload, checksum_of(b"truth"), user="ben"),
    ]

    assert [reply.status for reply in replies] == [404] * 4


async def test_a_wait_is_no_longer_than_asked_for(live_server):
    upload = await opened(live_server, "a", b"truth")
    await put(live_server, upload, b"truth")
    loop = asyncio.get_running_loop()
    began_at = loop.time()

    reply = await commit(live_server, upload, checksum_of(b"truth"), wait=0.2)

    assert reply.status == 202
    assert timedelta(seconds=0.15) <= timedelta(seconds=loop.time() - began_at) < timedelta(seconds=15)


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "1e9", "soon"])
async def test_a_wait_that_makes_no_sense_is_refused(live_server, wait):
    upload = await opened(live_server, "a", b"truth")

    assert (await commit(live_server, upload, checksum_of(b"truth"), wait=wait)).status == 400
