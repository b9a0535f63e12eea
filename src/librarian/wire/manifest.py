"""Manifests: what a drive carries, as lines of JSON. docs/reference/manifest.md is the public description."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from librarian.wire.base import (
    AccountText,
    ChecksumText,
    FileNameText,
    InstantText,
    MemberText,
    SiteText,
    Size,
    StoreText,
    Uuid,
)
from librarian.wire.uploads import KindText

#: Grows when a reader of an older one would misunderstand.
VERSION: Final = 1
_COUNT: Final = 2**40

_Base64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$", max_length=128)]
_Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{32}|[0-9a-f]{64})$")]


class ManifestLine(BaseModel):
    """Strict types; a reader tolerates fields that a newer writer adds."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, populate_by_name=True)


class Sender(ManifestLine):
    """The site that sealed the drive."""

    name: SiteText
    uuid: Uuid


class Head(ManifestLine):
    """The first line: which drive this is, who sealed it, and for whom."""

    librarian_manifest: Literal[1] = VERSION
    uuid: Uuid = Field(description="Of the manifest.")
    drive: StoreText = Field(description="The drive's name at the site that sealed it.")
    store: Uuid = Field(description="As in the drive's identity file.")
    generation: int = Field(ge=0, description="As in the drive's identity file when it was sealed.")
    round: int = Field(ge=1, description="Counts the journeys of the drive.")
    serial: str | None = Field(max_length=256, description="Of the device, where the system told.")
    sender: Sender = Field(alias="from")
    to: SiteText = Field(description="The site that it is for.")
    sealed_at: InstantText
    files: int = Field(ge=0, le=_COUNT, description="Lines between the first and the last.")
    bytes: Size = Field(description="Of all files.")
    key: _Base64 = Field(description="The sender's public key: ed25519, Base64.")


Member = tuple[MemberText, Size, _Hex | None]


class Entry(ManifestLine):
    """One line for each file that the drive carries."""

    uuid: Uuid = Field(description="Of the transfer.")
    name: FileNameText = Field(description="It stands at this path on the drive.")
    kind: KindText
    size: Size
    checksum: ChecksumText
    uploader: AccountText
    origin: SiteText
    created_at: InstantText
    members: tuple[Member, ...] | None = Field(
        default=None,
        description="Of a book: path, size and digest of each member; the digest of an empty directory is null.",
    )


class Seal(ManifestLine):
    """The last line: what shows that the lines before it are as the sender wrote them."""

    blake3: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(description="Of every byte before this line.")
    signature: _Base64 = Field(
        description='By the sender\'s key, of the JSON list ["librarian-manifest", "1", <blake3>]; ed25519, Base64.'
    )
