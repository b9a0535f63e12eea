"""Clones: what other librarians offer us, tell us, ask us and send us."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from librarian import auth, guard, notices, verdicts
from librarian.errors import BadRequest, Forbidden, NotFound
from librarian.names import Token
from librarian.peers import SOON
from librarian.states import Role
from librarian.web import streams
from librarian.web.frames import ContentIntake, FrameReader, may_be_written, staged_content
from librarian.web.route import Answer, Body, Call, Query, Route
from librarian.wire.clones import (
    AskContent,
    AskStates,
    CloneState,
    CloneStates,
    ContentWritten,
    NoticeAnswers,
    Notices,
    OfferClones,
    StagedContent,
    StagedContents,
    StagedMember,
    Verdicts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from librarian.catalog.records import Incoming, Outgoing, Peer
    from librarian.catalog.transaction import Transaction

_UPSTREAM: Final = frozenset({Role.UPSTREAM})
_PEERS: Final = frozenset({Role.UPSTREAM, Role.CALLBACK})
#: A list of 4,096 offers with the longest names.
_LIST_BYTES: Final = 16 * 1024**2


async def _caller(tx: Transaction, call: Call[Body, Query]) -> Peer:
    """The peer that calls: its account carries its site's name.

    Raises
    ------
    Forbidden
        No peer has that name, or it is disabled.
    """
    peer = await tx.peers.find(call.caller.name)
    if peer is None:
        raise Forbidden(
            f"no peer of this site is called {call.caller.name!r}",
            remedy=f"An administrator of this site must run: peer add {call.caller.name}",
        )
    if not peer.is_enabled:
        raise Forbidden(f"the peer {peer.name} is disabled at this site", remedy="Its administrator can enable it.")
    for purpose in call.site.neighbours.heard_from(peer.name):
        call.site.bells.ring_in(timedelta(seconds=SOON), purpose)
    return peer


async def _peer_of(call: Call[Body, Query]) -> Peer:
    async with call.site.catalog.read() as tx:
        return await _caller(tx, call)


async def offer_clones(call: Call[OfferClones, None]) -> Answer:
    """Give a verdict on each offered clone. The same offer again gets the same verdicts."""
    peer = await _peer_of(call)
    lease = call.site.settings.clones.busy_lease
    answered = await verdicts.answer_offer(call.site, peer, call.body.clones, lease=lease)
    call.site.bells.ring("deliver")
    return Answer(body=Verdicts(verdicts=answered))


async def take_notices(call: Call[Notices, None]) -> Answer:
    """Apply what a peer tells, and answer for each notice. Saying it again changes nothing."""
    said = call.body
    if said.site != call.caller.name:
        raise BadRequest(
            f"the account {call.caller.name!r} speaks for the site {said.site!r}",
            remedy="A peer's account here must carry the name of its site.",
        )
    seqs = {notice.seq for notice in said.notices}
    if len(seqs) != len(said.notices):
        raise BadRequest("two notices carry the same number", remedy="Number every notice of a site once.")
    uuids = [notice.subject for notice in said.notices if notice.state in ("staged", "cancelled")]
    async with call.site.writers.hold_free(uuids) as free, call.site.catalog.begin() as tx:
        heard = await notices.hear(
            tx,
            peer=await _caller(tx, call),
            roles=auth.implied(call.caller.roles),
            said=said,
            in_use=set(uuids) - free,
        )
    guard.step("notice applied but unacknowledged")
    for bell in heard.bells:
        call.site.bells.ring(bell)
    return Answer(body=NoticeAnswers(answers=heard.answers, seen_epoch=heard.seen_epoch, seen_seq=heard.seen_seq))


async def tell_states(call: Call[AskStates, None]) -> Answer:
    """Say how transfers between the caller and us stand; what is not between us is unknown."""
    roles = auth.implied(call.caller.roles)
    async with call.site.catalog.read() as tx:
        peer = await _caller(tx, call)
        offered = await tx.incoming.with_uuids(call.body.offered, peer_id=peer.id) if Role.UPSTREAM in roles else ()
        taken = await tx.outgoing.known(peer.id, call.body.taken) if Role.CALLBACK in roles else ()
    return Answer(body=CloneStates(offered=_states(offered), taken=_states(taken)))


def _states(transfers: Iterable[Incoming | Outgoing]) -> list[CloneState]:
    return [_state(transfer) for transfer in transfers]


def _state(transfer: Incoming | Outgoing) -> CloneState:
    return CloneState(
        uuid=transfer.uuid,
        state=transfer.state,
        name=transfer.name,
        size=transfer.size,
        code=transfer.code,
        reason=transfer.reason,
    )


async def describe_clone(call: Call[None, None]) -> Answer:
    """Say how one transfer between the caller and us stands."""
    uuid = call.request.match_info["uuid"]
    roles = auth.implied(call.caller.roles)
    async with call.site.catalog.read() as tx:
        peer = await _caller(tx, call)
        found: list[Incoming | Outgoing] = []
        if Role.UPSTREAM in roles:
            found += await tx.incoming.with_uuids([uuid], peer_id=peer.id)
        if Role.CALLBACK in roles:
            found += await tx.outgoing.known(peer.id, [uuid])
    if not found:
        raise NotFound("there is no such transfer between us", remedy="A site may only ask about its own transfers.")
    return Answer(body=_state(found[0]))


async def tell_content(call: Call[AskContent, None]) -> Answer:
    """Say what has arrived under the caller's tokens, so that it can go on in the middle of a member."""
    async with call.site.catalog.read() as tx:
        peer = await _caller(tx, call)
        rows = await tx.incoming.with_tokens([Token(token) for token in call.body.tokens])
    mine = [row for row in rows if may_be_written(call.site, row, peer)]
    found = await staged_content(call.site, mine)
    return Answer(
        body=StagedContents(
            contents=[
                StagedContent(
                    token=token, members=[StagedMember(path=path, size=size) for path, size in members.items()]
                )
                for token, members in found.items()
            ]
        )
    )


