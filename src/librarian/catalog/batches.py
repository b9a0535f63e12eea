"""Batches: transfers that one engine moves together."""

from __future__ import annotations

from librarian.catalog.repository import Repository


class Batches(Repository):
    """Transfers that one engine moves together."""
