"""IncomingTransfers: files on their way in."""

from __future__ import annotations

from librarian.catalog.repository import Repository


class IncomingTransfers(Repository):
    """Files on their way in."""
