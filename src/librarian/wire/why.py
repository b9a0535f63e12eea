"""Why: how one file stands, told in sentences."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from librarian.wire.base import Response


class WhyCopy(Response):
    """One sentence about one copy."""

    place: str = Field(description="The store or the peer; empty for the file itself.")
    state: str = Field(
        description="Of a copy here its presence; 'held' at a peer; else of the due copy, or of what arrives."
    )
    since: datetime | None
    sentence: str


class Why(Response):
    """How the file stands: each of its copies, and what it still waits for."""

    name: str
    copies: list[WhyCopy]
