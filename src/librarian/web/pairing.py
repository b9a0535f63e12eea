"""Pairing: invitations, and what two sites say to each other before they have accounts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from aiohttp import web

from librarian import joining, pairing
from librarian.doors import Throttle
from librarian.errors import BadRequest, Conflict, Forbidden, NotFound, PeerUnavailable, Throttled
from librarian.names import SiteName
from librarian.states import Role
from librarian.web.around import ADDRESSES
from librarian.web.peers import description_of
from librarian.web.route import Answer, Body, Call, Route
from librarian.wire.pairing import Confirm, Confirmed, Invite, Invited, Join, Knocked, Redeem, Terms
from librarian.wire.peers import PeerDescription

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

#: Wrong secrets, by the address that they come from.
GUESSES: Final = web.AppKey("GUESSES", Throttle)
_ADMIN: Final = frozenset({Role.ADMIN})
_ANYBODY: Final[frozenset[Role]] = frozenset()
_BODY_BYTES: Final = 1024**2


async def invite(call: Call[Invite, None]) -> Answer:
    """Make an invitation for another site; its token is told only now."""
    body, name = call.body, SiteName(call.body.name)
    token, expires_at = await pairing.invite(
        call.site,
        name,
        direction=body.direction,
        valid_for=timedelta(seconds=body.valid_seconds),
        accepts=body.accepts,
        authority=body.authority,
        who=call.caller.name,
    )
    return Answer(body=Invited(name=name, direction=body.direction, token=token, expires_at=expires_at), status=201)


async def join(call: Call[Join, None]) -> Answer:
    """Use an invitation of another site: account and peer are made here and there. A repeat gives the same."""
    try:
        name = await joining.join(
            call.site,
            call.body.token.get_secret_value(),
            accepts=call.body.accepts,
            authority=call.body.authority,
            who=call.caller.name,
        )
    except (Forbidden, Throttled) as error:
        # Not as it came: a 403 from us would say that our caller's own account is wrong.
        raise BadRequest(f"the other site refuses: {error.message}", remedy=error.remedy) from error
    return Answer(body=await description_of(call.site, name))


async def redeem(call: Call[Redeem, None]) -> Answer:
    """Tell the terms of an invitation to whoever has its secret; from then on to that site alone."""
    return Answer(body=await _unless_guessed(call, lambda: pairing.redeem(call.site, call.body)))


async def confirm(call: Call[Confirm, None]) -> Answer:
    """Make account and peer: the other site has written down the terms."""
    return Answer(body=await _unless_guessed(call, lambda: pairing.confirm(call.site, call.body)))


async def _unless_guessed(call: Call[Body, None], work: Callable[[], Awaitable[T]]) -> T:
    """Do *work*, unless too many wrong secrets came from the caller's address; a wrong one is counted."""
    guesses, address = call.request.app[GUESSES], call.request.app[ADDRESSES].of(call.request)
    # Nobody has an account yet: what fails from one address must not hold up another.
    guesses.check(address=address, account=address)
    try:
        return await work()
    except Forbidden:
        guesses.failed(address=address, account=address)
        raise


async def knock(call: Call[None, None]) -> Answer:
    """Show to a site that we are joining that its call has reached us."""
    return Answer(body=await joining.knocked(call.site, call.request.match_info["knock"]))


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/api/v1/invitations",
        handler=invite,
        summary="Invite another site",
        roles=_ADMIN,
        body=Invite,
        answer=Invited,
        statuses=(201,),
        refusals=(Conflict,),
        tag="pairing",
    ),
    Route(
        method="POST",
        path="/api/v1/pairings",
        handler=join,
        summary="Use an invitation of another site",
        roles=_ADMIN,
        body=Join,
        answer=PeerDescription,
        refusals=(Conflict, PeerUnavailable),
        tag="pairing",
    ),
    Route(
        method="POST",
        path="/api/v1/pairings/redeem",
        handler=redeem,
        summary="Between sites: the terms of an invitation, for its secret",
        roles=_ANYBODY,
        body=Redeem,
        answer=Terms,
        refusals=(Forbidden, Conflict, Throttled),
        body_limit=_BODY_BYTES,
        tag="pairing",
    ),
    Route(
        method="POST",
        path="/api/v1/pairings/confirm",
        handler=confirm,
        summary="Between sites: the terms are written down",
        roles=_ANYBODY,
        body=Confirm,
        answer=Confirmed,
        refusals=(Forbidden, Conflict, Throttled),
        body_limit=_BODY_BYTES,
        tag="pairing",
    ),
    Route(
        method="GET",
        path="/api/v1/pairings/{knock}",
        handler=knock,
        summary="Between sites: shows that a site that joins can be called",
        roles=_ANYBODY,
        answer=Knocked,
        refusals=(NotFound,),
        tag="pairing",
    ),
)
