"""Routes for the tests of what stands between the network and a route, and ways to ask them."""

import asyncio
import json

from aiohttp import web
from pydantic import Field

from librarian.errors import Conflict, NoRoom, Throttled
from librarian.states import Role
from librarian.web import streams
from librarian.web.route import Answer, Route
from librarian.wire.base import FileNameText, Query, Request, Response, Size
from tests.site_fixtures import basic

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
