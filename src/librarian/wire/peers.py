"""Peers: other librarians, as this site knows them."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from librarian.states import Reach
from librarian.wire.base import AccountText, Request, Response, Secret, SiteText


class OfferedEntryPoint(Response):
    """A way for bytes to reach one of our stores' staging."""

    store: str
    engine: str
    #: Of ``globus``: the collection.
    address: str = ""
    #: Of ``local``: the staging path as this site sees it. Of ``globus``: as the collection sees it.
    staging: str = ""
    #: Of ``local``: a file that stands in ``staging`` if you share the file system.
    probe: str = ""


class OfferedSite(Response):
    """What ``GET /api/v1/site`` tells a peer; the rest of that answer is for people."""

    name: SiteText
    #: Of our account there; a newer site may have some that we do not know.
    roles: list[str] = Field(default_factory=list, max_length=100)
    entry_points: list[OfferedEntryPoint] = Field(default_factory=list, max_length=1000)


class PinnedEntryPoint(Response):
    """An entry point of the peer, as it was when the peer was added or last checked."""

    store: str
    engine: str
    address: str
    staging: str


class PutPeer(Request):
    """Add a peer, or change where and as whom we call it; its entry points are read and pinned."""

    url: str = Field(max_length=2000, description="Its base URL.")
    username: AccountText = Field(description="Our account at the peer.")
    password: Secret = Field(description="Of that account; kept encrypted.")
    accepts: list[str] | None = Field(
        default=None,
        max_length=1000,
        description="Name prefixes that we accept from it; null: as it was, all from a new peer.",
    )


class ChangePeer(Request):
    """Switch a peer on or off, change what we accept, or pin its entry points anew."""

    is_enabled: bool | None = None
    accepts: list[str] | None = Field(default=None, max_length=1000)
    accept_entry_points: bool = Field(default=False, description="Read and pin them now; ends a hold.")


class PeerDescription(Response):
    """A peer as this site knows it. The password never leaves."""

    name: str
    url: str
    username: str
    reach: Reach
    is_enabled: bool
    accepts: list[str]
    entry_points: list[PinnedEntryPoint]
    held_because: str | None
    due_files: int = Field(description="Copies that are due there.")
    due_bytes: int
    last_heard_at: datetime | None
    created_at: datetime
    trouble: str | None = Field(default=None, description="Why the last call to it failed; null when it did not.")


class PeerList(Response):
    """Every peer, by name."""

    peers: list[PeerDescription]
