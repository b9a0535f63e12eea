"""Requests: how failures below and above HTTP become refusals that say what to do."""

import json
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from librarian import errors
from librarian.client import Address, LibrarianClient
from librarian.client.answers import error_of
from librarian.client.socket_path import short_path
from librarian.errors import BadRequest, CallerError, LibrarianError, PeerUnavailable, Unavailable
from librarian.wire.base import Response
from librarian.wire.problems import Problem


class Number(Response):
    """A small answer."""

    number: int


class Text(Response):
    """Another."""

    text: str


def all_errors(kind=LibrarianError):
    for below in kind.__subclasses__():
        yield below
        yield from all_errors(below)


@pytest.mark.parametrize(
    "kind", [kind for kind in all_errors() if kind.__module__ == errors.__name__ and not kind.__subclasses__()]
)
def test_every_refusal_comes_back_as_what_it_was(kind):
    problem = Problem(code=kind.code, message="words", remedy="do this", details={"size": 7}, request_id="r")

    found = error_of(problem, status=kind.status)

    assert type(found) is kind
    assert (found.message, found.remedy, found.details["size"]) == ("words", "do this", 7)


@pytest.mark.parametrize(("status", "kind"), [(418, CallerError), (503, Unavailable), (500, errors.Bug)])
def test_a_code_of_a_newer_server_means_what_its_status_means(status, kind):
    assert type(error_of(Problem(code="brand_new", message="m"), status=status)) is kind


@pytest.fixture
async def answering():
    """A server that gives the answers it is told, in turn; the last one for ever."""
    servers = []

    async def start(*answers):
        seen = []

        async def answer(request):
            seen.append(request)
            status, body = answers[min(len(seen), len(answers)) - 1]
            return web.Response(status=status, text=body if isinstance(body, str) else json.dumps(body))

        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", answer)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return str(server.make_url("")), seen

    yield start
    for server in servers:
        await server.close()


AWAY = (503, {"code": "draining", "message": "going down"})
FINE = (200, {"number": 7, "more": "ignored"})


async def test_a_request_names_its_protocol_and_credentials(answering):
    url, seen = await answering(FINE)

    async with LibrarianClient(url, user="ana", password="pässword") as client:
        answer = await client.request("GET", "/x", answer=Number)

    assert answer == Number(number=7)
    assert seen[0].headers["Librarian-Protocol"] == "1"
    assert seen[0].headers["Authorization"] == "Basic YW5hOnDDpHNzd29yZA=="
    assert seen[0].path == "/api/v1/x"


async def test_a_get_is_repeated_within_a_second_while_the_server_is_away(answering):
    url, seen = await answering(AWAY, FINE)

    async with LibrarianClient(url) as client:
        assert (await client.request("GET", "/x", answer=Number)).number == 7

    assert len(seen) == 2


async def test_a_post_is_repeated_only_when_its_caller_says_so(answering):
    url, seen = await answering(AWAY, FINE)

    async with LibrarianClient(url) as client:
        with pytest.raises(errors.Draining):
            await client.request("POST", "/x", answer=Number)
        await client.request("POST", "/x", answer=Number, repeats=True)

    assert len(seen) == 2


async def test_a_refusal_is_not_repeated(answering):
    url, seen = await answering((507, {"code": "no_room", "message": "full"}))

    async with LibrarianClient(url) as client:
        with pytest.raises(errors.NoRoom):
            await client.request("GET", "/x", answer=Number)

    assert len(seen) == 1


@pytest.mark.parametrize(
    "answer",
    [
        (200, "<html>a captive portal</html>"),
        (200, {"something": "else"}),
        (200, ""),
        (502, "bad gateway"),
        (301, "moved"),
        (404, "nginx"),
        (200, "[" * 100_000),
        (200, {"number": 7, "text": "\0"}),
    ],
    ids=["html", "other", "empty", "502", "301", "404", "nested", "nul"],
)
async def test_what_no_librarian_says_is_told_as_that(answering, answer):
    url, _ = await answering(answer)

    async with LibrarianClient(url, patience=timedelta(0)) as client:
        with pytest.raises(PeerUnavailable) as refused:
            await client.request("GET", "/x", answer=Number)

    assert refused.value.remedy


async def test_a_backslash_before_u0000_is_read_as_it_stands(answering):
    url, _ = await answering((200, {"text": r"a\u0000"}))

    async with LibrarianClient(url) as client:
        answer = await client.request("GET", "/x", answer=Text)

    assert answer.text == r"a\u0000"


MIB = 1024**2


@pytest.fixture
async def endless():
    """A server whose every answer is JSON without end, and how many bytes of it were taken; it gives up at 64 MiB."""
    taken = [0]

    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(64):
            await response.write(b" " * MIB)
            taken[0] += MIB
        return response

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")), taken


async def test_an_answer_without_end_is_cut_off_and_costs_little_memory(endless):
    url, taken = endless

    tracemalloc.start()
    async with LibrarianClient(url, patience=timedelta(0)) as client:
        with pytest.raises(PeerUnavailable, match="more than 8,388,608 bytes"):
            await client.request("GET", "/x", answer=Number)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken[0] < 32 * MIB
    assert peak < 24 * MIB


async def test_an_answer_is_as_long_as_its_caller_foresees(answering):
    url, _ = await answering((200, {"number": 7, "more": "x" * 1000}))

    async with LibrarianClient(url, patience=timedelta(0)) as client:
        answer = await client.request("GET", "/x", answer=Number, answer_bytes=2000)
        with pytest.raises(PeerUnavailable, match="more than 1,000 bytes"):
            await client.request("GET", "/x", answer=Number, answer_bytes=1000)

    assert answer.number == 7


@pytest.mark.parametrize(
    "url",
    [
        "",
        "archive.example.org",
        "ftp://x",
        "http://",
        "http://ana:secret@x",
        "http://x/?a=1",
        "http://x:99999",
        "http://[",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(BadRequest) as refused:
        Address.parse(url)

    assert "secret" not in str(refused.value)


def test_an_address_never_shows_its_password():
    assert "hush" not in repr(Address.parse("http://x", user="ana", password="hush"))


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("http://x:1/", "http://x:1"),
        ("https://x/api/v1", "https://x"),
        ("https://x/behind/proxy/", "https://x/behind/proxy"),
    ],
)
def test_an_address_is_cleaned(typed, url):
    assert Address.parse(typed).url == url


@pytest.mark.parametrize("folder", ["short", "long" * 40])
async def test_a_unix_socket_is_reached_however_long_its_path(tmp_path, folder):
    place = tmp_path / folder / folder / "admin.sock"
    place.parent.mkdir(parents=True)

    async def answer(_):
        return web.json_response({"number": 7})

    app = web.Application()
    app.router.add_get("/api/v1/x", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, short_path(place)).start()

    async with LibrarianClient(Address(url="http://localhost", socket=place)) as client:
        answer = await client.request("GET", "/x", answer=Number)

    await runner.cleanup()
    assert answer.number == 7


async def test_a_socket_that_is_not_there_is_told(tmp_path):
    address = Address(url="http://localhost", socket=tmp_path / "absent" / "admin.sock")

    with pytest.raises(PeerUnavailable):
        async with LibrarianClient(address, patience=timedelta(0)) as client:
            await client.request("GET", "/x", answer=Number)


def test_a_certificate_authority_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(errors.ConfigurationError, match="absent"):
        _ = Address.parse("https://x", ca_file=Path(tmp_path / "absent.pem")).tls
