"""The site itself: what it is, and how it is."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from librarian.states import Role
from librarian.wire.base import InstantText, Response
from librarian.wire.peers import OfferedEntryPoint, PeerTraffic
from librarian.wire.stores import StoreDescription


class SiteDescription(Response):
    """Who answers, what it speaks, and who you are here."""

    name: str
    uuid: str
    version: str
    protocol: int = Field(description="Of the Librarian-Protocol header.")
    now: InstantText = Field(description="By this site's clock.")
    account: str = Field(description="Yours.")
    roles: list[Role] = Field(description="Yours, without those that they include.")
    entry_points: list[OfferedEntryPoint] = Field(
        description="How a peer may fill our staging; empty for an account that may only settle transfers."
    )


class Liveness(Response):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Response):
    """The process takes work: the database answers, and it is not going down."""

    status: Literal["ready"] = "ready"


class TaskStatus(Response):
    """How one background task fares."""

    name: str
    is_running: bool
    is_slow: bool = Field(description="The running pass has outlived its soft deadline.")
    last_pass_at: datetime | None
    next_pass_at: datetime | None
    rounds: int = Field(description="Rounds that did work since the start.")
    failures: int = Field(description="Failed passes in a row.")
    last_error: str | None
    last_error_at: datetime | None


class TallyStatus(Response):
    """A total."""

    files: int
    bytes: int


class AlertStatus(Response):
    """Something a person must look at."""

    cause: str
    message: str
    remedy: str
    count: int
    first_at: datetime
    last_at: datetime


class SiteStatus(Response):
    """How the site is."""

    name: str
    version: str
    started_at: datetime
    uptime_seconds: float
    is_draining: bool
    owner: str = Field(description="The host and process that own the catalog.")
    generation: int
    epoch: int
    restored: str | None = Field(description="Why the catalog is held to be a restored backup, until acknowledged.")
    checksum_workers: int = Field(description="Processes that hash, at most.")
    checksum_busy: int = Field(description="Those that are at it now.")
    held: TallyStatus
    stores: list[StoreDescription]
    peers: list[PeerTraffic]
    tasks: list[TaskStatus]
    alerts: list[AlertStatus]


class RestoredAcknowledged(Response):
    """The catalog is no longer held to be a restored backup."""

    epoch: int
    generation: int
