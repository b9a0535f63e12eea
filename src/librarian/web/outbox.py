"""Notices that were set aside: shown, said again, or dropped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from librarian import outcomes
from librarian.catalog.records import Happening
from librarian.errors import BadRequest, NotFound
from librarian.quantities import counted
from librarian.states import Role
from librarian.web.route import Answer, Call, Route
from librarian.wire.outbox import NoticesSteered, SetAsideList, SetAsideNotice, SetAsideQuery, SteerNotices

if TYPE_CHECKING:
    from librarian.catalog.outbox import Untold

_ADMIN: Final = frozenset({Role.ADMIN})


async def list_set_aside(call: Call[None, SetAsideQuery]) -> Answer:
    """Notices that peers refuse for good, oldest first."""
    query = call.query
    async with call.site.catalog.read() as tx:
        peer = None if query.peer is None else (await tx.peers.get(query.peer)).id
        found = await tx.outbox.set_aside_ones(after=query.after, peer=peer, limit=query.limit)
    return Answer(body=SetAsideList(notices=[_describe(note) for note in found]))


def _describe(note: Untold) -> SetAsideNotice:
    return SetAsideNotice(
        id=note.id,
        peer=note.peer,
        state=note.state,
        subject=note.subject,
        name=json.loads(note.body)["name"],
        reason=note.set_aside_because or "",
        created_at=note.created_at,
    )


async def retry_notices(call: Call[SteerNotices, None]) -> Answer:
    """Say notices again that were set aside, and then what waits behind them."""
    return await _steer(call, is_retry=True)


async def drop_notices(call: Call[SteerNotices, None]) -> Answer:
    """Never say notices that were set aside; what waits behind them is said."""
    return await _steer(call, is_retry=False)


async def _steer(call: Call[SteerNotices, None], *, is_retry: bool) -> Answer:
    body = call.body
    if not body.ids and body.peer is None and not body.all:
        raise BadRequest("nothing says which notices", remedy="Give 'ids', 'peer' or 'all'.")
    async with call.site.catalog.begin() as tx:
        peer = None if body.peer is None else (await tx.peers.get(body.peer)).id
        count = await tx.outbox.count_set_aside(ids=body.ids, peer=peer)
        if body.ids and count < len(set(body.ids)):
            raise NotFound("not all of these notices are set aside", remedy="See 'notice list' for their ids.")
        if not body.dry_run:
            steer = tx.outbox.say_again if is_retry else tx.outbox.drop
            await steer(ids=body.ids, peer=peer)
            if not is_retry:
                await outcomes.notices_heard(tx, await tx.peers.all())
            done = "said again" if is_retry else "dropped"
            what = counted(count, f"notice was {done}", f"notices were {done}")
            subject = "site" if body.peer is None else f"peer:{body.peer}"
            await tx.events.tell([Happening(subject=subject, what=what, who=call.caller.name)])
    call.site.bells.ring("deliver")
    return Answer(body=NoticesSteered(notices=count, is_dry_run=body.dry_run))


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/api/v1/notices",
        handler=list_set_aside,
        summary="Notices that peers refuse for good",
        roles=_ADMIN,
        query=SetAsideQuery,
        answer=SetAsideList,
        refusals=(NotFound,),
        tag="peers",
    ),
    Route(
        method="POST",
        path="/api/v1/notices/retry",
        handler=retry_notices,
        summary="Say notices again that were set aside",
        roles=_ADMIN,
        body=SteerNotices,
        answer=NoticesSteered,
        refusals=(NotFound,),
        tag="peers",
    ),
    Route(
        method="POST",
        path="/api/v1/notices/drop",
        handler=drop_notices,
        summary="Never say notices that were set aside",
        roles=_ADMIN,
        body=SteerNotices,
        answer=NoticesSteered,
        refusals=(NotFound,),
        tag="peers",
    ),
)
