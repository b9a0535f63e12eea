"""Clones: what other librarians offer us, tell us, ask us and send us."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian import auth, hearing
from librarian.errors import NotFound
from librarian.names import Token
from librarian.states import Role
from librarian.web import streams
from librarian.web.frames import ContentIntake, FrameReader, may_be_written, staged_content
from librarian.web.route import Answer, Call, Route
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
    from librarian.catalog.records import Incoming, Outgoing

#: A list of 4,096 offers with the longest names.
LIST_BYTES: Final = 16 * 1024**2


async def offer_clones(call: Call[OfferClones, None]) -> Answer:
    """Give a verdict on each offered clone. The same offer again gets the same verdicts."""
    return Answer(body=await hearing.take_offer(call.site, call.caller, call.body))


async def take_notices(call: Call[Notices, None]) -> Answer:
    """Apply what a peer tells, and answer for each notice. Saying it again changes nothing."""
    return Answer(body=await hearing.take_notices(call.site, call.caller, call.body))


async def tell_states(call: Call[AskStates, None]) -> Answer:
    """Say how transfers between the caller and us stand; what is not between us is unknown."""
    return Answer(body=await hearing.tell_states(call.site, call.caller, call.body))


async def describe_clone(call: Call[None, None]) -> Answer:
    """Say how one transfer between the caller and us stands."""
    uuid = call.request.match_info["uuid"]
    roles = auth.implied(call.caller.roles)
    async with call.site.catalog.read() as tx:
        peer = await hearing.peer_of(tx, call.site, call.caller)
        found: list[Incoming | Outgoing] = []
        if Role.UPSTREAM in roles:
            found += await tx.incoming.with_uuids([uuid], peer_id=peer.id)
        if Role.CALLBACK in roles:
            found += await tx.outgoing.known(peer.id, [uuid])
    if not found:
        raise NotFound("there is no such transfer between us", remedy="A site may only ask about its own transfers.")
    return Answer(body=hearing.state_of(found[0]))


async def tell_content(call: Call[AskContent, None]) -> Answer:
    """Say what has arrived under the caller's tokens, so that it can go on in the middle of a member."""
    async with call.site.catalog.read() as tx:
        peer = await hearing.peer_of(tx, call.site, call.caller)
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
    async with call.site.catalog.read() as tx:
        peer = await hearing.peer_of(tx, call.site, call.caller)
    intake = ContentIntake(call.site, peer, FrameReader(streams.incoming(call.request)))
    return Answer(body=await intake.receive())


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/api/v1/clones",
        handler=offer_clones,
        summary="Offer clones: a verdict for each",
        roles=hearing.SENDERS,
        body=OfferClones,
        answer=Verdicts,
        body_limit=LIST_BYTES,
        tag="clones",
    ),
    Route(
        method="POST",
        path="/api/v1/clones/notices",
        handler=take_notices,
        summary="Tell what has become of transfers and files",
        roles=hearing.PEERS,
        body=Notices,
        answer=NoticeAnswers,
        body_limit=LIST_BYTES,
        tag="clones",
    ),
    Route(
        method="POST",
        path="/api/v1/clones/states",
        handler=tell_states,
        summary="Ask how transfers between us stand",
        roles=hearing.PEERS,
        body=AskStates,
        answer=CloneStates,
        tag="clones",
    ),
    Route(
        method="POST",
        path="/api/v1/clones/content",
        handler=take_content,
        summary="Send a framed stream of content into staging (the http engine)",
        roles=hearing.SENDERS,
        streams=True,
        answer=ContentWritten,
        tag="clones",
    ),
    Route(
        method="POST",
        path="/api/v1/clones/content/state",
        handler=tell_content,
        summary="Ask what has arrived, to go on from there",
        roles=hearing.SENDERS,
        body=AskContent,
        answer=StagedContents,
        tag="clones",
    ),
    Route(
        method="GET",
        path="/api/v1/clones/{uuid}",
        handler=describe_clone,
        summary="How one transfer between us stands",
        roles=hearing.PEERS,
        answer=CloneState,
        refusals=(NotFound,),
        tag="clones",
    ),
)
