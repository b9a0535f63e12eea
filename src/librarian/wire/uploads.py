"""Uploads: open, bring the bytes, commit."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from librarian.states import Kind, TransferState
from librarian.wire.base import ChecksumText, FileNameText, Request, Response, Size
from librarian.wire.problems import Problem

KindText = Literal["file", "book"]


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
    #: A random name that stands beside the payload: who finds it shares the file system.
    probe_path: str = Field(description="A file that exists if you share the file system with the server.")
    ways: list[Literal["shared", "http"]]
    received: int = Field(default=0, description="Bytes that already arrived over HTTP (file uploads).")
    created_at: datetime
    problem: Problem | None = Field(default=None, description="Why it failed.")


class CommitUpload(Request):
    """The bytes are all there. With a checksum given at open, no body is needed."""

    checksum: ChecksumText | None = None


class CommitOne(Request):
    """One of a list of commits."""

    id: str
    checksum: ChecksumText | None = None


class CommitMany(Request):
    """Many commits in one request: published with one barrier, recorded in one transaction."""

    uploads: list[CommitOne] = Field(max_length=4096)


class OpenMany(Request):
    """Many uploads in one request, all or none as to form, each answered on its own as to substance."""

    uploads: list[OpenUpload] = Field(max_length=4096)


class UploadAnswer(Response):
    """One item's answer: an upload, or why not."""

    upload: Upload | None = None
    problem: Problem | None = None


class UploadAnswers(Response):
    """Answers in the order of the request."""

    uploads: list[UploadAnswer]
