"""What surrounds every request: its id, the protocol, refusals, headers and one line in the log."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from aiohttp import web

from librarian.doors import LOCAL, Addresses
from librarian.errors import BadRequest, LibrarianError, ProtocolMismatch
from librarian.web import refusals, streams
from librarian.wire.base import PROTOCOL, PROTOCOL_HEADER

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

access = logging.getLogger("librarian.access")

REQUEST_ID: Final = web.RequestKey("REQUEST_ID", str)
#: The name of the account that calls, once it is known.
CALLER: Final = web.RequestKey("CALLER", str)
#: Finds out where a request comes from.
ADDRESSES: Final = web.AppKey("ADDRESSES", Addresses)
REQUEST_ID_HEADER: Final = "X-Request-Id"
_ACCEPTABLE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PROTOCOL: Final = str(PROTOCOL)
_BEGUN: Final = web.RequestKey("_BEGUN", bool)


@web.middleware
async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, and turn every way it can end into an answer and a line in the log."""
    started = time.perf_counter()
    request_id = _request_id(request)
    request[REQUEST_ID] = request_id
    status = 499
    try:
        response = await _answer(request, handler, request_id)
        status = response.status
        return response
    finally:
        access.info(
            "%s %s %d %.1f ms %s %s",
            request.method,
            request.rel_url.raw_path[:2048],
            status,
            (time.perf_counter() - started) * 1000,
            request.get(CALLER, "-"),
            _address_of(request),
            extra={"event": "request", "request_id": request_id, "status": status},
        )


def _address_of(request: web.Request) -> str:
    addresses = request.app.get(ADDRESSES)
    return request.remote or LOCAL if addresses is None else addresses.of(request)


async def _answer(request: web.Request, handler: Handler, request_id: str) -> web.StreamResponse:
    try:
        _check_protocol(request)
        _check_escapes(request.rel_url.raw_path)
        _check_escapes(request.rel_url.raw_query_string)
        return await handler(request)
    except LibrarianError as error:
        return _refuse(error, request, request_id)
    except web.HTTPException as error:
        return _refuse(refusals.of_aiohttp(error, request), request, request_id)
    except streams.CUT_OFF:
        return _refuse(streams.cut_off(), request, request_id)
    except asyncio.CancelledError:
        raise
    except Exception as error:  # noqa: BLE001 - the edge: what nobody foresaw becomes 500 and a traceback
        what = f"{request.method} {request.path}"
        return _refuse(refusals.bug(error, request_id=request_id, what=what), request, request_id)


def _refuse(error: LibrarianError, request: web.Request, request_id: str) -> web.StreamResponse:
    if _BEGUN in request:
        # The status line is gone: only a broken connection still tells the client that the answer is not whole.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError(f"{error.code} after the answer had begun") from error
    response = refusals.answer_to(error, request_id=request_id)
    if request.can_read_body and not request.content.at_eof():
        response.force_close()
    return response


async def mark(request: web.Request, response: web.StreamResponse) -> None:
    """Put our headers on every answer; aiohttp calls it just before the first byte."""
    request[_BEGUN] = True
    put_headers(response, request.get(REQUEST_ID, ""))


def put_headers(response: web.StreamResponse, request_id: str) -> None:
    """What every answer carries."""
    headers = response.headers
    headers[REQUEST_ID_HEADER] = request_id
    headers[PROTOCOL_HEADER] = _PROTOCOL
    headers["Server"] = "librarian"
    headers["X-Content-Type-Options"] = "nosniff"
    headers.setdefault("Cache-Control", "no-store")


def _request_id(request: web.Request) -> str:
    given = request.headers.get(REQUEST_ID_HEADER)
    if given is not None and _ACCEPTABLE_ID.fullmatch(given):
        return given
    return secrets.token_hex(8)


def _check_escapes(text: str) -> None:
    # What cannot be decoded would be taken as it stands, and mean another name than its sender meant.
    if _BAD_ESCAPE.search(text) is None:
        try:
            unquote_to_bytes(text).decode()
            return
        except UnicodeError:
            pass
    raise BadRequest("the URL is not UTF-8 in percent escapes", remedy="Escape the bytes of its UTF-8, a '%' as '%25'.")


def _check_protocol(request: web.Request) -> None:
    spoken = request.headers.get(PROTOCOL_HEADER)
    if spoken is None or spoken == _PROTOCOL:
        return
    raise ProtocolMismatch(
        f"this librarian speaks protocol {PROTOCOL}, the request is in {spoken[:20]!r}",
        remedy="Bring both sides to the same release.",
        details={"protocol": PROTOCOL},
    )
