"""The route table: every route there is, for the server, the permission test and the API description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian.web import (
    accounts,
    clones,
    content,
    docs,
    files,
    health,
    inbox,
    peers,
    rules,
    site,
    stores,
    transfers,
    upload_content,
    uploads,
)

if TYPE_CHECKING:
    from librarian.web.route import Route

ALL_ROUTES: Final[tuple[Route, ...]] = (
    *health.ROUTES,
    *site.ROUTES,
    *stores.ROUTES,
    *uploads.ROUTES,
    *upload_content.ROUTES,
    *files.ROUTES,
    *content.ROUTES,
    *accounts.ROUTES,
    *peers.ROUTES,
    *rules.ROUTES,
    *transfers.ROUTES,
    *inbox.ROUTES,
    *clones.ROUTES,
    *docs.ROUTES,
)
