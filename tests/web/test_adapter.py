"""What stands between a route and whoever asked: every way to fail has one clear answer."""

import logging

import pytest

from librarian.auth import OPERATOR
from tests.site_fixtures import basic, served
from tests.web.toy_routes import ROUTES, head, raw_exchange


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
    assert record.getMessage().endswith(" reader 127.0.0.1")
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
