"""Notices that were set aside: what a peer refuses to hear, until an operator has looked."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from librarian.wire.base import BIGGEST, Query, Request, Response, SiteText

NoticeId = Annotated[int, Field(ge=1, le=BIGGEST)]


class SetAsideQuery(Query):
    """Which notices that were set aside, oldest first."""

    peer: str | None = None
    after: Annotated[int, Field(ge=0, le=BIGGEST, description="The id of the last one seen.")] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class SetAsideNotice(Response):
    """A notice that its peer refuses for good; later ones about the same subject wait behind it."""

    id: int
    peer: str
    state: str = Field(description="What it says: staged, cancelled, failed, held or gone.")
    subject: str = Field(description="A transfer's uuid, or a file's name.")
    name: str
    reason: str = Field(description="Why the peer refuses it.")
    created_at: datetime


class SetAsideList(Response):
    """Notices that were set aside, oldest first."""

    notices: list[SetAsideNotice]


class SteerNotices(Request):
    """Which notices that were set aside are meant: at least one of the three."""

    ids: list[NoticeId] = Field(default_factory=list, max_length=1000)
    peer: SiteText | None = Field(default=None, description="Those for this peer.")
    all: bool = Field(default=False, description="All there are.")
    dry_run: bool = Field(default=False, description="Only count them.")


class NoticesSteered(Response):
    """How many notices were meant."""

    notices: int
    is_dry_run: bool
