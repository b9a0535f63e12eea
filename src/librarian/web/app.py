"""The application: the route table as aiohttp serves it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from aiohttp import web

from librarian.doors import Addresses, Throttle
from librarian.web import adapter, around, arrivals, docs, inbox, openapi, pairing, streams, table
from librarian.web.route import with_heads
from librarian.web.runner import make_runner
from librarian.wire.inbox import INBOX_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    inbox_wait: timedelta = timedelta(seconds=INBOX_SECONDS),
) -> web.Application:
    """The application that serves *site*.

    Parameters
    ----------
    everybody_is: the account that every caller has, without credentials (a socket whose permissions are the key).
    body_time: longest time for a whole JSON body; silence within streamed ones is limited by the settings.
    inbox_wait: longest time that a peer's inbox waits for news.
    """
    app = web.Application(middlewares=[around.around])
    app[around.ADDRESSES] = Addresses(site.settings.trusted_proxies)
    app[streams.READ_LIMITS] = (site.settings.limits.read_timeout, body_time)
    app[arrivals.ARRIVALS] = arrivals.Arrivals()
    app[inbox.LONGEST_WAIT] = inbox_wait
    app[pairing.GUESSES] = Throttle()
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
