"""``peer pause``, ``resume``, ``drain``, ``limit``: what goes to a peer, when, and how fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from librarian.admin.arguments import amount, checked
from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Terminal, awaited, size_text
from librarian.errors import BadRequest
from librarian.names import SiteName
from librarian.wire.peers import ChangePeer, PeerDescription

if TYPE_CHECKING:
    from collections.abc import Callable

#: The word that takes every window away.
ALWAYS: Final = "always"
Name = Annotated[str, typer.Argument(help="The peer's site name.")]


@awaited
async def pause(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Let nothing more go to the peer; what is on its way stops now, and goes on from there after 'peer resume'.

    The peer may still call us, and learns what it must.

    Example: python -m librarian.admin peer pause nersc
    """
    await _change(context, name, ChangePeer(flow="paused"), as_json=as_json, told=_paused)


@awaited
async def resume(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Let everything go to the peer again, after 'peer pause' or 'peer drain'.

    Example: python -m librarian.admin peer resume nersc
    """
    await _change(context, name, ChangePeer(flow="open"), as_json=as_json, told=_resumed)


@awaited
async def drain(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Offer nothing new to the peer; what is on its way goes on to its end.

    Example: python -m librarian.admin peer drain nersc
    """
    await _change(context, name, ChangePeer(flow="draining"), as_json=as_json, told=_drained)


@awaited
async def limit(
    context: typer.Context,
    name: Name,
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="SIZE", help="Bytes per second, as '50MB'; 'none': no limit.")
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            "--window",
            metavar="WINDOW",
            help="When bytes may flow, as '20:00-06:00 America/Santiago'; may be given several times; 'always'.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="SIZE", help="Bytes that may wait in its staging; 'none': no limit."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Limit how fast, when, and how many bytes at a time go to the peer; what is not given stays as it is.

    Outside of its windows a peer is as if paused. The windows given replace those that it had.

    Example: python -m librarian.admin peer limit nersc --rate 50MB --budget 20TB

    Example: python -m librarian.admin peer limit nersc --window "20:00-06:00 America/Santiago"

    Example: python -m librarian.admin peer limit nersc --rate none --window always
    """
    if rate is None and budget is None and not window:
        raise BadRequest("there is no limit to set", remedy="Give --rate, --window or --budget.")
    windows = None if not window else [] if window == [ALWAYS] else window
    body = checked(ChangePeer, rate_limit=amount(rate), windows=windows, staged_budget=amount(budget))
    await _change(context, name, body, as_json=as_json, told=_limited)


async def _change(
    context: typer.Context, name: str, body: ChangePeer, *, as_json: bool, told: Callable[[PeerDescription], str]
) -> None:
    async with reach(context.obj) as client:
        peer = await client.request("PATCH", f"/peers/{SiteName(name)}", body=body, answer=PeerDescription)
    Terminal(is_json=as_json).one(peer, text=f"{told(peer)}{_still(peer)}")


def _still(peer: PeerDescription) -> str:
    """What keeps files from the peer all the same."""
    return f" Nothing moves now: {peer.why_not}." if peer.flow != "paused" and not peer.is_moving else ""


def _paused(peer: PeerDescription) -> str:
    return f"The peer '{peer.name}' is paused: nothing moves there."


def _resumed(peer: PeerDescription) -> str:
    return f"The peer '{peer.name}' is open."


def _drained(peer: PeerDescription) -> str:
    return f"The peer '{peer.name}' is being drained: nothing new is offered, what is on its way goes on."


def _limited(peer: PeerDescription) -> str:
    rate = "any rate" if peer.rate_limit is None else f"{size_text(peer.rate_limit)}/s"
    hours = ", ".join(peer.windows) or ALWAYS
    staged = "any size" if peer.staged_budget is None else size_text(peer.staged_budget)
    return f"To the peer '{peer.name}': {rate}; {hours}; {staged} in its staging."
