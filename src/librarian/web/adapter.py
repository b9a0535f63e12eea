"""From a row of the route table to an aiohttp handler: permit, parse, validate, call, answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Final, Union, get_args, get_origin

from aiohttp import web
from anyio import to_thread
from pydantic import BaseModel, TypeAdapter, ValidationError

from librarian.auth import OPERATOR, require
from librarian.errors import BadRequest, Draining
from librarian.web import answers, refusals, streams
from librarian.web.around import CALLER, REQUEST_ID
from librarian.web.route import Answer, Call, Route, adapter_of
from librarian.wire.nul import has_nul

if TYPE_CHECKING:
    from librarian.catalog.records import Account
    from librarian.site import Site

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: Bytes of JSON that are read on the loop; more would hold it up.
MOST_ON_LOOP: Final = 16 * 1024
#: Who asks where no account is needed.
NOBODY: Final = OPERATOR.__class__(
    id=OPERATOR.id, name=OPERATOR.name, roles=frozenset(), is_enabled=False, version=0, created_at=OPERATOR.created_at
)


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Reads what one route takes: adapters are made once, not per request."""

    body: TypeAdapter[object] | None
    #: Reads a body that is an array.
    array: TypeAdapter[object] | None
    query: type[BaseModel] | None
    lists: frozenset[str]
    limit: int

    @classmethod
    def of(cls, route: Route, *, limit: int) -> _Reader:
        lists = frozenset(
            name
            for name, field in (route.query.model_fields if route.query else {}).items()
            if get_origin(field.annotation) in (list, tuple)
        )
        body, array = (None, None) if route.body is None or route.streams else _body_or_array(route.body)
        return cls(body=body, array=array, query=route.query, lists=lists, limit=route.body_limit or limit)

    def read_query(self, request: web.Request) -> BaseModel | None:
        if self.query is None:
            return None
        sent = request.query
        values: dict[str, str | list[str]] = {}
        for key in sent:
            every = sent.getall(key)
            if any("\x00" in value for value in every):
                raise BadRequest(f"the parameter {key[:80]!r} has a NUL character", remedy="Leave it out.")
            values[key] = every if key in self.lists or len(every) > 1 else every[0]
        try:
            return self.query.model_validate(values)
        except ValidationError as error:
            raise refusals.of_validation(error, where="query string") from error

    async def read_body(self, request: web.Request) -> object:
        if self.body is None or self.array is None:
            return None
        raw = await streams.whole(request, limit=self.limit)
        if has_nul(raw):
            raise BadRequest("the body has a NUL character", remedy="Leave it out.")
        read = (self.array if raw.lstrip().startswith(b"[") else self.body).validate_json
        try:
            if len(raw) > MOST_ON_LOOP:
                return await to_thread.run_sync(read, raw)
            return read(raw or b"null")
        except ValidationError as error:
            if not raw:
                raise BadRequest("the request needs a JSON body", remedy="See /docs for its fields.") from error
            raise refusals.of_validation(error, where="body") from error


def _body_or_array(kind: object) -> tuple[TypeAdapter[object], TypeAdapter[object]]:
    """What reads a body of *kind*, and what reads one that is an array.

    Where either may come only the one that was meant may complain: a mistake in a list is none of an object.
    """
    alternatives = get_args(kind) if get_origin(kind) in (Union, UnionType) else ()
    arrays = [each for each in alternatives if _is_array(each)]
    others = [each for each in alternatives if not _is_array(each)]
    if len(arrays) == 1 and len(others) == 1:
        return adapter_of(others[0]), adapter_of(arrays[0])
    return adapter_of(kind), adapter_of(kind)


def _is_array(kind: object) -> bool:
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return get_origin(bare) is list


def adapt(route: Route, site: Site, *, everybody_is: Account | None) -> Handler:
    """The aiohttp handler of *route*."""
    reader = _Reader.of(route, limit=site.settings.limits.json_bytes)
    is_open = not route.roles
    reads_body = route.streams or reader.body is not None

    async def serve(request: web.Request) -> web.StreamResponse:
        if site.health.is_draining and not is_open:
            raise Draining("the server is going down", remedy="Try again when it is back.")
        caller = everybody_is or NOBODY
        if not is_open:
            if everybody_is is None:
                caller = await site.doorkeeper.admit(request)
                request[CALLER] = caller.name
            require(caller, route.roles)
        query = reader.read_query(request)
        if reads_body:
            _refuse_encoding(request)
            await streams.invite(request)
        body = await reader.read_body(request)
        call = Call(request=request, site=site, caller=caller, body=body, query=query, request_id=request[REQUEST_ID])
        answer = await route.handler(call)
        return await answers.render(answer, request) if isinstance(answer, Answer) else answer

    return serve


def _refuse_encoding(request: web.Request) -> None:
    # Nothing is unpacked here: a few bytes could become gigabytes, and sizes would not be those promised.
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise BadRequest(f"the body is encoded as {encoding[:40]!r}", remedy="Send it without Content-Encoding.")
