"""Checking a peer: what two sites ask each other, and what an operator is told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from librarian.wire.base import ChecksumText, PeerRequest, Remark, Response, Size, StoreText, TokenText


class AskCallback(PeerRequest):
    """Call us, with your password here, and say whether that works."""


class CalledBack(Response):
    """What the call came to."""

    works: bool
    reason: Remark = ""
    remedy: Remark = ""


class AskProbe(PeerRequest):
    """Make staging for a probe: a small book that is to be brought, read and removed."""

    store: StoreText
    size: Annotated[int, Field(ge=1, le=1024**2)]


class ProbeStaged(Response):
    """Bring it to ``<entry point of store>/<token>/payload``."""

    token: TokenText
    free_bytes: Size = Field(description="What the store can take now.")


class AskProbeRead(PeerRequest):
    """Read the probe under this token, and remove it."""

    token: TokenText


class ProbeRead(Response):
    """What stood there."""

    checksum: ChecksumText | None = Field(default=None, description="In xxh3; null: it could not be read.")
    reason: Remark = ""
    is_removed: bool


class Finding(Response):
    """One thing that was looked at."""

    subject: str
    verdict: Literal["ok", "warning", "failed"]
    message: str
    remedy: str = ""


class Checkup(Response):
    """What was found out about a peer, in the order in which it was looked at."""

    name: str
    verdict: Literal["ok", "warning", "failed"] = Field(description="The worst of the findings.")
    findings: list[Finding]
