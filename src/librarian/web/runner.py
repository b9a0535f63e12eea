"""Serving the application: connections whose first bytes are no HTTP are refused in our own words too."""

from __future__ import annotations

import logging
import secrets
from datetime import timedelta
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from librarian.errors import BadRequest, Bug
from librarian.web import around, refusals

log = logging.getLogger(__name__)

#: A file name of 1,024 bytes and a member path of 2,048, every byte escaped as three, must fit in one line.
LINE_BYTES: Final = 16 * 1024
LINGERING: Final = timedelta(seconds=5)
PATIENCE: Final = timedelta(seconds=5)


def make_runner(
    app: web.Application, *, lingering: timedelta = LINGERING, patience: timedelta = PATIENCE
) -> web.AppRunner:
    """A runner for *app*: long names fit into the request line, and we write our own access log.

    *lingering*: how long what a refused client still sends is read and thrown away, so that it sees the refusal.
    *patience*: how long ``cleanup`` waits for requests under way, and again once they are cancelled.
    """
    return _Runner(
        app,
        access_log=None,
        max_line_size=LINE_BYTES,
        max_field_size=LINE_BYTES,
        keepalive_timeout=75,
        # aiohttp would unpack even what is refused and thrown away: a few bytes from anybody become gigabytes.
        auto_decompress=False,
        handler_cancellation=False,
        shutdown_timeout=patience.total_seconds(),
        lingering_time=lingering.total_seconds(),
    )


class _Connection(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what never reached the application: broken HTTP, or a failure of aiohttp's own.

        aiohttp would answer in plain text and log a traceback for whatever a port scanner sends.
        """
        request_id = secrets.token_hex(8)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun") from exc
        if 400 <= status < 500:
            what = (message or str(exc)).splitlines() or ["it cannot be parsed"]
            log.info("Refused what is no HTTP from %s: %s", request.remote, what[0][:200])
            response = refusals.answer_to(
                BadRequest(f"the request is not HTTP as it should be: {what[0][:200]}", remedy="Check the client."),
                request_id=request_id,
            )
        else:
            log.error("Cannot answer %s", request.remote, exc_info=exc, extra={"request_id": request_id})
            response = refusals.answer_to(Bug("the request could not be answered"), request_id=request_id)
        around.put_headers(response, request_id)
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        """Make the protocol of one connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    __slots__ = ()

    # aiohttp has no public place for a protocol of one's own; tests/web/test_adapter.py fails if this one moves.
    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, loop=made._loop, **made._kwargs)
