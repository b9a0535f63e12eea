"""What may be configured about tasks and rules: one model each."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from librarian.errors import BadRequest
from librarian.globs import Glob
from librarian.quantities import Bytes, Span
from librarian.states import RuleWay
from librarian.windows import Window

MIB: Final = 1024**2
GIB: Final = 1024**3

Engine = Literal["globus", "rsync", "local", "http"]
#: Every way for bytes to travel to a peer, the preferred one first.
ENGINES: Final[tuple[Engine, ...]] = get_args(Engine)


#: The context in which a policy is read back: a time zone that this machine knows no longer must not hide the rest.
STORED: Final = {"is": "stored"}
#: No rule waits longer.
YEARS: Final = timedelta(days=3650)


def _window(text: str, how: ValidationInfo) -> str:
    if how.context == STORED:
        return text
    try:
        return str(Window.parse(text))
    except BadRequest as error:
        # Only a ValueError is collected with the other problems of a body or a file.
        raise ValueError(f"{error.message}. {error.remedy}") from error


def _pattern(text: str) -> str:
    try:
        return Glob(text).pattern
    except BadRequest as error:
        raise ValueError(f"{error.message}. {error.remedy}") from error


WindowText = Annotated[
    str, AfterValidator(_window), Field(max_length=200, description="'<from>-<to> <zone>': '20:00-06:00 UTC'.")
]
Pattern = Annotated[str, AfterValidator(_pattern)]
StorePattern = Annotated[str, AfterValidator(_pattern), Field(min_length=1, max_length=100)]


class _Policy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RulePolicy(_Policy):
    """Which files must get a copy where, and how.

    With a peer alone they go there over the network; with stores alone onto stores of ours; with both they are carried
    to the peer on drives of these names.
    """

    peer: str | None = Field(default=None, description="The peer that must hold a copy.")
    stores: tuple[StorePattern, ...] = Field(
        default=(), max_length=1000, description="Glob patterns of the names of stores of ours that get the copy."
    )
    copies: Literal["any", "each"] = Field(
        default="any", description="One copy on any of the stores, or one on each of them."
    )
    match: tuple[Pattern, ...] = Field(
        default=("*",), min_length=1, max_length=1000, description="Glob patterns of names; '*' crosses slashes."
    )
    from_store: str | None = Field(default=None, description="Only files with an instance on this store.")
    min_age: Span = Field(default=timedelta(0), ge=timedelta(0), le=YEARS, description="Only files at least this old.")
    engines: tuple[Engine, ...] = Field(
        default=(), description="In order of preference; by default 'globus', 'rsync', 'local', 'http'."
    )
    batch_files: Annotated[int, Field(ge=1, le=4096, description="Files in one offer and batch, at most.")] = 1024
    batch_bytes: Annotated[Bytes, Field(ge=1, description="Bytes in one batch, unless one file is larger.")] = 64 * GIB
    batch_age: Annotated[
        Span, Field(ge=timedelta(0), le=YEARS, description="What is less than a batch waits so long for more.")
    ] = timedelta(0)
    priority: Annotated[
        int, Field(ge=-1000, le=1000, description="Among the rules for one peer, the higher goes first.")
    ] = 0
    windows: tuple[WindowText, ...] = Field(
        default=(), max_length=100, description="When it is offered, as '20:00-06:00 America/Santiago'; none: always."
    )

    @property
    def way(self) -> RuleWay:
        """How its files go."""
        if not self.stores:
            return RuleWay.NETWORK
        return RuleWay.LOCAL if self.peer is None else RuleWay.CARRIED

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.peer is None and not self.stores:
            raise ValueError("a rule names a peer, stores, or both: where its copies are to be")
        if self.copies == "each" and (self.peer is not None or any(set(name) & set("*?[") for name in self.stores)):
            raise ValueError("a copy on each store is for rules without a peer that name their stores one by one")
        if self.stores and (self.engines or self.batch_age):
            raise ValueError("engines and batch_age are for rules that send over the network")
        return self


class IngestPolicy(_Policy):
    """How staged payloads are verified and published."""

    interval: Span = Field(default=timedelta(seconds=5), description="How often to look when no bell rings.")
    batch_files: int = Field(default=1024, ge=1, description="Files that are published with one barrier, at most.")
    batch_bytes: Bytes = Field(default=64 * GIB, ge=1, description="Bytes in one batch, unless one file is larger.")


class HousekeepingPolicy(_Policy):
    """When abandoned things are cleared away."""

    interval: Span = Field(default=timedelta(minutes=1), description="How often to look.")
    abandoned_after: Span = Field(
        default=timedelta(days=2), description="An upload without progress for this long loses its staging."
    )
    stranger_after: Span = Field(
        default=timedelta(hours=1), description="Unknown entries of a staging area that rest this long are put aside."
    )
    quarantine_for: Span = Field(
        default=timedelta(days=14), description="Unknown entries of a staging area are kept aside for this long."
    )


class ClonePolicy(_Policy):
    """How remote clones are looked after."""

    interval: Span = Field(default=timedelta(seconds=2), description="How often to look when no bell rings.")
    reconcile_after: Span = Field(
        default=timedelta(minutes=10), description="Transfers without progress for this long are asked about."
    )
    batches_per_peer: int = Field(
        default=4, ge=1, description="Batches to one peer that may be under way; more would wait in its staging."
    )
    batches_per_engine: int = Field(
        default=32,
        ge=1,
        description="Batches that one engine works on at a time; a peer that has none may have one beyond that.",
    )
    busy_lease: Span = Field(
        default=timedelta(minutes=10), description="A lease on a name lapses after this long without progress."
    )
    quarantine_after: int = Field(
        default=6, ge=1, description="A copy that failed so often for reasons of its own waits for a person."
    )
