"""OutgoingTransfers: files on their way to peers."""

from __future__ import annotations

from librarian.catalog.repository import Repository


class OutgoingTransfers(Repository):
    """Files on their way to peers."""
