"""Rules: which files must get a copy where."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from librarian.policies import RulePolicy
from librarian.states import DueState
from librarian.wire.base import FileNameText, Query, Response
from librarian.wire.peers import Traffic


class RuleDescription(Response):
    """A replication rule."""

    name: str
    version: int
    policy: RulePolicy
    is_from_settings: bool = Field(description="Made in the settings, and changed there alone.")
    applies: bool = Field(description="Its peer exists.")
    is_backfilling: bool = Field(description="Files that were here before the rule are still being looked at.")
    backfilled: float = Field(description="The part of those that has been looked at, from 0 to 1.")
    created_at: datetime


class RuleList(Response):
    """Every rule, by name."""

    rules: list[RuleDescription]


class RemoveQuery(Query):
    """Whether to remove, or only to tell what that would mean."""

    dry_run: bool = False


class RuleRemoval(Response):
    """What becomes of what a rule had asked for."""

    name: str
    is_dry_run: bool
    waived_files: int = Field(description="Copies that are owed no longer.")
    waived_bytes: int
    under_way_files: int = Field(description="Of these, copies on their way: they arrive all the same.")
    under_way_bytes: int


class WhyQuery(Query):
    """What to explain."""

    file: FileNameText | None = Field(default=None, description="Explain the rule for this file as well.")


class EngineLook(Response):
    """Whether an engine can be used from one store to another."""

    engine: str
    why_not: str = Field(description="Empty where it can.")
    remedy: str


class RuleWay(Response):
    """How files go from one of our stores to one of the peer's."""

    from_store: str
    to_store: str
    engine: str | None = Field(description="The one that will be used.")
    looks: list[EngineLook] = Field(description="All that were looked at, in order of preference.")


class DueGroup(Response):
    """Copies that a rule owes, in one state and for one reason."""

    state: DueState
    code: str | None
    files: int
    bytes: int
    example: str | None = Field(description="The whole reason of one of them.")


class FileWhy(Response):
    """What a rule means for one file."""

    name: str
    is_asked: bool = Field(description="Whether the rule asks for a copy of it.")
    told: str = Field(description="Why not, or how far the copy is, in a sentence.")
    state: DueState | None = Field(description="Of the copy that is due; null where none is.")
    attempts: int
    next_try_at: datetime | None


class RuleWhy(Response):
    """Why a rule's files go, or do not go, and how."""

    rule: RuleDescription
    obstacles: list[str] = Field(description="What keeps everything from being offered now; none: nothing does.")
    traffic: Traffic | None = Field(description="Of its peer; null while there is no such peer.")
    ways: list[RuleWay] = Field(description="One for each of our stores and each of the peer's.")
    due: list[DueGroup]
    file: FileWhy | None = None
