"""Every refusal becomes one problem document; nothing else in ``web`` builds error answers."""

from __future__ import annotations

import logging
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

from aiohttp import web

from librarian.errors import BadRequest, Bug, CallerError, LibrarianError, MethodNotAllowed, NotFound
from librarian.wire.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue, ValidationError

log = logging.getLogger(__name__)

#: What a client waits before it repeats a request that was refused with 503, in seconds.
RETRY_AFTER: Final = 5
CHALLENGE: Final = 'Basic realm="librarian", charset="UTF-8"'
#: More mistakes than this are not listed.
_MISTAKES: Final = 20


def _plain(value: object) -> JsonValue:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return str(value)


def problem_of(error: LibrarianError, *, request_id: str = "") -> Problem:
    """The document that tells *error*."""
    return Problem(
        code=error.code,
        message=error.message,
        remedy=error.remedy,
        details={key: _plain(value) for key, value in error.details.items()},
        request_id=request_id,
    )


def answer_to(error: LibrarianError, *, request_id: str) -> web.Response:
    """The answer that tells *error*, with the headers that its status asks for."""
    headers: dict[str, str] = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    if error.status in (429, 503):
        seconds = error.details.get("retry_after")
        headers["Retry-After"] = str(int(seconds) if isinstance(seconds, (int, float)) else RETRY_AFTER)
    allowed = error.details.get("allowed")
    if error.status == 405 and isinstance(allowed, (list, tuple)):
        headers["Allow"] = ", ".join(str(method) for method in allowed)
    if error.code == "draining":
        headers["Connection"] = "close"
    text = problem_of(error, request_id=request_id).model_dump_json(indent=2) + "\n"
    return web.Response(
        text=text, status=error.status, headers=headers, content_type="application/problem+json", charset="utf-8"
    )


def of_aiohttp(error: web.HTTPException, request: web.Request) -> LibrarianError:
    """What an exception of aiohttp's own (no such path, wrong method) means."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = sorted(error.allowed_methods)
        return MethodNotAllowed(
            f"{request.method} does not work on {request.path}",
            remedy=f"It takes {', '.join(allowed)}.",
            details={"allowed": allowed},
        )
    if error.status == 404:
        return NotFound(f"there is no {request.path} here", remedy="See /docs for the paths there are.")
    if 400 <= error.status < 500:
        return CallerError(error.reason)
    return Bug(error.reason)


def of_validation(error: ValidationError, *, where: str) -> BadRequest:
    """Say what is wrong with a body or a query string, without repeating what was sent."""
    mistakes: list[Mapping[str, str]] = []
    for found in error.errors(include_url=False, include_input=False, include_context=False)[:_MISTAKES]:
        place = ".".join(str(part)[:80] for part in found["loc"])
        mistakes.append({"at": place, "what": found["msg"].removeprefix("Value error, ")[:300]})
    first = mistakes[0]
    at = f" at '{first['at']}'" if first["at"] else ""
    return BadRequest(
        f"the {where} is not as it should be{at}: {first['what']}",
        remedy="See /docs for the fields and their types.",
        details={"mistakes": mistakes},
    )


def bug(error: Exception, *, request_id: str, what: str) -> Bug:
    """Log the traceback of what nobody foresaw, and say no more than where to find it."""
    log.error(
        "Cannot answer %s: %s",
        what,
        type(error).__name__,
        exc_info=error,
        extra={"event": "bug", "request_id": request_id},
    )
    return Bug(
        "something went wrong that librarian did not foresee",
        remedy=f"Report it together with the server's log lines about {request_id}.",
    )
