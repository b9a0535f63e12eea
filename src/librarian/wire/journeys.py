"""Where each drive stands, and what will be needed."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from librarian.states import DriveState
from librarian.wire.base import Response
from librarian.wire.site import TallyStatus


class Journey(Response):
    """A drive on its round, as the catalog knows it: no disk is asked."""

    name: str
    state: DriveState
    since: datetime = Field(description="When it came into its state.")
    age_seconds: float = Field(description="So long it has been in its state.")
    who: str = Field(description="Who brought it into its state.")
    round: int = Field(description="Counts its journeys, from 1.")
    is_plugged: bool
    path: str = Field(description="Where it was seen last.")
    problem: str | None = Field(
        description="Why nothing can be written there now; null when all is well, as of a drive that is sealed."
    )
    size: int = Field(description="Of its file system, in bytes.")
    full_at: int = Field(description="The thousandth parts of its size at which it counts as full.")
    held: TallyStatus = Field(description="On it.")
    to: str | None = Field(description="The peer that it was sealed for in this round.")
    sealed_at: datetime | None
    carried: TallyStatus | None = Field(description="What its manifest lists; null until it is sealed.")
    confirmed: TallyStatus | None = Field(description="Of these, what the peer holds.")
    waiting: TallyStatus | None = Field(description="What the peer has said nothing of yet.")
    failed: TallyStatus | None = Field(description="What the peer could not take from the drive; it is due again.")


class Outlook(Response):
    """What a rule still has to load onto drives, and what that takes at the rate at which files arrive."""

    rule: str
    to: str
    drives: list[str] = Field(description="Patterns of their names.")
    due: TallyStatus = Field(description="What is not on a drive yet.")
    quarantined: TallyStatus = Field(
        description="What the peer takes neither from a drive nor over a network until a person has settled why; "
        "of all rules for it."
    )
    room_bytes: int = Field(description="What still goes onto its drives that are being loaded.")
    drive_bytes: int | None = Field(description="What one drive takes: as the newest of its drives; null without one.")
    drives_due: int | None = Field(description="So many more drives of that size what is due takes.")
    arrived: TallyStatus = Field(description="What came for it within the last seven days, today included.")
    bytes_per_day: int = Field(description="On average over that time, or since the rule was made.")
    drives_per_week: float | None = Field(description="So many drives of that size this fills.")
    full_in_seconds: float | None = Field(
        description="When its drives that are being loaded are full at that rate; null when that takes ten years."
    )


class DriveStatus(Response):
    """Where each drive stands, by name, and the outlook for each rule that loads drives."""

    at: datetime
    drives: list[Journey]
    rules: list[Outlook]
