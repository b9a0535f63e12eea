"""StoreRows: local places for payloads, as rows."""

from __future__ import annotations

from librarian.catalog.repository import Repository


class StoreRows(Repository):
    """Local places for payloads, as rows."""
