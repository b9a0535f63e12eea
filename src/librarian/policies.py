"""What may be configured about tasks and rules: one model each."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

MIB: Final = 1024**2
GIB: Final = 1024**3


class _Policy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RulePolicy(_Policy):
    """Which files must get a copy where, and how."""

    peer: str = Field(description="The peer that must hold a copy.")
    match: tuple[str, ...] = Field(default=("*",), description="Glob patterns of names; '*' crosses slashes.")
    from_store: str | None = Field(default=None, description="Only files with an instance on this store.")
    min_age: timedelta = Field(default=timedelta(0), description="Only files at least this old.")
    engines: tuple[str, ...] = Field(default=("local", "http"), description="In order of preference.")
    batch_files: Annotated[int, Field(ge=1, le=4096)] = 1024
    batch_bytes: Annotated[int, Field(ge=1)] = 64 * GIB


class IngestPolicy(_Policy):
    """How staged payloads are verified and published."""

    interval: timedelta = timedelta(seconds=5)
    batch_files: int = 1024
    batch_bytes: int = 64 * GIB


class HousekeepingPolicy(_Policy):
    """When abandoned things are cleared away."""

    interval: timedelta = timedelta(minutes=1)
    #: An upload without progress for this long loses its reservation and its staging.
    abandoned_after: timedelta = timedelta(days=2)
    quarantine_for: timedelta = timedelta(days=14)


class ClonePolicy(_Policy):
    """How often the loops of the remote clone look for work when no bell rings."""

    interval: timedelta = timedelta(seconds=2)
    #: Transfers without progress for this long are asked about.
    reconcile_after: timedelta = timedelta(minutes=10)
    #: A lease on a name lapses after this long without progress.
    busy_lease: timedelta = timedelta(minutes=10)
