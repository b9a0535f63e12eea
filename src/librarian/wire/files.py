"""Files: what we hold, where, and how it came to be."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from librarian.globs import Glob
from librarian.states import Intent, Kind, Presence, VerifiedFrom
from librarian.wire.base import AccountText, InstantText, MemberText, Query, Response, SiteText, Size, StoreText
from librarian.wire.cursors import LONGEST

#: The most files on one page of a search, and when nothing is said.
MOST_FILES: Final = 1_000
SOME_FILES: Final = 64
#: The most members on one page of a listing, and when nothing is said.
MOST_MEMBERS: Final = 10_000
SOME_MEMBERS: Final = 1_000


def _checked_glob(text: str) -> str:
    return Glob(text).pattern


CursorText = Annotated[str, Field(max_length=LONGEST, description="'next_cursor' of the page before.")]


class FilesQuery(Query):
    """Which files to find; every condition must hold."""

    match: Annotated[
        str | None,
        AfterValidator(lambda text: text if text is None else _checked_glob(text)),
        Field(description="Glob over whole names: '*' (crosses slashes), '?', '[a-z]', '[!a-z]'."),
    ] = None
    since: InstantText | None = Field(default=None, description="Taken in at or after.")
    until: InstantText | None = Field(default=None, description="Taken in before.")
    uploader: AccountText | None = None
    origin: SiteText | None = Field(default=None, description="The site that took it in first.")
    store: StoreText | None = Field(default=None, description="With a copy on this store.")
    kind: Literal["file", "book"] | None = None
    min_size: Size | None = None
    max_size: Size | None = None
    order: Literal["newest", "name"] | None = Field(
        default=None, description="Default: by name where 'match' starts with plain text, else the newest first."
    )
    cursor: CursorText | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_FILES)] = SOME_FILES


class MembersQuery(Query):
    """Which page of a book's members."""

    cursor: CursorText | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_MEMBERS)] = SOME_MEMBERS


class ContentQuery(Query):
    """What of a payload."""

    member: MemberText | None = Field(default=None, description="One member of a book instead of the whole as tar.")


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
    """One page of a search, in its order."""

    files: list[FileSummary]
    next_cursor: str | None = Field(
        default=None,
        description="Null on the last page. A page may be short, even empty, and still have a next one.",
    )


class Instance(Response):
    """A copy on one of our stores."""

    store: str
    path: str | None = Field(description="Absolute, as the server sees it; null for a store that is not configured.")
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
