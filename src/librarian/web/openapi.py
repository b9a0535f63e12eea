"""The API's description, OpenAPI 3.1, made from the route table and the models: it cannot say what is not so."""

from __future__ import annotations

import inspect
import json
import re
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from pydantic import JsonValue, TypeAdapter, ValidationError

import librarian
from librarian.errors import (
    BadRequest,
    Bug,
    DatabaseUnavailable,
    Draining,
    Forbidden,
    LibrarianError,
    ProtocolMismatch,
    Throttled,
    TooLarge,
    Unauthenticated,
)
from librarian.web.route import adapter_of, with_heads
from librarian.wire.base import PROTOCOL, PROTOCOL_HEADER
from librarian.wire.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal

    from librarian.web.route import Route

    Mode = Literal["validation", "serialization"]
    Key = tuple[str, Mode]

Json = dict[str, JsonValue]
_Schemas = dict[str, Json]
_PLACEHOLDER: Final = re.compile(r"\{(\w+)(?::[^{}]*(?:\{[^{}]*\}[^{}]*)*)?\}")
_PROBLEM: Final = "problem"
_HEADERS: Final[Json] = {
    "X-Request-Id": {"$ref": "#/components/headers/RequestId"},
    PROTOCOL_HEADER: {"$ref": "#/components/headers/Protocol"},
}
_ABOUT: Final = f"""\
Everything that a librarian does for others. JSON bodies are read whatever their Content-Type; names in paths may
hold slashes. HEAD is answered wherever GET is, as GET is but without the body. Every refusal is a problem document
with a stable `code` and a `remedy`. Every answer carries `X-Request-Id` (a given one is taken over) and
`{PROTOCOL_HEADER}: {PROTOCOL}`; a request that names another protocol is refused. The binary bodies of uploads and
clones are read as they come and never held in memory.
"""


def path_of(route: Route) -> str:
    """The path as the description writes it: ``{name:.+}`` becomes ``{name}``."""
    return _PLACEHOLDER.sub(r"{\1}", route.path)


def placeholders_of(route: Route) -> tuple[str, ...]:
    """The names that stand for parts of the path."""
    return tuple(_PLACEHOLDER.findall(route.path))


def refusals_of(route: Route) -> dict[int, list[type[LibrarianError]]]:
    """Every refusal that *route* may answer with, by status: its own and those of the adapter."""
    found: dict[int, list[type[LibrarianError]]] = {}
    for kind in (*_implied(route), *route.refusals):
        same = found.setdefault(kind.status, [])
        if kind not in same:
            same.append(kind)
    return dict(sorted(found.items()))


def _implied(route: Route) -> Iterable[type[LibrarianError]]:
    yield from (BadRequest, ProtocolMismatch, Bug)
    if route.roles:
        yield from (Unauthenticated, Forbidden, Throttled, Draining, DatabaseUnavailable)
    if route.body is not None or route.streams:
        yield TooLarge


