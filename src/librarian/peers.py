"""Our neighbours: how other librarians are called, and what is known about reaching them.

Credentials rest encrypted in the catalog, under keys in a file that only the server's user may read. Nothing here
decides what is said; see ``tasks/send.py``, ``tasks/deliver.py`` and ``web/clones.py``.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import TypeAdapter
from pydantic_core import to_json

from librarian import entry_points
from librarian.client.address import Address
from librarian.client.answers import LISTING_BYTES, error_of, read_answer
from librarian.client.connection import Connection
from librarian.errors import BadRequest, LibrarianError, PeerUnavailable, Unauthenticated
from librarian.guard import forbid_io_in_transaction
from librarian.keys import Secrets
from librarian.mailboxes import Mailboxes
from librarian.settings import is_loopback
from librarian.states import Reach
from librarian.timing import retry_delay, utc_now
from librarian.wire.checkup import AskCallback, AskProbe, AskProbeRead
from librarian.wire.clones import (
    AskContent,
    AskStates,
    CloneStates,
    ContentWritten,
    NoticeAnswers,
    Notices,
    OfferClones,
    StagedContents,
    Verdicts,
)
from librarian.wire.inbox import (
    CALLBACK,
    CREDENTIALS,
    INBOX_SECONDS,
    NOTICES,
    OFFER,
    PROBE,
    PROBE_READ,
    SITE,
    STATES,
    A,
    Inbox,
    InboxAnswer,
    InboxAnswered,
    InboxAnswers,
    Q,
    Topic,
)
from librarian.wire.peers import AskSite, OfferedSite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from librarian.catalog.database import Catalog
    from librarian.catalog.records import Peer
    from librarian.names import SiteName, StoreName, Token
    from librarian.wire.checkup import CalledBack, ProbeRead, ProbeStaged
    from librarian.wire.peers import Credentials, CredentialsTaken

#: No rest after failed calls is longer: one request a minute costs nothing, and a link that returns is used at once.
LONGEST_REST: Final = timedelta(minutes=1)
#: A peer that is silent for this long is away; its verdicts on thousands of files take less than a second.
SILENCE: Final = timedelta(seconds=30)
#: No answer but to a stream of bytes takes longer, however little of it comes at a time.
LONGEST_ANSWER: Final = timedelta(minutes=5)
#: While bytes arrive, a peer may be busy writing them for this long before it answers.
CONTENT_SILENCE: Final = timedelta(minutes=5)
#: How soon a peer that was away is called once it has called us, in seconds.
SOON: Final = 0.5
CONNECTIONS: Final = 12
_NO_LIBRARIAN: Final = "Check that the peer's URL leads to a librarian, and its version."
#: Epochs are instants by our clock, which may have been ahead by so much when one began that we know no more of.
CLOCK_ERROR: Final = timedelta(days=366)


@dataclass(frozen=True, kw_only=True)
class _Rest:
    failures: int
    ends_at: float
    why: str
    #: When the first of these calls failed.
    since: datetime


class Neighbours:
    """The other librarians, as far as calling them goes. One per site; close it at the end."""

    def __init__(self, *, catalog: Catalog, site: SiteName, key_file: Path) -> None:
        self._catalog = catalog
        self._site = site
        self.secrets = Secrets(key_file)
        self._lines: dict[SiteName, Connection] = {}
        self._rests: dict[tuple[SiteName, str], _Rest] = {}
        self._checked: dict[SiteName, float] = {}
        self._polled: dict[SiteName, bool] = {}
        self.mailboxes = Mailboxes()
        self._opening: defaultdict[SiteName, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def close(self) -> None:
        """Close every connection. A repeat does nothing."""
        lines, self._lines = self._lines, {}
        for line in lines.values():
            await line.close()

    async def forget(self, peer: SiteName) -> None:
        """Where or as whom *peer* is called has changed."""
        self.rest_no_more(peer)
        line = self._lines.pop(peer, None)
        if line is not None:
            await line.close()

    def rest_no_more(self, peer: SiteName) -> None:
        """Somebody has changed something about *peer*: calls that failed are tried again. What is open stays open."""
        self._rests = {key: rest for key, rest in self._rests.items() if key[0] != peer}
        self._checked.pop(peer, None)
        self._polled.pop(peer, None)

    @property
    def requests(self) -> int:
        """Requests sent so far over the connections that are open; for benchmarks and tests."""
        return sum(line.requests for line in self._lines.values())

    # What is known about reaching them.

    def is_resting(self, peer: SiteName, purpose: str) -> bool:
        """Whether the last calls for *purpose* failed so recently that we wait."""
        rest = self._rests.get((peer, purpose))
        return rest is not None and time.monotonic() < rest.ends_at

    def failed(self, peer: SiteName, purpose: str, error: LibrarianError) -> timedelta:
        """A call for *purpose* failed; returns how long to wait (the first time at most a second)."""
        before = self._rests.get((peer, purpose))
        failures = (before.failures if before else 0) + 1
        delay = retry_delay(failures, cap=LONGEST_REST)
        self._rests[peer, purpose] = _Rest(
            failures=failures,
            ends_at=time.monotonic() + delay.total_seconds(),
            why=error.message,
            since=before.since if before else utc_now(),
        )
        return delay

    def worked(self, peer: SiteName, purpose: str) -> None:
        """A call for *purpose* succeeded."""
        self._rests.pop((peer, purpose), None)

    def heard_from(self, peer: SiteName) -> list[str]:
        """*peer* has called us, so it is there: nothing need rest; returns the purposes that did."""
        purposes = [purpose for name, purpose in self._rests if name == peer]
        for purpose in purposes:
            rest = self._rests[peer, purpose]
            # The failures still count: a peer that calls us while it answers nonsense is not asked at full speed.
            self._rests[peer, purpose] = replace(rest, ends_at=min(rest.ends_at, time.monotonic() + SOON))
        return purposes

    def trouble_of(self, peer: SiteName) -> str | None:
        """Why the last call to *peer* failed, or None."""
        return next((rest.why for (name, _), rest in sorted(self._rests.items()) if name == peer), None)

    def in_trouble_since(self, peer: SiteName) -> datetime | None:
        """When the first of the calls failed that *peer* has not answered since, or None."""
        return min((rest.since for (name, _), rest in self._rests.items() if name == peer), default=None)

    # What is said to them. Every call may be repeated.

    async def offer(self, peer: SiteName, offer: OfferClones) -> Verdicts:
        """Offer clones; one verdict for each, in order.

        Raises
        ------
        LibrarianError
            PeerUnavailable when there is no sensible answer; else what the peer says.
        """
        verdicts = await self._ask(peer, OFFER, offer)
        if [v.uuid for v in verdicts.verdicts] != [clone.uuid for clone in offer.clones]:
            raise PeerUnavailable(
                f"{peer} answered with verdicts on other transfers than were offered", remedy=_NO_LIBRARIAN
            )
        return verdicts

    async def notify(self, peer: SiteName, notices: Notices) -> NoticeAnswers:
        """Tell what has become of transfers and files; one answer for each notice, in order."""
        answers = await self._ask(peer, NOTICES, notices)
        if [a.seq for a in answers.answers] != [notice.seq for notice in notices.notices]:
            raise PeerUnavailable(f"{peer} answered other notices than were sent", remedy=_NO_LIBRARIAN)
        if answers.seen_epoch > max(notices.epoch, int((utc_now() + CLOCK_ERROR).timestamp() * 1000)):
            # Were it believed, we would have to go beyond it, with every other peer as well, until none is left.
            raise PeerUnavailable(
                f"{peer} says that it has heard of us in the epoch {answers.seen_epoch}, which cannot be",
                remedy="Check what that site answers; nothing that it says is believed.",
            )
        return answers

    async def states(self, peer: SiteName, question: AskStates) -> CloneStates:
        """Ask which states transfers between us have with *peer*."""
        return await self._ask(peer, STATES, question)

    async def tell_credentials(self, peer: SiteName, said: Credentials) -> CredentialsTaken:
        """Propose new passwords to *peer*, over the line that knows the present one."""
        return await self._ask(peer, CREDENTIALS, said)

    async def ask_callback(self, peer: SiteName) -> CalledBack:
        """Let *peer* call us, and say whether that worked."""
        return await self._ask(peer, CALLBACK, AskCallback())

    async def ask_probe(self, peer: SiteName, store: StoreName, *, size: int) -> ProbeStaged:
        """Let *peer* make staging for a probe of *size* bytes on its *store*."""
        return await self._ask(peer, PROBE, AskProbe(store=store, size=size))

    async def read_probe(self, peer: SiteName, token: str) -> ProbeRead:
        """Let *peer* read and remove the probe that was brought under *token*."""
        return await self._ask(peer, PROBE_READ, AskProbeRead(token=token))

    async def _ask(self, peer: SiteName, topic: Topic[Q, A], question: Q) -> A:
        """Say *question* to *peer*: by a call, or, where we cannot call it, through its inbox here."""
        forbid_io_in_transaction("ask a peer")
        if await self._fetches(peer):
            answer = await self.mailboxes[peer].ask(topic.name, question)
            return read_inbox_answer(answer, topic.answer, peer=peer)
        body = None if topic.method == "GET" else question
        async with _patience(peer):
            line = await self._line(peer)
            return await line.request(
                topic.method, topic.path, answer=topic.answer, body=body, repeats=False, silence=SILENCE
            )

    # What they have to say where they cannot call us.

    async def fetch(self, peer: SiteName, *, after: int) -> Inbox:
        """What waits for us in our inbox at *peer*, behind *after*; while there is nothing, wait for it."""
        async with _patience(peer):
            line = await self._line(peer)
            return await line.request(
                "GET",
                "/clones/inbox",
                answer=Inbox,
                query={"after": str(after), "wait": str(INBOX_SECONDS)},
                silence=timedelta(seconds=INBOX_SECONDS) + SILENCE,
                answer_bytes=LISTING_BYTES,
            )

    async def answer(self, peer: SiteName, answers: InboxAnswers) -> InboxAnswered:
        """Answer what waited for us at *peer*. A repeat does nothing there."""
        async with _patience(peer):
            line = await self._line(peer)
            return await line.request(
                "POST", "/clones/inbox/answers", answer=InboxAnswered, body=answers, repeats=True, silence=SILENCE
            )

    # Bytes, which only a call can carry.

    async def staged_content(self, peer: SiteName, tokens: Sequence[Token]) -> StagedContents:
        """Ask what has arrived under *tokens*."""
        line = await self._line(peer)
        return await line.request(
            "POST",
            "/clones/content/state",
            answer=StagedContents,
            body=AskContent(tokens=list(tokens)),
            repeats=False,
            silence=SILENCE,
            answer_bytes=LISTING_BYTES,
        )

    async def send_content(self, peer: SiteName, chunks: AsyncIterator[bytes]) -> ContentWritten:
        """Send one content stream; docs/explanation/between-sites.md has its form."""
        line = await self._line(peer)
        return await line.stream_up(
            "POST",
            "/clones/content",
            chunks,
            answer=ContentWritten,
            silence=CONTENT_SILENCE,
            answer_bytes=LISTING_BYTES,
        )

    async def look_at(self, *, url: str, username: str, password: str, authority: str | None = None) -> OfferedSite:
        """What the site at *url* says about itself to our account there; *authority* as in ``Address``."""
        address = Address.parse(url, user=username, password=password, authority=authority)
        async with Connection(address, patience=timedelta(0)) as connection:
            return await connection.request("GET", "/site", answer=OfferedSite, silence=SILENCE)

    async def look_again(self, peer: SiteName) -> OfferedSite:
        """What *peer* says about itself now."""
        return await self._ask(peer, SITE, AskSite())

    async def has_changed(self, peer: Peer, *, every: timedelta) -> bool:
        """Whether *peer* offers entry points that were not pinned; asked at most once in *every*."""
        last = self._checked.get(peer.name)
        if last is not None and time.monotonic() - last < every.total_seconds():
            return False
        offered = await self.look_again(peer.name)
        self._checked[peer.name] = time.monotonic()
        return entry_points.is_changed(peer.entry_points, offered=await entry_points.usable(offered))

    async def _fetches(self, peer: SiteName) -> bool:
        """Whether *peer* fetches what we have to say, since we cannot call it."""
        if peer not in self._polled:
            async with self._catalog.read() as tx:
                self._polled[peer] = (await tx.peers.get(peer)).reach is Reach.POLL
        return self._polled[peer]

    async def _line(self, peer: SiteName) -> Connection:
        forbid_io_in_transaction("call a peer")
        line = self._lines.get(peer)
        if line is not None:
            return line
        # One for each peer: a new password is tried meanwhile, which takes as long as the peer pleases.
        async with self._opening[peer]:
            return await self._open_line(peer)

    async def _open_line(self, peer: SiteName) -> Connection:
        line = self._lines.get(peer)
        if line is not None:
            return line
        async with self._catalog.read() as tx:
            known = await tx.peers.get(peer)
            if known.reach is Reach.POLL:
                raise PeerUnavailable(
                    f"{peer} cannot be called from here; it fetches what waits for it",
                    remedy="Use an engine that needs no call to it, such as 'globus' or 'local'.",
                )
            secret, prepared = await tx.peers.secrets_of(known.id)
            authority = await tx.peers.authority_of(known.id)
        line = None if prepared is None else await self._try(known, prepared, authority=authority)
        self._lines[peer] = line or await self._connect(known, secret, authority=authority)
        return self._lines[peer]

    async def _connect(self, peer: Peer, secret: bytes, *, authority: str | None) -> Connection:
        password = self.secrets.decrypt(secret)
        address = Address.parse(peer.url, user=peer.username, password=password, authority=authority)
        connection = Connection(address, patience=timedelta(0), connections=CONNECTIONS)
        await connection.__aenter__()
        return connection

    async def _try(self, peer: Peer, prepared: bytes, *, authority: str | None) -> Connection | None:
        """A connection with the password that is to be the next; None when *peer* does not know it (yet)."""
        line = await self._connect(peer, prepared, authority=authority)
        try:
            await line.request("GET", SITE.path, answer=OfferedSite, silence=SILENCE)
        except Unauthenticated:
            await line.close()
            return None
        except BaseException:
            await line.close()
            raise
        async with self._catalog.begin() as tx:
            await tx.peers.promote_secret(peer.id, prepared)
        return line


@asynccontextmanager
async def _patience(peer: SiteName) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(LONGEST_ANSWER.total_seconds()):
            yield
    except TimeoutError as error:
        raise PeerUnavailable(
            f"{peer} had not answered in full after {LONGEST_ANSWER}", remedy="Check the network, and that site's log."
        ) from error


def read_inbox_answer(answer: InboxAnswer, kind: type[A], *, peer: SiteName) -> A:
    """What *answer*, which *peer* gave to an item of its inbox, says; raises as if it had answered a call."""
    if answer.problem is not None:
        raise error_of(answer.problem, status=400)
    return read_answer(to_json(answer.body), TypeAdapter(kind), url=f"{peer}, by our inbox,")


def require_tls(url: str, *, allow_plaintext: bool) -> None:
    """Passwords and data must not cross a network in the clear, unless the settings say so in so many words.

    Raises
    ------
    BadRequest
        *url* is neither https nor loopback, and the word was not said.
    """
    parts = urlsplit(url)
    if parts.scheme == "http" and not (allow_plaintext or is_loopback(parts.hostname or "")):
        raise BadRequest(
            f"{url} is neither https nor loopback, and our password there would travel in the clear",
            remedy="Give the peer's https URL, or say 'allow_plaintext = true' in the settings if that is meant.",
        )
