"""The inbox: what waits for a peer that we cannot call, and that fetches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Generic, TypeVar

from pydantic import BaseModel, Field, JsonValue

from librarian.wire.base import BIGGEST, PeerRequest, Query, Response
from librarian.wire.checkup import AskCallback, AskProbe, AskProbeRead, CalledBack, ProbeRead, ProbeStaged
from librarian.wire.clones import AskStates, CloneStates, NoticeAnswers, Notices, OfferClones, Verdicts
from librarian.wire.peers import AskSite, Credentials, CredentialsTaken, OfferedSite
from librarian.wire.problems import Problem

Q = TypeVar("Q", bound=BaseModel)
A = TypeVar("A", bound=BaseModel)

#: The most items in one answer of the inbox.
INBOX_ITEMS: Final = 16
#: The longest that the inbox waits for news, in seconds; below the patience of common proxies.
INBOX_SECONDS: Final = 25

Seq = Annotated[int, Field(ge=0, le=BIGGEST)]


@dataclass(frozen=True)
class Topic(Generic[Q, A]):
    """One thing that sites say to each other: a request where we call the peer, an item of its inbox else."""

    name: str
    method: str
    #: Below ``/api/v1``.
    path: str
    question: type[Q]
    answer: type[A]


OFFER: Final = Topic("offer", "POST", "/clones", OfferClones, Verdicts)
NOTICES: Final = Topic("notices", "POST", "/clones/notices", Notices, NoticeAnswers)
STATES: Final = Topic("states", "POST", "/clones/states", AskStates, CloneStates)
SITE: Final = Topic("site", "GET", "/site", AskSite, OfferedSite)


CREDENTIALS: Final = Topic("credentials", "POST", "/clones/credentials", Credentials, CredentialsTaken)

CALLBACK: Final = Topic("callback", "POST", "/clones/callback", AskCallback, CalledBack)
PROBE: Final = Topic("probe", "POST", "/clones/probe", AskProbe, ProbeStaged)
PROBE_READ: Final = Topic("probe_read", "POST", "/clones/probe/read", AskProbeRead, ProbeRead)


class InboxQuery(Query):
    """What of the inbox is wanted."""

    after: Seq = Field(default=0, description="Only items with a greater seq: those up to it are answered.")
    wait: int = Field(default=0, ge=0, le=INBOX_SECONDS, description="Seconds to wait while there is nothing.")


class InboxItem(Response):
    """Something that we have to say to the caller; it waits here until it is answered."""

    seq: Seq
    topic: str = Field(description="'offer', 'notices', 'states' or 'site'; a newer site may have more.")
    body: dict[str, JsonValue] = Field(description="What would be the body, could we call the caller.")


class Inbox(Response):
    """What waits, in the order of ``seq``."""

    items: list[InboxItem] = Field(max_length=INBOX_ITEMS)


class InboxAnswer(PeerRequest):
    """The answer to one item: the body of what would be the answer, or a refusal."""

    seq: Seq
    body: dict[str, JsonValue] | None = None
    problem: Problem | None = None


class InboxAnswers(PeerRequest):
    """Answers to items of the inbox."""

    answers: list[InboxAnswer] = Field(max_length=INBOX_ITEMS)


class InboxAnswered(Response):
    """Which of the answers were still waited for; the others were given before, or come too late."""

    taken: list[int]
