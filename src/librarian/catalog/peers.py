"""Peers: other librarians."""

from __future__ import annotations

from librarian.catalog.repository import Repository


class Peers(Repository):
    """Other librarians."""
