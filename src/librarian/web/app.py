"""The application: the route table as aiohttp serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from librarian.doors import Addresses
from librarian.web import adapter, around, arrivals, docs, openapi, streams, table
from librarian.web.route import with_heads
from librarian.web.runner import make_runner

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from librarian.catalog.records import Account
    from librarian.site import Site
    from librarian.web.route import Route


__all__ = ["create_app", "make_runner"]


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
    app[around.ADDRESSES] = Addresses(site.settings.trusted_proxies)
    app[streams.READ_LIMITS] = (site.settings.limits.read_timeout, body_time)
    app[arrivals.ARRIVALS] = arrivals.Arrivals()
    app[docs.DESCRIPTION] = openapi.Description(routes)
    for route in with_heads(routes):
        app.router.add_route(
            route.method,
            route.path,
            adapter.adapt(route, site, everybody_is=everybody_is),
            expect_handler=streams.do_not_invite_yet,
        )
    app.on_response_prepare.append(around.mark)
    return app
