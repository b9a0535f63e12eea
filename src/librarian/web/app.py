"""The application: the route table as aiohttp serves it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from aiohttp import web

from librarian.web import adapter, around, docs, openapi, streams, table
from librarian.web import site as site_routes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.records import Account
    from librarian.site import Site
    from librarian.web.route import Route

#: A file name of 1,024 bytes and a member path of 2,048, every byte escaped as three, must fit in one line.
LINE_BYTES: Final = 16 * 1024
LINGERING: Final = timedelta(seconds=5)


def create_app(
    site: Site,
    *,
    everybody_is: Account | None = None,
    routes: Sequence[Route] = table.ALL_ROUTES,
    body_time: timedelta = streams.BODY_TIME,
) -> web.Application:
    """The application that serves *site*.

    Parameters
    ----------
    everybody_is: the account that every caller has, without credentials (a socket whose permissions are the key).
    body_time: longest time for a whole JSON body; silence within streamed ones is limited by the settings.
    """
    app = web.Application(middlewares=[around.around])
    app[streams.READ_LIMITS] = (site.settings.limits.read_timeout, body_time)
    app[site_routes.CARD] = site_routes.Card(site)
    app[docs.DESCRIPTION] = openapi.Description(routes)
    for route in routes:
        app.router.add_route(
            route.method,
            route.path,
            adapter.adapt(route, site, everybody_is=everybody_is),
            expect_handler=streams.do_not_invite_yet,
        )
    app.on_response_prepare.append(around.mark)
    return app


def make_runner(app: web.Application, *, lingering: timedelta = LINGERING) -> web.AppRunner:
    """A runner for *app*: long names fit into the request line, and we write our own access log.

    *lingering*: how long what a refused client still sends is read and thrown away, so that it sees the refusal.
    """
    return web.AppRunner(
        app,
        access_log=None,
        max_line_size=LINE_BYTES,
        max_field_size=LINE_BYTES,
        keepalive_timeout=75,
        handler_cancellation=False,
        shutdown_timeout=5,
        lingering_time=lingering.total_seconds(),
    )
