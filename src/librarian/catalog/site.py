"""SiteIdentity: who this catalog belongs to, its generation and epoch."""

from __future__ import annotations

from librarian.catalog.repository import Repository


class SiteIdentity(Repository):
    """Who this catalog belongs to, its generation and epoch."""
