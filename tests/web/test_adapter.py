"""What stands between the network and a route: every way a request can be wrong has one clear answer."""

import asyncio
import json
import logging
from datetime import timedelta

import pytest
from aiohttp import web
from pydantic import Field

from librarian.auth import OPERATOR
from librarian.errors import Conflict, NoRoom, Throttled
from librarian.states import Role
from librarian.web import streams
from librarian.web.route import Answer, Route
from librarian.wire.base import FileNameText, Query, Request, Response, Size
from tests.site_fixtures import basic, create_account, opened_site, served

READER = frozenset({Role.READER})


class Thing(Request):
    name: FileNameText
    size: Size
    tags: list[str] = Field(default_factory=list)


class Sort(Query):
    limit: int = 10
    tag: list[str] = Field(default_factory=list)


class Told(Response):
    said: str


async def tell(call):
    return Answer(body=Told(said=repr((call.body, call.query))))


async def list_many(call):
    return Answer(body=[Told(said=str(number)) for number in range(call.query.limit)])


async def count(call):
    size = 0
    async for chunk in streams.incoming(call.request):
        size += len(chunk)
    return Answer(body=Told(said=str(size)))


async def break_down(call):
    raise ZeroDivisionError("secret detail")


async def break_down_midway(call):
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(call.request)
    await response.write(b"half of it")
    raise ZeroDivisionError


async def refuse(call):
    kinds = {"conflict": Conflict, "throttled": Throttled, "no_room": NoRoom}
    raise kinds[call.request.match_info["kind"]](
        "it cannot be", remedy="Do otherwise.", details={"retry_after": 7, "odd": {1, 2}}
    )


def a_route(method, path, handler, **more):
    return Route(method=method, path=path, handler=handler, summary="", roles=more.pop("roles", READER), **more)


ROUTES = (
    a_route("POST", "/things", tell, body=Thing | list[Thing], query=Sort, body_limit=100_000),
    a_route("GET", "/many", list_many, query=Sort),
    a_route("PUT", "/stream", count, streams=True),
    a_route("GET", "/bug", break_down),
    a_route("GET", "/half", break_down_midway),
    a_route("GET", "/refused/{kind}", refuse),
    a_route("GET", "/open", tell, roles=frozenset()),
    a_route("GET", "/names/{name:.+}", tell),
)


@pytest.fixture
async def server(sqlite_url, tmp_path):
    async with opened_site(sqlite_url, tmp_path / "site") as site:
        await create_account(site, "reader", Role.READER)
        limits = site.settings.limits.model_copy(update={"read_timeout": timedelta(milliseconds=50)})
        site.settings = site.settings.model_copy(update={"limits": limits})
        async with served(site, routes=ROUTES, body_time=timedelta(milliseconds=200)) as live:
            yield live


async def post(server, data, path="/things", **more):
    return await server.call("POST", path, user="reader", data=data, **more)


