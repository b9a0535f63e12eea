"""Accounts: who may call us."""

from __future__ import annotations

from librarian.catalog.repository import Repository


class Accounts(Repository):
    """Who may call us."""
