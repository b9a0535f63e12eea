"""Alerts: what a person must look at."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from librarian.wire.base import Query, Request, Response


class AlertQuery(Query):
    """Which alerts, newest first."""

    all: bool = Field(default=False, description="Also those that somebody has acknowledged.")
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class AlertDescription(Response):
    """Something a person must look at, or has looked at."""

    cause: str = Field(description="What makes two reports the same alert.")
    message: str
    remedy: str
    count: int = Field(description="So often it was reported.")
    first_at: datetime
    last_at: datetime
    acknowledged_at: datetime | None


class AlertList(Response):
    """Alerts, newest first."""

    alerts: list[AlertDescription]
    has_more: bool = Field(description="There are more than were asked for.")


class AcknowledgeAlerts(Request):
    """Which alerts somebody has seen: some, or all there are."""

    causes: list[Annotated[str, Field(max_length=2000)]] = Field(default_factory=list, max_length=1000)
    all: bool = False


class AlertsAcknowledged(Response):
    """How many alerts are acknowledged now that were not."""

    alerts: int