async def raw_exchange(server, *parts, ends=False):
    """Send bytes as they are over a socket of its own, and return what comes back until the server closes."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for part in parts:
        writer.write(part)
        await writer.drain()
    if ends:
        writer.write_eof()
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


def head(method, path, **headers):
    given = {"Host": "x", "Authorization": basic("reader"), "Connection": "close", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def problem_in(answer: bytes):
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "application/json", "nonsense"])
async def test_json_is_read_whatever_its_content_type(server, kind):
    reply = await post(server, b'{"name": "a", "size": 1}', headers={"Content-Type": kind})

    assert reply.status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{",
        b"[1",
        b'"text"',
        b"12",
        b"{}",
        b"NaN",
        b'{"name": "a"}',
        b'{"name": "a", "size": "1"}',
        b'{"name": "a", "size": 1.5}',
        b'{"name": "a", "size": true}',
        b'{"name": "a", "size": -1}',
        b'{"name": "a", "size": 99999999999999999999}',
        b'{"name": 1, "size": 1}',
        b'{"name": "a", "size": 1, "surprise": 2}',
        b'{"name": "../a", "size": 1}',
        b'{"name": "a\\u0000", "size": 1}',
        b'{"name": "\\ud800", "size": 1}',
        b'{"name": "\xff\xfe", "size": 1}',
        b'{"name": "a", "size": 1, "tags": ["\\u0000"]}',
        b'[{"name": "a", "size": 1}, 2]',
        b"\x00\x01\x02",
        b"\x1f\x8b\x08",
    ],
)
async def test_a_garbage_body_is_a_bad_request_that_says_why(server, body):
    reply = await post(server, body)

    assert reply.status == 400
    assert reply.json["code"] in ("bad_request", "bad_name")
    assert reply.json["message"]
    assert reply.json["remedy"]
    assert reply.json["request_id"] == reply.headers["X-Request-ID"]


@pytest.mark.parametrize(
    "opening", [b"[", b'{"a":', b'{"name":"a","size":1,"tags":[' + b"["], ids=["array", "object", "field"]
)
async def test_deep_nesting_is_refused(server, opening):
    reply = await post(server, opening * (90_000 // len(opening)))

    assert reply.status == 400
    assert reply.json["code"] == "bad_request"


async def test_a_refused_value_is_not_repeated(server):
    reply = await post(server, b'{"name": "a", "size": "a-secret-value"}')

    assert b"a-secret-value" not in reply.raw
    assert reply.json["details"]["mistakes"]


async def test_many_mistakes_are_told_in_a_bounded_answer(server):
    reply = await post(server, b"[" + b",".join([b"{}"] * 5000) + b"]")

    assert reply.status == 400
    assert len(reply.raw) < 10_000


async def test_a_body_that_says_it_is_too_long_is_refused_unread(server):
    answer = await raw_exchange(server, head("POST", "/things", **{"Content-Length": "100001"}))

    assert b" 413 " in answer
    assert problem_in(answer)["details"] == {"limit": 100_000}


async def test_a_body_that_turns_out_too_long_is_refused(server):
    async def endless():
        for _ in range(3):
            yield b" " * 50_000

    reply = await post(server, endless())

    assert (reply.status, reply.json["code"]) == (413, "too_large")


async def test_a_body_that_never_comes_is_given_up(server):
    answer = await raw_exchange(server, head("POST", "/things", **{"Content-Length": "100"}), b'{"name"')

    assert b" 400 " in answer
    assert "stopped coming" in problem_in(answer)["message"]


async def test_a_stream_that_falls_silent_is_given_up(server):
    answer = await raw_exchange(server, head("PUT", "/stream", **{"Content-Length": "100"}), b"begun")

    assert b" 400 " in answer
    assert "stopped coming" in problem_in(answer)["message"]


async def test_a_body_that_is_cut_off_is_told_in_the_log_and_hurts_nobody(server, caplog):
    caplog.set_level(logging.INFO, "librarian.access")

    await raw_exchange(server, head("POST", "/things", **{"Content-Length": "100"}), b'{"name"', ends=True)

    assert (await server.call("GET", "/open", user=None)).status == 200
    assert " 500 " not in caplog.text


@pytest.mark.parametrize("path", ["/things", "/stream"])
async def test_broken_chunks_are_a_bad_request(server, path):
    method = "POST" if path == "/things" else "PUT"

    answer = await raw_exchange(server, head(method, path, **{"Transfer-Encoding": "chunked"}), b"zz\r\nnonsense")

    assert b" 400 " in answer


async def test_a_whole_stream_is_counted(server):
    reply = await server.call("PUT", "/stream", user="reader", data=b"x" * 300_000)

    assert reply.json == {"said": "300000"}


async def test_a_packed_body_is_refused_before_it_is_unpacked(server):
    answer = await raw_exchange(
        server, head("PUT", "/stream", **{"Content-Length": "10", "Content-Encoding": "gzip"}), b"0123456789"
    )

    assert b" 400 " in answer


async def test_who_waits_to_be_invited_is_refused_before_sending(server):
    headers = {"Content-Length": "1000000", "Expect": "100-continue", "Authorization": "Basic nonsense"}

    answer = await raw_exchange(server, head("PUT", "/stream", **headers))

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"100 Continue" not in answer


async def test_who_waits_to_be_invited_is_invited_once_permitted(server):
    answer = await raw_exchange(
        server, head("PUT", "/stream", **{"Content-Length": "3", "Expect": "100-continue"}), b"abc"
    )

    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["tls", "words", "header", "line", "length", "smuggling"],
)
async def test_what_is_no_http_is_refused_in_our_words_and_leaves_no_traceback(server, sent, caplog):
    caplog.set_level(logging.INFO)

    answer = await raw_exchange(server, sent)

    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert problem_in(answer)["code"] == "bad_request"
    assert b"Librarian-Protocol: 1" in answer
    assert "Traceback" not in caplog.text


async def test_the_longest_name_and_member_path_fit_into_one_request_line(server):
    reply = await server.call("GET", "/names/" + "%C3%A9" * (512 + 1024), user="reader")

    assert reply.status == 200


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("?limit=3", 200),
        ("?tag=a&tag=b", 200),
        ("?tag=a", 200),
        ("?limit=three", 400),
        ("?limit=3&limit=4", 400),
        ("?lmit=3", 400),
        ("?tag=%00", 400),
        ("?limit=%ff", 400),
    ],
)
async def test_the_query_string_is_read_as_what_it_should_be(server, query, status):
    reply = await post(server, b'{"name": "a", "size": 1}', path=f"/things{query}")

    assert reply.status == status


async def test_a_name_with_slashes_and_escapes_reaches_the_route(server):
    reply = await server.call("GET", "/names/a/b%20c%C3%A9", user="reader")

    assert reply.status == 200


async def test_a_request_id_is_made_and_told(server):
    replies = [await server.call("GET", "/open", user=None) for _ in range(2)]

    ids = {reply.headers["X-Request-ID"] for reply in replies}
    assert len(ids) == 2
    assert all(ids)


@pytest.mark.parametrize(("given", "is_taken"), [("abc-123", True), ("x" * 65, False), ("a b", False), ("", False)])
async def test_a_request_id_that_is_given_is_taken_over_if_it_is_harmless(server, given, is_taken):
    reply = await server.call("GET", "/open", user=None, headers={"X-Request-Id": given})

    assert (reply.headers["X-Request-ID"] == given) is is_taken


@pytest.mark.parametrize("path", ["/open", "/bug", "/nowhere", "/refused/conflict"])
async def test_every_answer_names_the_protocol(server, path):
    reply = await server.call("GET", path, user="reader")

    assert reply.headers["Librarian-Protocol"] == "1"


@pytest.mark.parametrize(("spoken", "status"), [("1", 200), ("2", 400), ("0", 400), ("one", 400), ("", 400)])
async def test_a_request_in_another_protocol_is_refused(server, spoken, status):
    reply = await server.call("GET", "/open", user=None, headers={"Librarian-Protocol": spoken})

    assert reply.status == status


@pytest.mark.parametrize(
    ("kind", "status", "retry_after"), [("conflict", 409, None), ("throttled", 429, "7"), ("no_room", 507, None)]
)
async def test_a_refusal_becomes_a_problem_document(server, kind, status, retry_after):
    reply = await server.call("GET", f"/refused/{kind}", user="reader")

    assert reply.status == status
    assert reply.headers["Content-Type"] == "application/problem+json; charset=utf-8"
    assert reply.headers.get("Retry-After") == retry_after
    assert reply.json["message"] == "it cannot be"
    assert reply.json["remedy"] == "Do otherwise."
    assert reply.json["details"]["odd"] == [1, 2]


async def test_missing_credentials_are_answered_with_a_challenge(server):
    reply = await server.call("GET", "/many", user=None)

    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"].startswith("Basic ")


async def test_an_unknown_path_is_a_problem_document(server):
    reply = await server.call("GET", "/nowhere", user="reader")

    assert (reply.status, reply.json["code"]) == (404, "not_found")


async def test_a_wrong_method_is_told_the_right_ones(server):
    reply = await server.call("DELETE", "/things", user="reader")

    assert (reply.status, reply.json["code"], reply.headers["Allow"]) == (405, "method_not_allowed", "POST")


async def test_what_nobody_foresaw_is_a_bug_that_the_log_explains(server, caplog):
    reply = await server.call("GET", "/bug", user="reader")

    assert (reply.status, reply.json["code"]) == (500, "bug")
    assert b"secret detail" not in reply.raw
    assert "ZeroDivisionError" in caplog.text
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.request_id == reply.headers["X-Request-ID"]


async def test_an_answer_that_breaks_off_is_seen_to_be_broken(server):
    answer = await raw_exchange(server, head("GET", "/half"))

    assert b"half of it" in answer
    assert not answer.endswith(b"0\r\n\r\n")


async def test_answers_are_readable(server):
    reply = await server.call("GET", "/many?limit=2", user="reader")

    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    assert reply.raw == b'[{\n  "said": "0"\n},\n{\n  "said": "1"\n}]\n'


async def test_answers_to_programs_and_long_lists_are_compact(server):
    to_program = await server.call("GET", "/many?limit=2", user="reader", headers={"Librarian-Protocol": "1"})
    long = await server.call("GET", "/many?limit=101", user="reader")

    assert to_program.raw == b'[{"said":"0"},\n{"said":"1"}]\n'
    assert len(long.json) == 101
    assert b"  " not in long.raw


async def test_every_request_is_one_line_in_the_log_without_query_or_credentials(server, caplog):
    caplog.set_level(logging.INFO, "librarian.access")

    await server.call("GET", "/many?limit=1&tag=in-the-query", user="reader")

    (record,) = [record for record in caplog.records if record.name == "librarian.access"]
    assert record.getMessage().startswith("GET /many 200 ")
    assert record.getMessage().endswith(" reader")
    assert "in-the-query" not in caplog.text
    assert basic("reader").split()[1] not in caplog.text


async def test_a_draining_server_refuses_work_and_hangs_up(server):
    server.site.health.drain()

    reply = await server.call("GET", "/many", user="reader")

    assert (reply.status, reply.json["code"]) == (503, "draining")
    assert reply.headers["Retry-After"]


async def test_whoever_comes_through_the_operators_door_is_the_operator(server):
    async with served(server.site, routes=ROUTES, everybody_is=OPERATOR) as inside:
        reply = await inside.call("GET", "/many", user=None)

    assert reply.status == 200
