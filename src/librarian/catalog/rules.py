"""Rules: replication rules."""

from __future__ import annotations

from librarian.catalog.repository import Repository


class Rules(Repository):
    """Replication rules."""
