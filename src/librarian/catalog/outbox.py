"""Outbox: what peers must learn."""

from __future__ import annotations

from librarian.catalog.repository import Repository


class Outbox(Repository):
    """What peers must learn."""
