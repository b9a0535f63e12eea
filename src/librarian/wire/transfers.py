"""Transfers: files on their way, in and out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from librarian.states import Kind, TransferState
from librarian.wire.base import Query, Response

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
