"""The route table: every route there is, for the server, the permission test and the API description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian.web import (
    accounts,
    alerts,
    checkup,
    clones,
    content,
    credentials,
    docs,
    drives,
    files,
    health,
    inbox,
    notifications,
    outbox,
    pages,
    pairing,
    peers,
    receptions,
    releasing,
    rules,
    sealing,
    site,
    stores,
    transfers,
    upload_content,
    uploads,
    why,
)

if TYPE_CHECKING:
    from librarian.web.route import Route

ALL_ROUTES: Final[tuple[Route, ...]] = (
    *health.ROUTES,
    *site.ROUTES,
    *alerts.ROUTES,
    *notifications.ROUTES,
    *stores.ROUTES,
    *drives.ROUTES,
    *sealing.ROUTES,
    *releasing.ROUTES,
    *uploads.ROUTES,
    *upload_content.ROUTES,
    *files.ROUTES,
    *content.ROUTES,
    *accounts.ROUTES,
    *peers.ROUTES,
    *outbox.ROUTES,
    *pairing.ROUTES,
    *credentials.ROUTES,
    *checkup.ROUTES,
    *rules.ROUTES,
    *transfers.ROUTES,
    *receptions.ROUTES,
    *why.ROUTES,
    *inbox.ROUTES,
    *clones.ROUTES,
    *pages.ROUTES,
    *docs.ROUTES,
)
