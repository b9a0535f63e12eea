"""Search: finding files."""

from __future__ import annotations

from librarian.catalog.repository import Repository


class Search(Repository):
    """Finding files."""
