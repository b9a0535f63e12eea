"""Files: what we hold, where, and how it came to be."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from librarian.states import Intent, Kind, Presence, VerifiedFrom
from librarian.wire.base import Response


class FileSummary(Response):
    """One file, as a search finds it."""

    name: str
    kind: Kind
    size: int
    checksum: str
    uploader: str
    origin: str = Field(description="The site that took it in first.")
    created_at: datetime


class FilePage(Response):
    """One page of a search, in its order; ``next_cursor`` is null on the last."""

    files: list[FileSummary]
    next_cursor: str | None = None


class Instance(Response):
    """A copy on one of our stores."""

    store: str
    path: str = Field(description="Absolute, as the server sees it.")
    presence: Presence
    intent: Intent
    verified_at: datetime
    verified_from: VerifiedFrom


class RemoteInstance(Response):
    """A copy at a peer, as it told us."""

    peer: str
    store: str
    attested_at: datetime


class CopyDue(Response):
    """A copy the file still owes to a rule."""

    rule: str
    peer: str | None
    state: str
    attempts: int
    next_try_at: datetime
    reason: str | None


class Event(Response):
    """One milestone."""

    at: datetime
    what: str
    who: str
    why: str


class FileDescription(FileSummary):
    """Everything about one file."""

    instances: list[Instance]
    remote_instances: list[RemoteInstance]
    copies_due: list[CopyDue]
    story: list[Event]
    member_count: int | None = Field(default=None, description="Of a book.")


class Member(Response):
    """One member of a book; an empty directory has no checksum and a path that ends in a slash."""

    path: str
    size: int
    checksum: str | None


class MemberPage(Response):
    """The members of a book in the order of their paths."""

    members: list[Member]
    next_cursor: str | None = None
