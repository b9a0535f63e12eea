"""Drives: stores that are carried by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from librarian.states import DriveState
from librarian.wire.base import Request, Response, SiteText, StoreText

PathText = Annotated[str, Field(pattern=r"^/", max_length=4096, description="Absolute, at the server.")]
#: In thousandth parts: 980 stands for 98 %.
FullAt = Annotated[int, Field(ge=10, le=1000)]


class InitDrive(Request):
    """Make a drive of an empty place."""

    name: StoreText
    path: PathText
    full_at: FullAt = Field(
        default=980, description="It counts as full when so many thousandth parts of it are in use."
    )
    is_folder: bool = Field(default=False, description="A folder that is no file system of its own will do.")


class AttachDrive(Request):
    """Where a drive is that cannot be found."""

    path: PathText


class ManifestSummary(Response):
    """What a drive carries to a peer, and what is known of that."""

    uuid: str
    to: str
    sealed_at: datetime
    sealed_by: str
    is_complete: bool = Field(description="False while it is being written.")
    files: int
    bytes: int
    confirmed_files: int = Field(description="Of these, what the peer holds.")
    confirmed_bytes: int
    failed_files: int = Field(description="What the peer could not take from the drive.")
    failed_bytes: int


class DriveDescription(Response):
    """A drive: where it stands, and what is on it."""

    name: str
    uuid: str = Field(description="As in the identity file at its top.")
    state: DriveState
    since: datetime
    who: str = Field(description="Who brought it into its state.")
    round: int = Field(description="Counts its journeys, from 1.")
    is_plugged: bool = Field(description="Whether it is plugged in here.")
    path: str = Field(description="Where it was seen last.")
    seen_at: datetime = Field(description="When it was last plugged in, or found to be gone.")
    serial: str | None = Field(description="Of the device, where the system tells.")
    filesystem: str
    size: int
    full_at: int
    free_bytes: int | None = Field(description="Null while it is not plugged in, or does not answer.")
    files: int = Field(description="On it.")
    bytes: int
    problem: str | None = Field(
        description="Why nothing can be written there now; null when all is well, as of a drive that is sealed."
    )
    manifest: ManifestSummary | None = Field(description="Of its present round; null until it is being sealed.")


class DriveList(Response):
    """Every drive there ever was, by name."""

    drives: list[DriveDescription]


class DriveMade(Response):
    """A drive that was made, and what its file system cannot do."""

    drive: DriveDescription
    remarks: list[str]


class DriveEvent(Response):
    """One milestone of a drive."""

    at: datetime
    what: str
    who: str
    why: str


class DriveStory(Response):
    """A drive with its history, oldest first."""

    drive: DriveDescription
    story: list[DriveEvent]


class SealDrive(Request):
    """Close a drive for a peer."""

    to: SiteText = Field(description="The peer that it is carried to.")
    is_unasked: bool = Field(default=False, description="Although nothing on it was loaded for that peer.")


class DriveSealing(Response):
    """A drive that is being sealed, or is sealed."""

    drive: DriveDescription
    also_for: list[str] = Field(
        description="Other peers that something on it was loaded for: that is due there again, on another drive. "
        "Told once, when it is closed."
    )


class SlipLine(Response):
    """Files on a drive whose names begin alike."""

    prefix: str = Field(description="The first part of the names, with its slash; or a whole name.")
    files: int
    bytes: int


class PackingSlip(Response):
    """What travels with a drive, on paper."""

    drive: str
    serial: str | None
    round: int
    sender: str
    to: str
    sealed_at: datetime
    files: int
    bytes: int
    contents: list[SlipLine]
    manifest: str = Field(description="Its UUID.")
    fingerprint: str = Field(description="Of the key that signed the manifest.")


class ReleaseDrive(Request):
    """Let a drive be wiped."""

    lose: int = Field(default=0, ge=0, description="How many files that are not confirmed are given up with it.")
    dry_run: bool = False


class LoseDrive(Request):
    """Give a drive up for lost."""

    dry_run: bool = False


class ReuseDrive(Request):
    """Wipe a released drive, and begin its next round."""

    lose: int = Field(default=0, ge=0, description="How many files on it are given up that are known nowhere else.")
    dry_run: bool = False


class DriveStakes(Response):
    """What is on a drive, and what would be missed if it were gone."""

    name: str
    state: DriveState
    is_dry_run: bool
    files: int
    bytes: int
    unconfirmed_files: int = Field(
        description="Its peer has not confirmed them; before it is sealed: not all that it was loaded for have."
    )
    unconfirmed_bytes: int
    last_files: int = Field(description="Of these, those of which no other good copy is known anywhere.")
    last_bytes: int
    examples: list[str] = Field(description="Some of the last.")
