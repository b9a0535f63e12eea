"""Uploads: open, bring the bytes, commit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from librarian.states import Kind, TransferState
from librarian.wire.base import LIST_ITEMS, ChecksumText, FileNameText, Query, Request, Response, Size
from librarian.wire.problems import Problem

KindText = Literal["file", "book"]

#: The most seconds that one request waits for a verdict.
LONGEST_WAIT = 300


class OpenUpload(Request):
    """One file to be uploaded."""

    name: FileNameText
    size: Size
    kind: KindText = "file"
    checksum: ChecksumText | None = Field(default=None, description="May come at commit instead.")


class Upload(Response):
    """An upload as it stands."""

    id: str = Field(description="UUID.")
    name: str
    kind: Kind
    size: int
    checksum: str | None
    state: TransferState
    store: str
    staging_path: str = Field(description="Where to bring the bytes on a shared file system.")
    content_url: str = Field(description="Where to PUT them.")
    #: The folder of a random name that the payload is to be put into: who finds it shares the file system.
    probe_path: str = Field(description="Exists if you share the file system with the server.")
    ways: list[Literal["shared", "http"]]
    received: int | None = Field(
        default=None, description="Bytes of the whole that have arrived; null where that was not looked at."
    )
    created_at: datetime
    problem: Problem | None = Field(default=None, description="Why it failed, or what it waits for.")


class CommitUpload(Request):
    """The bytes are all there. With a checksum given at open, no body is needed."""

    checksum: ChecksumText | None = None


class CommitOne(Request):
    """One of a list of commits."""

    id: str = Field(max_length=36)
    checksum: ChecksumText | None = None


#: Many uploads in one request: refused as a whole for their form, answered one by one for their substance.
OpenMany = Annotated[list[OpenUpload], Field(max_length=LIST_ITEMS)]
#: Many commits in one request: published with one barrier, recorded in one transaction.
CommitMany = Annotated[list[CommitOne], Field(max_length=LIST_ITEMS)]


class UploadAnswer(Response):
    """One item's answer: an upload, or why not."""

    upload: Upload | None = None
    problem: Problem | None = None


class Wait(Query):
    """How long to wait for the verdict."""

    wait: Annotated[float, Field(ge=0, le=LONGEST_WAIT, allow_inf_nan=False)] = Field(
        default=0, description="Seconds to wait for the verdict; 0 answers at once."
    )


class Place(Query):
    """Where the bytes of a PUT belong."""

    offset: Size | None = Field(default=None, description="Go on at this byte; what stands behind it is cut off.")
