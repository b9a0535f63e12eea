"""The reference page of the HTTP API, written from the route table.

``python -m librarian.web.reference > docs/reference/http-api.md``
"""

from __future__ import annotations

import inspect
import sys
from itertools import groupby
from typing import TYPE_CHECKING, Final

from librarian.web.openapi import Description, path_of, refusals_of
from librarian.web.table import ALL_ROUTES
from librarian.wire.base import PROTOCOL, PROTOCOL_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import JsonValue

    from librarian.web.openapi import Json
    from librarian.web.route import Route

_START: Final = f"""\
# HTTP API

<!-- Written by `python -m librarian.web.reference`; a test compares. Change the routes, not this page. -->

Below `/api/v1`, JSON in and out. The same as OpenAPI 3.1 is served at `/openapi.json`, and to be tried at `/docs`.

- **Accounts**: HTTP Basic. `admin` includes `uploader`, which includes `reader`; `upstream` and `callback` are for
  peers and include nothing. A password has 8 characters to 256 bytes of UTF-8, without control characters.
- **Bodies** are read as JSON whatever their Content-Type; unknown fields are refused. Names in paths may hold slashes.
- **Refusals** are problem documents: `code` (what programs match on), `message`, `remedy`, `details`, `request_id`.
  Any route may answer 400 `bad_request`, `bad_name` or `protocol_mismatch`, and 500 `bug`; any that needs an account
  401 `unauthenticated`, 403 `forbidden`, 429 `throttled`, 503 `draining` or `database_unavailable`; any with a body
  413 `too_large`.
- **HEAD** is answered wherever GET is: the same status and headers for the same callers, without the body.
- **Headers**: every answer carries `X-Request-Id` (a harmless one that is given is taken over) and
  `{PROTOCOL_HEADER}: {PROTOCOL}`; a request that names another protocol is refused. 429 and 503 carry `Retry-After`.
"""
#: What the page says once for all routes.
_EVERYWHERE: Final = frozenset(
    {
        "bad_request",
        "bad_name",
        "protocol_mismatch",
        "bug",
        "unauthenticated",
        "forbidden",
        "throttled",
        "draining",
        "database_unavailable",
        "too_large",
    }
)


def page() -> str:
    """The whole page, in Markdown."""
    document = Description(ALL_ROUTES).document
    parts = [_START]
    ordered = sorted(ALL_ROUTES, key=lambda route: (route.tag, path_of(route), route.method))
    for tag, routes in groupby(ordered, key=lambda route: route.tag):
        parts.append(f"## {tag.capitalize()}\n")
        parts.extend(_route(route) for route in routes)
    parts.append("## Models\n")
    components = document["components"]
    schemas = components["schemas"] if isinstance(components, dict) else {}
    parts.extend(_model(name, schema) for name, schema in sorted(_objects(schemas)))
    return "\n".join(parts)


def _objects(schemas: JsonValue) -> Iterator[tuple[str, Json]]:
    for name, schema in (schemas if isinstance(schemas, dict) else {}).items():
        if isinstance(schema, dict) and (schema.get("properties") or schema.get("enum")):
            yield name, schema


def _route(route: Route) -> str:
    roles = ", ".join(f"`{role}`" for role in sorted(route.roles)) or "anybody, without an account"
    lines = [f"### {route.method} {path_of(route)}\n", f"{inspect.getdoc(route.handler)}\n", f"- for: {roles}"]
    if route.query is not None:
        lines.append("- query:")
        schema = route.query.model_json_schema()
        lines.extend(f"  {line}" for line in _fields(schema))
    if route.streams:
        lines.append(f"- body: `{route.takes}`, read as it comes")
    elif route.body is not None:
        lines.append(f"- body: {_kind_of(route.body)}")
    answer = f"`{route.media}`" if route.media else _kind_of(route.answer)
    lines.append(f"- answers: {', '.join(str(status) for status in route.statuses)}: {answer}")
    told = [
        f"{status} `{kind.code}`"
        for status, kinds in refusals_of(route).items()
        for kind in kinds
        if kind.code not in _EVERYWHERE
    ]
    if told:
        lines.append(f"- refuses: {', '.join(told)}")
    return "\n".join(lines) + "\n"


def _kind_of(kind: object) -> str:
    if kind is None:
        return "nothing"
    if kind is bytes:
        return "`application/octet-stream`"
    name = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    plain = name.replace("typing.", "")
    for part in sorted({word for word in plain.replace("[", " ").replace("]", " ").split() if "." in word}):
        plain = plain.replace(part, part.rsplit(".", 1)[-1])
    return f"`{plain}`"


def _model(name: str, schema: Json) -> str:
    about = schema.get("description")
    lines = [f"### {name}\n", f"{about}\n" if isinstance(about, str) else ""]
    values = schema.get("enum")
    if isinstance(values, list):
        lines.append(", ".join(f"`{value}`" for value in values))
    lines.extend(_fields(schema))
    return "\n".join(line for line in lines if line) + "\n"


def _fields(schema: Json) -> Iterator[str]:
    properties, required = schema.get("properties"), schema.get("required")
    for name, field in (properties if isinstance(properties, dict) else {}).items():
        if not isinstance(field, dict):
            continue
        needed = "" if isinstance(required, list) and name in required else ", optional"
        about = field.get("description")
        default = f", default `{field['default']}`" if field.get("default") not in (None, "", [], {}) else ""
        yield f"- `{name}`: {_type_of(field)}{needed}{default}{f'. {about}' if about else ''}"


def _type_of(field: Json) -> str:
    reference = field.get("$ref")
    if isinstance(reference, str):
        return reference.rsplit("/", 1)[-1]
    several = field.get("anyOf")
    if isinstance(several, list):
        return " or ".join(_type_of(each) for each in several if isinstance(each, dict))
    items = field.get("items")
    if field.get("type") == "array" and isinstance(items, dict):
        return f"list of {_type_of(items)}"
    if isinstance(field.get("enum"), list):
        return " or ".join(f"`{value}`" for value in _listed(field.get("enum")))
    if "const" in field:
        return f"`{field['const']}`"
    form = field.get("format")
    return f"{field.get('type', 'anything')}{f' ({form})' if isinstance(form, str) else ''}"


def _listed(values: JsonValue) -> list[JsonValue]:
    return values if isinstance(values, list) else []


if __name__ == "__main__":
    sys.stdout.write(page())
