"""Stores: local places for payloads."""

from __future__ import annotations

from pydantic import Field

from librarian.wire.base import Response


class StoreDescription(Response):
    """A store: what the settings say, what the catalog knows, and how it is now."""

    name: str
    kind: str
    uuid: str = Field(description="As in the identity file at its root.")
    root: str | None = Field(description="Null for a store that the settings no longer name.")
    staging: str | None
    is_open: bool = Field(description="Whether new files may go there.")
    total_bytes: int | None = Field(description="Null while the store does not answer.")
    free_bytes: int | None
    problem: str | None = Field(description="Why nothing can be written there now; null when all is well.")


class StoreList(Response):
    """Every store, by name."""

    stores: list[StoreDescription]
