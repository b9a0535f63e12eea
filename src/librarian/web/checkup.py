"""Checking a peer, and what a peer asks of us while it checks us."""

from __future__ import annotations

from typing import Final

from librarian import checkup, hearing
from librarian.errors import NotFound, StoreUnavailable
from librarian.states import Role
from librarian.web.peers import named
from librarian.web.route import Answer, Call, Route
from librarian.wire.checkup import (
    AskCallback,
    AskProbe,
    AskProbeRead,
    CalledBack,
    Checkup,
    ProbeRead,
    ProbeStaged,
)


async def check(call: Call[None, None]) -> Answer:
    """Look at everything that we and a peer need of each other."""
    return Answer(body=await checkup.check(call.site, named(call)))


async def call_back(call: Call[AskCallback, None]) -> Answer:
    """Call the peer that asks, and say whether that works."""
    return Answer(body=await hearing.call_back(call.site, call.caller, call.body))


async def stage_probe(call: Call[AskProbe, None]) -> Answer:
    """Make staging for a probe."""
    return Answer(body=await hearing.stage_probe(call.site, call.caller, call.body))


async def read_probe(call: Call[AskProbeRead, None]) -> Answer:
    """Read a probe, and remove it."""
    return Answer(body=await hearing.read_probe(call.site, call.caller, call.body))


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/api/v1/peers/{name}/check",
        handler=check,
        summary="Check everything between a peer and us",
        roles=frozenset({Role.ADMIN}),
        answer=Checkup,
        refusals=(NotFound,),
        tag="peers",
    ),
    Route(
        method="POST",
        path="/api/v1/clones/callback",
        handler=call_back,
        summary="Between sites: call the one who asks",
        roles=hearing.PEERS,
        body=AskCallback,
        answer=CalledBack,
        tag="clones",
    ),
    Route(
        method="POST",
        path="/api/v1/clones/probe",
        handler=stage_probe,
        summary="Between sites: make staging for a probe",
        roles=hearing.SENDERS,
        body=AskProbe,
        answer=ProbeStaged,
        refusals=(NotFound, StoreUnavailable),
        tag="clones",
    ),
    Route(
        method="POST",
        path="/api/v1/clones/probe/read",
        handler=read_probe,
        summary="Between sites: read a probe, and remove it",
        roles=hearing.SENDERS,
        body=AskProbeRead,
        answer=ProbeRead,
        refusals=(NotFound, StoreUnavailable),
        tag="clones",
    ),
)
