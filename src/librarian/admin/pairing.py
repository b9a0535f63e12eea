"""``peer invite`` and ``peer join``: two sites come to know each other."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from pydantic import SecretStr

from librarian.admin.arguments import STDIN, checked, read_authority, read_token
from librarian.admin.reach import reach, require_server
from librarian.cli.terminal import AsJson, Terminal, awaited
from librarian.errors import BadRequest
from librarian.names import SiteName
from librarian.quantities import parse_span
from librarian.wire.pairing import Invite, Invited, Join
from librarian.wire.peers import PeerDescription, Rotated

Accept = Annotated[
    list[str] | None,
    typer.Option("--accept", help="A name prefix that we accept from it; by default all, or as it was."),
]
CaFile = Annotated[
    str | None,
    typer.Option(
        "--ca-file",
        metavar="FILE",
        help="PEM of the authority that signed its certificate; 'system': those of its machine; else as it was.",
    ),
]
#: Joining waits for the other site, which calls back.
_PATIENCE = timedelta(minutes=2)


@awaited
async def invite(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The other site's name.")],
    direction: Annotated[
        str, typer.Option(metavar="send|receive|both", help="What this site will do: send files there, or take them.")
    ] = "send",
    expires: Annotated[str, typer.Option(metavar="SPAN", help="How long the token can be used, as '2h' or '1d'.")] = (
        "1d"
    ),
    accept: Accept = None,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Invite another site: prints a token, to be used there once with 'peer join'.

    Run it at the site that the other can reach, whichever way files go.

    Example: python -m librarian.admin peer invite chajnantor --direction receive --expires 2h
    """
    span = parse_span(expires)
    if not isinstance(span, timedelta):
        raise BadRequest(f"{expires!r} is not a span", remedy="Write one such as '2h' or '1d'.")
    body = checked(
        Invite,
        name=name,
        direction=direction,
        valid_seconds=int(span.total_seconds()),
        accepts=accept or None,
        authority=read_authority(ca_file),
    )
    async with reach(context.obj) as client:
        invited = await client.request("POST", "/invitations", body=body, answer=Invited)
    Terminal(is_json=as_json).one(invited, text=invited.token)


@awaited
async def join(
    context: typer.Context,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="What 'peer invite' printed; '-' reads it.")] = STDIN,
    accept: Accept = None,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Use the token of another site: makes accounts, peers and keys, here and there.

    The same token again, at the same site, gives the same result.

    Example: python -m librarian.admin peer join librarian-invitation-1.eyJ1cmwiOi...
    """
    secret = read_token() if token == STDIN else SecretStr(token)
    body = checked(Join, token=secret, accepts=accept or None, authority=read_authority(ca_file))
    async with reach(context.obj) as client:
        await require_server(client, because="the other site has to call it back")
        peer = await client.request(
            "POST", "/pairings", body=body, answer=PeerDescription, repeats=False, silence=_PATIENCE
        )
    Terminal(is_json=as_json).one(peer, text=_told(peer))


@awaited
async def rotate(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The peer's site name.")],
    as_json: AsJson = False,
) -> None:
    """Change the passwords between a peer and us, both ways; each is valid until the new one was seen to work.

    Nobody ever sees them. Run it at the site that can call the other.

    Example: python -m librarian.admin peer rotate nersc
    """
    async with reach(context.obj) as client:
        done = await client.request(
            "POST", f"/peers/{SiteName(name)}/rotate", answer=Rotated, repeats=False, silence=_PATIENCE
        )
    rest = "" if done.theirs_in_use else f" The password of {name} before is valid until it has used its new one."
    Terminal(is_json=as_json).one(done, text=f"The passwords between '{done.name}' and this site are new.{rest}")


def _told(peer: PeerDescription) -> str:
    ways = [
        f"  store '{e.store}' by {e.engine}{f': {place}' if (place := e.address or e.staging) else ''}"
        for e in peer.entry_points
    ]
    lines = [f"Paired with '{peer.name}' at {peer.url}.", *ways]
    if peer.is_fetched:
        lines.append("It cannot call this site: what it has to say is fetched from there.")
    return "\n".join([*lines, f"See that all is well: python -m librarian.admin peer check {peer.name}"])
