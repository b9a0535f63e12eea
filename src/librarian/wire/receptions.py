"""Receptions: drives of other sites that are received here."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from librarian.states import ReceptionState
from librarian.wire.base import Query, Request, Response, SiteText


def _absolute(path: str) -> str:
    if not Path(path).is_absolute() or "\0" in path:
        raise ValueError("give an absolute path")
    return path


class ReceiveDrive(Request):
    """Receive the drive that is mounted at a place."""

    path: Annotated[str, AfterValidator(_absolute)] = Field(
        min_length=1,
        max_length=4096,
        description="Where it is mounted, at the server.",
        json_schema_extra={"pattern": "^/"},
    )
    trust: str | None = Field(
        default=None,
        max_length=64,
        description="The fingerprint of the key that signed it, as on the packing slip, where it is no paired peer's.",
    )
    although_for: SiteText | None = Field(
        default=None, description="The other site that the drive was sealed for; nobody is told what becomes of it."
    )


class ReceptionDescription(Response):
    """A drive that is being received, or was, and what became of its entries."""

    uuid: str = Field(description="Of its manifest.")
    drive: str
    origin: str = Field(description="The site that sealed it.")
    to: str = Field(description="The site that it was sealed for.")
    tells: bool = Field(description="Whether that site is told what becomes of the entries.")
    state: ReceptionState
    path: str = Field(description="Where the drive was read last.")
    reason: str | None = Field(description="Why nothing is read from it now.")
    files: int
    bytes: int
    read_bytes: int = Field(description="Of the entries that were read from the drive, were here before, or are bad.")
    held_files: int = Field(description="Held here, and verified.")
    held_bytes: int
    known_files: int = Field(description="Of those held, the ones that were here before the drive came.")
    bad_files: int = Field(description="That could not be taken; the others go on.")
    bad_bytes: int
    is_done: bool = Field(description="Every entry is held, or could not be taken: the drive may be unplugged.")
    created_at: datetime
    progressed_at: datetime


class ReceptionPage(Response):
    """Receptions, the newest first; ``next_cursor`` is null on the last page."""

    receptions: list[ReceptionDescription]
    next_cursor: str | None = None


class ReceptionQuery(Query):
    """Which page."""

    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = None


class BadEntry(Response):
    """An entry that could not be taken."""

    name: str
    size: int
    code: str
    reason: str = Field(description="Begins with the member of a book that it is about.")


class BadEntryPage(Response):
    """One page; ``next_cursor`` is null on the last."""

    entries: list[BadEntry]
    next_cursor: str | None = None
