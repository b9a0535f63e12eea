"""What a route is: one row of the table that the server, the permission test and the API description all read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp import web
    from pydantic import BaseModel

    from librarian.catalog.records import Account
    from librarian.errors import LibrarianError
    from librarian.site import Site
    from librarian.states import Role

Body = TypeVar("Body", covariant=True)
Query = TypeVar("Query", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Call(Generic[Body, Query]):
    """One request, already authenticated, permitted, parsed and validated."""

    request: web.Request
    site: Site
    #: None only where the route needs no account.
    caller: Account
    body: Body
    query: Query
    request_id: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A JSON answer (an object, or an array of them) with a status and headers.

    A handler may also return a ``StreamResponse``, prepared or not.
    """

    body: BaseModel | Sequence[BaseModel] | None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Route:
    """One method on one path.

    ``roles`` are the roles that open it (roles above them included); empty: anybody, without credentials.
    ``body`` is a model (or a union of models for "one or a list"); None with ``streams`` False: no body is read.
    ``streams``: the handler reads ``call.request.content`` itself.
    """

    method: str
    path: str
    handler: Callable[[Call], Awaitable[Answer | web.StreamResponse]]  # type: ignore[type-arg]
    summary: str
    roles: frozenset[Role]
    body: object | None = None
    query: type[BaseModel] | None = None
    answer: object | None = None
    #: Media type of a ``bytes`` answer (and of anything else that is not JSON), for the description.
    media: str | None = None
    #: Media type of a streamed body, for the description.
    takes: str = "application/octet-stream"
    statuses: tuple[int, ...] = (200,)
    refusals: tuple[type[LibrarianError], ...] = ()
    streams: bool = False
    #: Bytes of JSON body that are read at most; None: as the settings say.
    body_limit: int | None = None
    tag: str = ""


def with_heads(routes: Sequence[Route]) -> tuple[Route, ...]:
    """*routes*, and HEAD for every GET that has none of its own: the same to the same callers, without the body."""
    own = {route.path for route in routes if route.method == "HEAD"}
    gets = [route for route in routes if route.method == "GET" and route.path not in own]
    return (*routes, *(replace(route, method="HEAD", summary=f"{route.summary}: the headers alone") for route in gets))


def adapter_of(kind: object) -> TypeAdapter[object]:
    """What reads, writes and describes *kind*: a model, or a union or list of models."""
    adapter: TypeAdapter[object] = TypeAdapter(kind)  # type: ignore[arg-type]
    return adapter
