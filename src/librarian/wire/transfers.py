"""Transfers: files on their way, in and out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from librarian.states import DueState, Kind, TransferState
from librarian.wire.base import FileNameText, Query, Request, Response, SiteText, Uuid
from librarian.wire.problems import Problem

Way = Literal["in", "out"]


class TransferQuery(Query):
    """Which transfers, newest first."""

    way: Way = "out"
    peer: str | None = None
    state: TransferState | None = None
    cursor: str | None = Field(default=None, max_length=12_000)
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class Transfer(Response):
    """One file on its way."""

    uuid: str
    way: Way
    peer: str | None = Field(description="Null for an upload.")
    name: str
    kind: Kind
    size: int
    checksum: str | None
    state: TransferState
    store: str | None = Field(description="Where it goes: the receiver's store.")
    engine: str | None = None
    code: str | None
    reason: str | None
    created_at: datetime
    progressed_at: datetime


class TransferPage(Response):
    """One page; ``next_cursor`` is null on the last."""

    transfers: list[Transfer]
    next_cursor: str | None = None


class StoppedQuery(Query):
    """Which stopped copies, by file."""

    peer: str | None = None
    state: Literal["blocked", "quarantined"] | None = None
    cursor: str | None = Field(default=None, max_length=12_000)
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class StoppedDue(Response):
    """A copy that is due and goes no further by itself."""

    name: str
    peer: str
    rule: str
    size: int
    state: DueState
    attempts: int = Field(description="So often it was tried.")
    code: str | None
    reason: str | None
    since: datetime


class StoppedPage(Response):
    """One page; ``next_cursor`` is null on the last."""

    copies: list[StoppedDue]
    next_cursor: str | None = None


class RetryCopies(Request):
    """Which copies are to go on at once: at least one of the three."""

    names: list[FileNameText] = Field(default_factory=list, max_length=1000, description="Of these files.")
    peer: SiteText | None = Field(default=None, description="For this peer.")
    all: bool = Field(default=False, description="Of every file, for every peer.")
    dry_run: bool = Field(default=False, description="Only count them.")


class CopiesRetried(Response):
    """How many copies go on, or would."""

    copies: int
    is_dry_run: bool


class CancelTransfers(Request):
    """Which transfers are to end."""

    uuids: list[Uuid] = Field(min_length=1, max_length=100)
    peer: SiteText | None = Field(
        default=None, description="Only transfers between us and this peer: two may have chosen the same id."
    )
    dry_run: bool = Field(default=False, description="Only tell what would become of each.")


class TransferCancelled(Response):
    """What became of the order to end one transfer."""

    uuid: str
    way: Way | None = Field(description="Null when there is no such transfer.")
    name: str | None
    problem: Problem | None = Field(description="Why it did not end now; null when it did, or would.")


class TransfersCancelled(Response):
    """One outcome for each, in the order of the request."""

    transfers: list[TransferCancelled]
    is_dry_run: bool
