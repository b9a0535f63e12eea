"""Mailboxes: what waits for peers that we cannot call, until they fetch and answer it.

Nothing is kept here that the catalog does not know: whoever asks waits for the answer, and asks anew later when none
comes. A restart forgets every letter and writes it again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from librarian.errors import PeerUnavailable
from librarian.timing import utc_now
from librarian.wire.inbox import INBOX_ITEMS, InboxAnswer, InboxItem

if TYPE_CHECKING:
    from datetime import datetime

    from pydantic import BaseModel

    from librarian.names import SiteName

#: A letter that is not fetched for this long is taken back; it is written again when the peer shows up.
UNFETCHED: Final = timedelta(seconds=30)
#: A letter that was fetched is answered within this time, or written again.
UNANSWERED: Final = timedelta(seconds=60)


@dataclass(eq=False)
class _Letter:
    item: InboxItem
    answered: asyncio.Future[InboxAnswer]
    limit: asyncio.Timeout | None = None

    def fetched(self) -> None:
        """The peer has it now: it gets time to answer."""
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time() + UNANSWERED.total_seconds())


class Mailbox:
    """What waits for one peer, in the order in which it was said."""

    def __init__(self, peer: SiteName) -> None:
        self._peer = peer
        self._letters: dict[int, _Letter] = {}
        self._readers: set[asyncio.Future[None]] = set()
        self._last_seq = 0
        #: When the peer last looked; None: not since this process started.
        self.read_at: datetime | None = None

    async def ask(self, topic: str, question: BaseModel) -> InboxAnswer:
        """Leave *question* until the peer has answered it.

        Raises
        ------
        PeerUnavailable
            It was not fetched, or not answered, in time.
        """
        # By the clock, so that a peer's place in the inbox of before a restart lies before everything of after it.
        self._last_seq = max(self._last_seq + 1, time.time_ns() // 1000)
        item = InboxItem(seq=self._last_seq, topic=topic, body=question.model_dump(mode="json", exclude_none=True))
        letter = _Letter(item, asyncio.get_running_loop().create_future())
        self._letters[item.seq] = letter
        try:
            async with asyncio.timeout(UNFETCHED.total_seconds()) as letter.limit:
                self._wake()
                return await letter.answered
        except TimeoutError as error:
            raise PeerUnavailable(
                f"{self._peer} has not fetched and answered what waits for it here",
                remedy=f"See whether the librarian of {self._peer} runs and can reach this site.",
            ) from error
        finally:
            del self._letters[item.seq]

    async def read(self, *, after: int, wait: timedelta) -> list[InboxItem]:
        """What waits behind *after*, at most ``INBOX_ITEMS``; while there is nothing, up to *wait* is waited."""
        ends_at = time.monotonic() + wait.total_seconds()
        while True:
            self.read_at = utc_now()
            found = [letter for seq, letter in self._letters.items() if seq > after][:INBOX_ITEMS]
            left = ends_at - time.monotonic()
            if found or left <= 0:
                for letter in found:
                    letter.fetched()
                return [letter.item for letter in found]
            await self._news(left)

    def take_back(self) -> None:
        """Whoever waits for an answer gets none: the process goes down, and asks anew at its next start."""
        for letter in self._letters.values():
            if not letter.answered.done():
                letter.answered.set_exception(_going_down())

    def answer(self, answer: InboxAnswer) -> bool:
        """Give *answer* to whoever waits for it; whether somebody still did."""
        letter = self._letters.get(answer.seq)
        if letter is None or letter.answered.done():
            return False
        letter.answered.set_result(answer)
        return True

    async def _news(self, patience: float) -> None:
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers.add(news)
        try:
            await asyncio.wait((news,), timeout=patience)
        finally:
            self._readers.discard(news)

    def _wake(self) -> None:
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)


def _going_down() -> PeerUnavailable:
    return PeerUnavailable("the server is going down", remedy="It is asked again at the next start.")


class Mailboxes(dict["SiteName", Mailbox]):
    """One mailbox per peer, made when it is first needed."""

    def take_back(self) -> None:
        """End every wait for an answer: it may come in weeks, and an end must not wait for it."""
        for mailbox in self.values():
            mailbox.take_back()

    def __missing__(self, peer: SiteName) -> Mailbox:
        """The mailbox of a peer for which nothing waited so far."""
        self[peer] = Mailbox(peer)
        return self[peer]
