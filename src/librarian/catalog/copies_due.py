"""CopiesDue: copies that files still owe."""

from __future__ import annotations

from librarian.catalog.repository import Repository


class CopiesDue(Repository):
    """Copies that files still owe."""
