"""Rules: which files must get a copy where."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from librarian.policies import RulePolicy
from librarian.wire.base import Response


class RuleDescription(Response):
    """A replication rule."""

    name: str
    version: int
    policy: RulePolicy
    is_from_settings: bool
    is_enabled: bool
    applies: bool = Field(description="Enabled, and its peer exists.")
    is_backfilling: bool = Field(description="Files that were here before the rule are still being looked at.")
    created_at: datetime


class RuleList(Response):
    """Every rule, by name."""

    rules: list[RuleDescription]