class Description:
    """The description of *routes*; made when it is first asked for, since few servers ever are."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = with_heads(routes)

    @cached_property
    def raw(self) -> bytes:
        """The document as JSON."""
        return json.dumps(self.document, indent=1, ensure_ascii=False).encode() + b"\n"

    @cached_property
    def document(self) -> Json:
        """The document; query models become parameters and are no components."""
        schemas, definitions = _schemas(self._routes)
        paths: dict[str, dict[str, JsonValue]] = {}
        for route in self._routes:
            paths.setdefault(path_of(route), {})[route.method.lower()] = _operation(route, schemas, definitions)
        for name, schema in schemas.items():
            if name.startswith("query "):
                definitions.pop(_referred(schema), None)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "librarian",
                "version": librarian.__version__,
                "summary": "Research data custody",
                "description": _ABOUT,
                "license": {"name": "BSD-2-Clause", "identifier": "BSD-2-Clause"},
            },
            "paths": {path: dict(methods) for path, methods in sorted(paths.items())},
            "components": {
                "schemas": definitions,
                "securitySchemes": {"account": {"type": "http", "scheme": "basic"}},
                "headers": {
                    "RequestId": {"description": "Finds the request in the log.", "schema": {"type": "string"}},
                    "Protocol": {"description": "What the server speaks.", "schema": {"const": str(PROTOCOL)}},
                },
            },
        }


def _schemas(routes: Sequence[Route]) -> tuple[_Schemas, Json]:
    wanted: dict[Key, TypeAdapter[object]] = {(_PROBLEM, "serialization"): adapter_of(Problem)}
    for route in routes:
        key = f"{route.method} {route.path}"
        if route.body is not None and not route.streams:
            wanted[f"body {key}", "validation"] = adapter_of(route.body)
        if route.query is not None:
            wanted[f"query {key}", "validation"] = adapter_of(route.query)
        if route.answer not in (None, bytes) and route.media is None:
            wanted[f"answer {key}", "serialization"] = adapter_of(route.answer)
    made, top = TypeAdapter.json_schemas(
        [(name, mode, adapter) for (name, mode), adapter in wanted.items()],
        ref_template="#/components/schemas/{model}",
    )
    return {str(name): schema for (name, _), schema in made.items()}, top.get("$defs", {})


def _operation(route: Route, schemas: _Schemas, definitions: Json) -> Json:
    key = f"{route.method} {route.path}"
    summary, _, rest = (inspect.getdoc(route.handler) or "").partition("\n")
    operation: Json = {
        "operationId": route.handler.__name__ + ("_head" if route.method == "HEAD" else ""),
        "summary": route.summary,
        "description": f"{summary}\n{rest}".strip() + _who(route),
        "tags": [route.tag or "other"],
        "responses": _responses(route, schemas),
        "security": [{"account": []}] if route.roles else [],
    }
    parameters: list[JsonValue] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in placeholders_of(route)
    ]
    if f"query {key}" in schemas:
        parameters.extend(_parameters(schemas[f"query {key}"], definitions))
    if parameters:
        operation["parameters"] = parameters
    if route.streams:
        operation["requestBody"] = {"required": True, "content": _binary(route.takes)}
    elif f"body {key}" in schemas:
        operation["requestBody"] = {
            "required": not _takes_nothing(route),
            "content": {"application/json": {"schema": schemas[f"body {key}"]}},
        }
    return operation


def _who(route: Route) -> str:
    if not route.roles:
        return "\n\nNeeds no account."
    return f"\n\nRoles: {', '.join(f'`{role}`' for role in sorted(route.roles))}."


def _takes_nothing(route: Route) -> bool:
    try:
        adapter_of(route.body).validate_json(b"null")
    except ValidationError:
        return False
    return True


def _parameters(schema: Json, definitions: Json) -> Iterable[JsonValue]:
    """The fields of a query model as parameters."""
    model = definitions.get(_referred(schema), schema)
    if not isinstance(model, dict):
        return
    properties, required = model.get("properties"), model.get("required")
    for name, field in (properties if isinstance(properties, dict) else {}).items():
        parameter: Json = {
            "name": name,
            "in": "query",
            "required": isinstance(required, list) and name in required,
            "schema": field,
        }
        if isinstance(field, dict) and isinstance(field.get("description"), str):
            parameter["description"] = field["description"]
        yield parameter


def _referred(schema: Json) -> str:
    """The name of the component that *schema* refers to, if any."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _responses(route: Route, schemas: _Schemas) -> Json:
    responses: Json = {}
    for status in route.statuses:
        response: Json = {"description": HTTPStatus(status).phrase, "headers": dict(_HEADERS)}
        if route.method != "HEAD" and (route.answer is bytes or route.media is not None):
            response["content"] = _binary(route.media or "application/octet-stream")
        elif route.method != "HEAD" and route.answer is not None:
            schema = schemas[f"answer {route.method} {route.path}"]
            response["content"] = {"application/json": {"schema": schema}}
        responses[str(status)] = response
    for status, kinds in refusals_of(route).items():
        says = "\n".join(f"- `{kind.code}`: {(inspect.getdoc(kind) or '').partition(chr(10))[0]}" for kind in kinds)
        refusal: Json = {"description": says, "headers": dict(_HEADERS)}
        if route.method != "HEAD":
            refusal["content"] = {"application/problem+json": {"schema": schemas[_PROBLEM]}}
        responses[str(status)] = refusal
    return responses


def _binary(media: str) -> Json:
    # OpenAPI 3.1 writes raw bytes as a media type without a schema.
    return {media: {}}
