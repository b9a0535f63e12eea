"""Files: immutable named payloads and their member listings."""

from __future__ import annotations

from librarian.catalog.repository import Repository


class Files(Repository):
    """Immutable named payloads and their member listings."""
