"""``peer``: other librarians."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from librarian.admin import checkup, flows, pairing
from librarian.admin.arguments import STDIN, PasswordFile, checked, read_authority, read_secret
from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Column, Terminal, awaited, new_app
from librarian.names import SiteName
from librarian.wire.peers import ChangePeer, PeerDescription, PeerList, PeerRemoval, PutPeer

app = new_app("Other librarians.")

Name = Annotated[str, typer.Argument(help="The peer's site name.")]


@app.command("add")
@awaited
async def add(
    context: typer.Context,
    name: Name,
    url: Annotated[str, typer.Argument(help="Its base URL.")],
    user: Annotated[str, typer.Option("--user", help="Our account at the peer.")],
    password_file: PasswordFile = STDIN,
    ca_file: Annotated[
        str | None,
        typer.Option(
            "--ca-file",
            help="PEM of the authority that signed its certificate; 'system': those of its machine; else as it was.",
        ),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option("--accept", help="A name prefix that we accept from it; by default all, or as it was."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add a peer, or change where and as whom it is called; its entry points are read and pinned.

    Example: python -m librarian.admin peer add nersc https://nersc.example --user chajnantor --password-file secret
    """
    body = checked(
        PutPeer,
        url=url,
        username=user,
        password=read_secret(password_file),
        authority=read_authority(ca_file),
        accepts=accept or None,
    )
    async with reach(context.obj) as client:
        peer = await client.request(
            "PUT", f"/peers/{SiteName(name)}", body=body, answer=PeerDescription, patience=timedelta(0)
        )
    ways = [
        f"  store '{e.store}' by {e.engine}{f': {place}' if (place := e.address or e.staging) else ''}"
        for e in peer.entry_points
    ]
    text = "\n".join([f"Added the peer '{peer.name}' at {peer.url}.", *ways])
    Terminal(is_json=as_json).one(peer, text=text)


@app.command("list")
@awaited
async def list_peers(context: typer.Context, as_json: AsJson = False) -> None:
    """List every peer, with what is still due there.

    Example: python -m librarian.admin peer list
    """
    async with reach(context.obj) as client:
        found = await client.request("GET", "/peers", answer=PeerList)
    columns = [
        Column(title="name"),
        Column(title="url"),
        Column(title="state"),
        Column(title="files due", is_number=True),
        Column(title="bytes due", is_number=True),
        Column(title="bytes/s", is_number=True),
        Column(title="left", is_number=True),
        Column(title="reach"),
        Column(title="trouble"),
    ]
    terminal = Terminal(is_json=as_json)
    rows = [
        (
            (
                peer.name,
                peer.url,
                peer.state,
                terminal.count(peer.due_files),
                terminal.size(peer.due_bytes),
                terminal.size(peer.bytes_per_second),
                terminal.span(peer.seconds_left),
                "fetched" if peer.is_fetched else peer.reach.value,
                peer.why_not or peer.trouble or "-",
            ),
            peer,
        )
        for peer in found.peers
    ]
    terminal.table(columns, rows)


@app.command("enable")
@awaited
async def enable(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Send to the peer again.

    Example: python -m librarian.admin peer enable nersc
    """
    await _switch(context, name, is_enabled=True, as_json=as_json)


@app.command("disable")
@awaited
async def disable(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Send nothing to the peer, and accept nothing from it, until it is enabled again.

    Example: python -m librarian.admin peer disable nersc
    """
    await _switch(context, name, is_enabled=False, as_json=as_json)


app.command("invite")(pairing.invite)
app.command("check")(checkup.check)
app.command("join")(pairing.join)
app.command("rotate")(pairing.rotate)
app.command("pause")(flows.pause)
app.command("resume")(flows.resume)
app.command("drain")(flows.drain)
app.command("limit")(flows.limit)


@app.command("remove")
@awaited
async def remove(
    context: typer.Context,
    name: Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what that would mean.")] = False,
    as_json: AsJson = False,
) -> None:
    """Forget a peer; refused while a rule sends there, copies are known there, or files are on their way.

    One that sent files here forgets with it that they arrived, and sends them all again should it ever join again: for
    another URL or password, invite and join without removing it.

    Example: python -m librarian.admin peer remove nersc --dry-run
    """
    query = {"dry_run": "true"} if dry_run else {}
    async with reach(context.obj) as client:
        told = await client.request("DELETE", f"/peers/{SiteName(name)}", answer=PeerRemoval, query=query)
    verb = "Would remove" if told.is_dry_run else "Removed"
    text = f"{verb} the peer '{told.name}', with {told.untold:,} notices that it has not heard."
    Terminal(is_json=as_json).one(told, text=text)


async def _switch(context: typer.Context, name: str, *, is_enabled: bool, as_json: bool) -> None:
    body = ChangePeer(is_enabled=is_enabled)
    async with reach(context.obj) as client:
        peer = await client.request("PATCH", f"/peers/{SiteName(name)}", body=body, answer=PeerDescription)
    text = f"The peer '{peer.name}' is {'enabled' if peer.is_enabled else 'disabled'}."
    Terminal(is_json=as_json).one(peer, text=text)
