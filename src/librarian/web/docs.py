"""The API's description and a page to read it with, offline."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final

from aiohttp import web

from librarian.errors import NotFound
from librarian.web.openapi import Description
from librarian.web.route import Route

if TYPE_CHECKING:
    from librarian.web.route import Call

DESCRIPTION: Final = web.AppKey("DESCRIPTION", Description)

#: Everything comes from here; swagger-ui sets styles on its elements, and draws with data: images.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
    "start.js": "text/javascript",
}
_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>librarian: HTTP API</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""


async def send_description(call: Call[None, None]) -> web.Response:
    """The API's description, OpenAPI 3.1."""
    return web.Response(body=call.request.app[DESCRIPTION].raw, content_type="application/json", charset="utf-8")


async def send_page(_: Call[None, None]) -> web.Response:
    """A page to read and try the API with; nothing comes from elsewhere."""
    return web.Response(
        text=_PAGE, content_type="text/html", charset="utf-8", headers={"Content-Security-Policy": _POLICY}
    )


async def send_asset(call: Call[None, None]) -> web.Response:
    """A part of the page."""
    name = call.request.match_info["asset"]
    kind = _ASSETS.get(name)
    if kind is None:
        raise NotFound(f"the page has no part {name[:80]!r}", remedy="Open /docs.")
    content = resources.files("librarian.web").joinpath("static", "swagger", name).read_bytes()
    charset = "utf-8" if kind.startswith("text/") else None
    return web.Response(
        body=content, content_type=kind, charset=charset, headers={"Cache-Control": "public, max-age=86400"}
    )


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/openapi.json",
        handler=send_description,
        summary="This description",
        roles=frozenset(),
        answer=dict[str, object],
        tag="docs",
    ),
    Route(
        method="GET",
        path="/docs",
        handler=send_page,
        summary="A page to read and try the API with",
        roles=frozenset(),
        answer=str,
        media="text/html",
        tag="docs",
    ),
    Route(
        method="GET",
        path="/docs/{asset}",
        handler=send_asset,
        summary="A part of that page",
        roles=frozenset(),
        answer=bytes,
        media="*/*",
        refusals=(NotFound,),
        tag="docs",
    ),
)
