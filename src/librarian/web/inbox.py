"""The inbox: what waits here for a peer that we cannot call. Each peer reads its own, and only its answers count."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from aiohttp import web

from librarian import hearing
from librarian.web.clones import LIST_BYTES
from librarian.web.route import Answer, Call, Route
from librarian.wire.inbox import Inbox, InboxAnswered, InboxAnswers, InboxQuery

if TYPE_CHECKING:
    from librarian.wire.inbox import InboxItem

#: How long the inbox waits for news, at most, whatever its reader wants.
LONGEST_WAIT: Final = web.AppKey("LONGEST_WAIT", timedelta)
#: A server that goes down does not wait for its readers longer than this.
_LOOK_UP: Final = timedelta(seconds=1)


async def read_inbox(call: Call[None, InboxQuery]) -> Answer:
    """What waits for the caller. Reading changes nothing; what is not answered is there again."""
    async with call.site.catalog.read() as tx:
        peer = await hearing.peer_of(tx, call.site, call.caller)
    mailbox = call.site.neighbours.mailboxes[peer.name]
    patience = min(timedelta(seconds=call.query.wait), call.request.app[LONGEST_WAIT])
    ends_at = time.monotonic() + patience.total_seconds()
    items: list[InboxItem] = []
    while not items:
        left = timedelta(seconds=max(0.0, ends_at - time.monotonic()))
        items = await mailbox.read(after=call.query.after, wait=min(left, _LOOK_UP))
        has_left = call.request.transport is None
        if not left or has_left or call.site.health.is_draining:
            break
    return Answer(body=Inbox(items=items))


async def take_answers(call: Call[InboxAnswers, None]) -> Answer:
    """Give the caller's answers to whoever waits for them here. A repeat does nothing."""
    async with call.site.catalog.read() as tx:
        peer = await hearing.peer_of(tx, call.site, call.caller)
    mailbox = call.site.neighbours.mailboxes[peer.name]
    return Answer(body=InboxAnswered(taken=[each.seq for each in call.body.answers if mailbox.answer(each)]))


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/api/v1/clones/inbox",
        handler=read_inbox,
        summary="Fetch what the site has to say to a peer that it cannot call",
        roles=hearing.PEERS,
        query=InboxQuery,
        answer=Inbox,
        tag="clones",
    ),
    Route(
        method="POST",
        path="/api/v1/clones/inbox/answers",
        handler=take_answers,
        summary="Answer what was fetched",
        roles=hearing.PEERS,
        body=InboxAnswers,
        answer=InboxAnswered,
        body_limit=LIST_BYTES,
        tag="clones",
    ),
)
