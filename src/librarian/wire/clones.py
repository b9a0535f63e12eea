"""Clones: what two librarians say to each other. docs/explanation/between-sites.md tells the story."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from librarian.states import TransferState
from librarian.wire.base import (
    BIGGEST,
    LIST_ITEMS,
    AccountText,
    ChecksumText,
    FileNameText,
    InstantText,
    PeerRequest,
    Remark,
    Response,
    SiteText,
    Size,
    StoreText,
    TokenText,
    Uuid,
)
from librarian.wire.problems import Problem
from librarian.wire.uploads import KindText

#: The most bytes of one frame's header line.
FRAME_HEADER_BYTES: Final = 16 * 1024

#: An epoch is some instant in milliseconds since 1970, or little more: none lies beyond the year 3000.
LATEST_EPOCH: Final = 32_503_680_000_000

Place = Annotated[int, Field(ge=0, le=BIGGEST)]
Epoch = Annotated[int, Field(ge=0, le=LATEST_EPOCH)]


class OfferedClone(PeerRequest):
    """One file that the caller offers, under a uuid of its own."""

    uuid: Uuid
    name: FileNameText
    kind: KindText
    size: Size
    checksum: ChecksumText
    uploader: AccountText
    origin: SiteText
    created_at: InstantText


class OfferClones(PeerRequest):
    """Many files in one offer; each gets a verdict of its own."""

    clones: list[OfferedClone] = Field(max_length=LIST_ITEMS)


class Accepted(Response):
    """Bring it to ``<entry point of store>/<token>/payload``. The token stays the same over retries."""

    verdict: Literal["accepted"] = "accepted"
    uuid: str
    token: TokenText
    store: StoreText


class Held(Response):
    """A present, verified, kept copy of that name is here, with this size and checksum."""

    verdict: Literal["held"] = "held"
    uuid: str
    size: Size
    checksum: ChecksumText


class Busy(Response):
    """Another arrival of that name is under way; offer again, at the latest when its lease ends."""

    verdict: Literal["busy"] = "busy"
    uuid: str
    until: InstantText
    reason: Remark


class Refused(Response):
    """Not now and not in this shape."""

    verdict: Literal["refused"] = "refused"
    uuid: str
    code: Remark
    reason: Remark


Verdict = Annotated[Accepted | Held | Busy | Refused, Field(discriminator="verdict")]


class Verdicts(Response):
    """One verdict per offered clone, in the order of the offer."""

    verdicts: list[Verdict]


NoticeState = Literal["staged", "cancelled", "failed", "held", "gone"]


class Notice(PeerRequest):
    """A full assertion about one subject, placed by (epoch, seq) among all that the caller says to us.

    ``staged`` and ``cancelled`` (by the one who offers) and ``failed`` (by the one who takes) speak of a transfer:
    the subject is its uuid. ``held`` and ``gone`` speak of a file: the subject is its name.
    """

    seq: Place
    subject: str = Field(min_length=1, max_length=1024)
    state: NoticeState
    name: FileNameText
    size: Size
    checksum: ChecksumText | None
    #: Of ``held``: the store that holds it.
    store: Remark = ""
    #: Of ``held``: the transfer that the holder read from a drive, where it was one.
    transfer: Remark = ""
    code: Remark = ""
    reason: Remark = ""


class Notices(PeerRequest):
    """What the caller has to say, in the order of ``seq``."""

    site: SiteText
    epoch: Epoch
    notices: list[Notice] = Field(max_length=LIST_ITEMS)


class NoticeAnswer(Response):
    """What became of one notice.

    ``applied``; ``ignored``: something newer is known, or it changes nothing; ``later``: say it again;
    ``refused``: it will never be accepted.
    """

    seq: int
    answer: Literal["applied", "ignored", "later", "refused"]
    problem: Problem | None = None


class NoticeAnswers(Response):
    """Answers in the order of the notices, and how far we have heard the caller."""

    answers: list[NoticeAnswer]
    seen_epoch: Place
    seen_seq: Place


class AskStates(PeerRequest):
    """Which states do these transfers have with you?

    ``offered``: uuids of transfers that the caller offered to us; ``taken``: of transfers that we offered to it.
    """

    offered: list[Uuid] = Field(default_factory=list, max_length=LIST_ITEMS)
    taken: list[Uuid] = Field(default_factory=list, max_length=LIST_ITEMS)


class CloneState(Response):
    """A transfer between the caller and us."""

    uuid: str
    state: TransferState
    name: str
    size: int
    code: Remark | None = None
    reason: Remark | None = None


class CloneStates(Response):
    """The transfers that are known here; an absent uuid is unknown."""

    offered: list[CloneState]
    taken: list[CloneState]


class AskContent(PeerRequest):
    """What has arrived under these tokens?"""

    tokens: list[TokenText] = Field(max_length=LIST_ITEMS)


class StagedMember(Response):
    """Bytes that stand in staging; ``path`` is null for a payload that is a file."""

    path: str | None
    size: Size


class StagedContent(Response):
    """What has arrived under one token; a payload of which nothing has arrived has no members."""

    token: str
    members: list[StagedMember]


class StagedContents(Response):
    """Answers for the tokens that may be written; an absent token may not be."""

    contents: list[StagedContent]


class FrameTokens(PeerRequest):
    """The first line of a content stream: the tokens that its frames refer to by position."""

    tokens: list[TokenText] = Field(max_length=LIST_ITEMS)


class FrameHeader(PeerRequest):
    """The line before each frame's bytes."""

    #: Position in ``FrameTokens.tokens``.
    token: Annotated[int, Field(ge=0, lt=LIST_ITEMS)]
    #: The member; null for a payload that is a file, and for a frame of directories.
    path: str | None = None
    offset: Size = 0
    #: Bytes that follow the line.
    size: Size
    #: Make these directories of the book (and its top); ``size`` is 0 then.
    directories: list[str] | None = None


class FrameRefusal(Response):
    """A frame that was not written; the frames around it were."""

    token: str
    path: str | None
    problem: Problem


class ContentWritten(Response):
    """What became of a content stream."""

    frames: int
    bytes: int
    refused: list[FrameRefusal]
