"""What stands between the network and a route: every way a request can be wrong has one clear answer."""

import logging

import pytest

from tests.web.toy_routes import head, post, problem_in, raw_exchange


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
        rb'{"name": "a\\\u0000", "size": 1}',
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
    ("body", "at"),
    [
        (b'[{"name": "a", "size": 1}, {"name": "b", "size": -1}]', ["1.size"]),
        (b' [{"name": "a", "size": 1, "typo": 1}]', ["0.typo"]),
        (b'[{"name": 7, "size": 1}, 2]', ["0.name", "1"]),
        (b'{"name": "a", "size": -1}', ["size"]),
    ],
)
async def test_a_mistake_is_told_with_the_item_and_the_field_where_it_is(server, body, at):
    reply = await post(server, body)

    assert reply.status == 400
    assert [mistake["at"] for mistake in reply.json["details"]["mistakes"]] == at
    assert f"at '{at[0]}'" in reply.json["message"]


async def test_a_backslash_before_u0000_is_no_nul(server):
    reply = await post(server, rb'{"name": "a\\u0000", "size": 1}')

    assert reply.status == 200
    assert r"a\\u0000" in reply.json["said"]


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
    assert "Content-Encoding" in problem_in(answer)["remedy"]


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/nowhere", 404), ("PUT", "/stream", 401)])
async def test_a_packed_body_of_what_is_refused_is_never_unpacked(server, method, path, status, caplog):
    headers = {"Content-Length": "10", "Content-Encoding": "gzip", "Authorization": "Basic nonsense"}

    answer = await raw_exchange(server, head(method, path, **headers), b"0123456789")

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert "Traceback" not in caplog.text


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


@pytest.mark.parametrize("name", ["a%ff", "a%", "a%2", "a%zz", "%ed%a0%80", "a%C3", "%c0%ae%c0%ae"])
@pytest.mark.parametrize("path", ["/names/{}", "/nowhere/{}", "/things?tag={}"])
async def test_a_url_that_is_not_utf_8_in_escapes_is_a_bad_request(server, path, name):
    answer = await raw_exchange(server, head("GET", path.format(name)))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "escapes" in problem_in(answer)["message"]


async def test_an_escaped_percent_sign_is_one(server):
    reply = await server.call("GET", "/refused/conflict?tag=100%25", user="reader")

    assert reply.status == 409
