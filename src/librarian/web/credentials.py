"""Credentials: new passwords between peers."""

from __future__ import annotations

from typing import Final

from librarian import hearing, rotation
from librarian.errors import Conflict, NotFound, PeerUnavailable
from librarian.states import Role
from librarian.web.peers import named
from librarian.web.route import Answer, Call, Route
from librarian.wire.peers import Credentials, CredentialsTaken, Rotated


async def rotate(call: Call[None, None]) -> Answer:
    """Change the passwords between a peer and us, both ways."""
    return Answer(body=await rotation.rotate(call.site, named(call), who=call.caller.name))


async def take_credentials(call: Call[Credentials, None]) -> Answer:
    """Take the passwords that a peer proposes; those of before are valid until the new ones are used."""
    return Answer(body=await rotation.take(call.site, call.caller, call.body))


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/api/v1/peers/{name}/rotate",
        handler=rotate,
        summary="Change the passwords between a peer and us",
        roles=frozenset({Role.ADMIN}),
        answer=Rotated,
        refusals=(NotFound, Conflict, PeerUnavailable),
        tag="peers",
    ),
    Route(
        method="POST",
        path="/api/v1/clones/credentials",
        handler=take_credentials,
        summary="Between sites: take new passwords",
        roles=hearing.PEERS,
        body=Credentials,
        answer=CredentialsTaken,
        refusals=(NotFound,),
        tag="clones",
    ),
)
