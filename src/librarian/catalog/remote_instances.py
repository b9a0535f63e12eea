"""RemoteInstances: copies at peers, as they told us."""

from __future__ import annotations

from librarian.catalog.repository import Repository


class RemoteInstances(Repository):
    """Copies at peers, as they told us."""
