"""Instances: copies on our stores."""

from __future__ import annotations

from librarian.catalog.repository import Repository


class Instances(Repository):
    """Copies on our stores."""