async def take_content(call: Call[None, None]) -> Answer:
    """Write a framed stream into the staging of clones that were accepted for the caller."""
    peer = await _peer_of(call)
    intake = ContentIntake(call.site, peer, FrameReader(streams.incoming(call.request)))
    return Answer(body=await intake.receive())


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/api/v1/clones",
        handler=offer_clones,
        summary="Offer clones: a verdict for each",
        roles=_UPSTREAM,
        body=OfferClones,
        answer=Verdicts,
        body_limit=_LIST_BYTES,
        tag="clones",
    ),
    Route(
        method="POST",
        path="/api/v1/clones/notices",
        handler=take_notices,
        summary="Tell what has become of transfers and files",
        roles=_PEERS,
        body=Notices,
        answer=NoticeAnswers,
        body_limit=_LIST_BYTES,
        tag="clones",
    ),
    Route(
        method="POST",
        path="/api/v1/clones/states",
        handler=tell_states,
        summary="Ask how transfers between us stand",
        roles=_PEERS,
        body=AskStates,
        answer=CloneStates,
        tag="clones",
    ),
    Route(
        method="POST",
        path="/api/v1/clones/content",
        handler=take_content,
        summary="Send a framed stream of content into staging (the http engine)",
        roles=_UPSTREAM,
        streams=True,
        answer=ContentWritten,
        tag="clones",
    ),
    Route(
        method="POST",
        path="/api/v1/clones/content/state",
        handler=tell_content,
        summary="Ask what has arrived, to go on from there",
        roles=_UPSTREAM,
        body=AskContent,
        answer=StagedContents,
        tag="clones",
    ),
    Route(
        method="GET",
        path="/api/v1/clones/{uuid}",
        handler=describe_clone,
        summary="How one transfer between us stands",
        roles=_PEERS,
        answer=CloneState,
        refusals=(NotFound,),
        tag="clones",
    ),
)
