"""Peers: other librarians, as this site knows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from librarian.policies import WindowText
from librarian.states import Flow, Reach
from librarian.wire.base import (
    BIGGEST,
    AccountText,
    InstantText,
    PeerRequest,
    Query,
    Request,
    Response,
    Secret,
    SiteText,
)


class OfferedEntryPoint(Response):
    """A way for bytes to reach one of our stores' staging."""

    store: str
    engine: str
    #: Of ``globus``: the collection. Of ``rsync``: the account, ``user@host:port``.
    address: str = ""
    #: Of ``local``: the staging path as this site sees it. Of ``globus``, ``rsync``: as collection, account see it.
    staging: str = ""
    #: Of ``local``: a file that stands in ``staging`` if you share the file system.
    probe: str = ""


class AskSite(PeerRequest):
    """Who are you, and how is your staging reached?"""


class OfferedSite(Response):
    """What a site tells a peer about itself: part of ``GET /api/v1/site``, whose rest is for people."""

    name: SiteText
    #: Of our account there; a newer site may have some that we do not know.
    roles: list[str] = Field(default_factory=list, max_length=100)
    #: Its clock.
    now: InstantText | None = None
    entry_points: list[OfferedEntryPoint] = Field(default_factory=list, max_length=1000)


PeerSecret = Annotated[Secret, Field(min_length=16, max_length=256)]


class Credentials(PeerRequest):
    """From now on these passwords are valid beside those that we have; each ends the other when it is first used."""

    yours: PeerSecret = Field(description="Of your account at our site.")
    mine: PeerSecret = Field(description="Of our account at yours.")


class CredentialsTaken(Response):
    """Both are written down."""

    is_in_use: bool = Field(description="Ours was seen to work at your site.")


class Rotated(Response):
    """What became of the passwords between a peer and us; the one before is valid until the new one was used."""

    name: str
    ours_in_use: bool = Field(description="We call the peer with our new password.")
    theirs_in_use: bool = Field(description="The peer has called us with its new password.")


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
    authority: str | None = Field(
        default=None,
        max_length=100_000,
        description="PEM of the authority that signed its certificate; empty: one that this machine trusts; "
        "null: as it was.",
    )
    accepts: list[str] | None = Field(
        default=None,
        max_length=1000,
        description="Name prefixes that we accept from it; null: as it was, all from a new peer.",
    )


class ChangePeer(Request):
    """Switch a peer on or off, limit what goes there, change what we accept, or pin its entry points anew.

    What is left out stays as it is.
    """

    is_enabled: bool | None = None
    flow: Literal["open", "paused", "draining"] | None = Field(
        default=None, description="Paused: nothing moves. Draining: nothing new is offered, what is under way goes on."
    )
    rate_limit: int | None = Field(default=None, ge=0, le=BIGGEST, description="Bytes per second; 0: no limit.")
    windows: list[WindowText] | None = Field(
        default=None, max_length=100, description="When bytes may flow, as '20:00-06:00 UTC'; none: always."
    )
    staged_budget: int | None = Field(
        default=None, ge=0, le=BIGGEST, description="Bytes that may wait in its staging; 0: no limit."
    )
    accepts: list[str] | None = Field(default=None, max_length=1000)
    accept_entry_points: bool = Field(default=False, description="Read and pin them now; ends a hold.")


class Traffic(Response):
    """What goes to a peer, and what is left to go."""

    state: Literal["disabled", "held", "paused", "closed", "draining", "open"] = Field(
        description="What goes there now, in a word; closed: outside of its windows."
    )
    flow: Flow = Field(description="What an operator lets go there.")
    is_moving: bool = Field(description="Whether bytes may move now: enabled, not held, not paused, in a window.")
    why_not: str = Field(description="Why nothing, or nothing new, may go there; empty when all may.")
    changes_at: datetime | None = Field(description="When its windows open or close next.")
    bytes_per_second: int = Field(description="That have moved there in the last minutes.")
    seconds_left: int | None = Field(
        description="For what is due, at that rate, closed windows included; null while nothing moves."
    )
    due_files: int = Field(description="Copies that are due there.")
    due_bytes: int
    quarantined_files: int = Field(description="Copies that wait for a person; they are not due.")
    quarantined_bytes: int


class PeerDescription(Traffic):
    """A peer as this site knows it. The password never leaves."""

    name: str
    url: str
    username: str
    reach: Reach = Field(description="'push': we call it; 'poll': it fetches what waits for it here.")
    is_fetched: bool = Field(description="It cannot call us: we fetch what waits for us there.")
    is_enabled: bool
    accepts: list[str]
    entry_points: list[PinnedEntryPoint]
    held_because: str | None
    rate_limit: int | None = Field(description="Bytes per second.")
    windows: list[str] = Field(description="When bytes may flow; none: always.")
    staged_budget: int | None = Field(description="Bytes that may wait in its staging.")
    last_heard_at: datetime | None
    created_at: datetime
    trouble: str | None = Field(default=None, description="Why the last call to it failed; null when it did not.")


class PeerTraffic(Traffic):
    """The same, with the name of the peer."""

    name: str


class PeerList(Response):
    """Every peer, by name."""

    peers: list[PeerDescription]


class RemovePeer(Query):
    """Whether to forget it, or only to tell what that would mean."""

    dry_run: bool = False


class PeerRemoval(Response):
    """What goes with a peer."""

    name: str
    is_dry_run: bool
    untold: int = Field(description="Notices that it has not heard, and will not.")
