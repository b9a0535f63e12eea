"""``notice``: what a peer refuses to hear."""

from __future__ import annotations

from typing import Annotated

import typer

from librarian.admin.arguments import checked
from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Column, Terminal, awaited, counted, new_app
from librarian.wire.outbox import NoticesSteered, SetAsideList, SteerNotices

app = new_app("Notices that a peer refuses for good, and that were set aside.")

Ids = Annotated[list[int] | None, typer.Argument(help="The notices' ids, as 'notice list' shows them.")]
OfPeer = Annotated[str | None, typer.Option("--peer", help="Only those for this peer; without ids all of them.")]
Every = Annotated[bool, typer.Option("--all", help="All there are.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, and tell how many.")]


@app.command("list")
@awaited
async def list_notices(
    context: typer.Context,
    peer: Annotated[str | None, typer.Option(help="Only for this peer.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Notices at most.", min=1, max=1000)] = 100,
    as_json: AsJson = False,
) -> None:
    """List notices that were set aside, oldest first; others about the same subject wait behind each.

    Example: python -m librarian.admin notice list --peer nersc
    """
    query = {"limit": str(limit), **({} if peer is None else {"peer": peer})}
    async with reach(context.obj) as client:
        found = await client.request("GET", "/notices", query=query, answer=SetAsideList)
    columns = [Column(title=title) for title in ("id", "peer", "since", "says", "about", "refused because")]
    terminal = Terminal(is_json=as_json)
    rows = [
        ((str(n.id), n.peer, terminal.instant(n.created_at), n.state, n.name, n.reason or "-"), n)
        for n in found.notices
    ]
    terminal.table(columns, rows)


@app.command("retry")
@awaited
async def retry(
    context: typer.Context,
    ids: Ids = None,
    peer: OfPeer = None,
    every: Every = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Say notices again, and then what waits behind them: when the peer has come to know what they speak of.

    Example: python -m librarian.admin notice retry --peer nersc
    """
    body = checked(SteerNotices, ids=ids or [], peer=peer, all=every, dry_run=dry_run)
    async with reach(context.obj) as client:
        told = await client.request("POST", "/notices/retry", body=body, answer=NoticesSteered)
    verbs = ("notice would be", "notices would be") if dry_run else ("notice is", "notices are")
    Terminal(is_json=as_json).one(told, text=f"{counted(told.notices, *verbs)} said again.")


@app.command("drop")
@awaited
async def drop(
    context: typer.Context,
    ids: Ids = None,
    peer: OfPeer = None,
    every: Every = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Never say notices that were set aside; what waits behind them is said.

    Example: python -m librarian.admin notice drop 17 --dry-run
    """
    body = checked(SteerNotices, ids=ids or [], peer=peer, all=every, dry_run=dry_run)
    async with reach(context.obj) as client:
        told = await client.request("POST", "/notices/drop", body=body, answer=NoticesSteered)
    verbs = ("notice would be", "notices would be") if dry_run else ("notice was", "notices were")
    Terminal(is_json=as_json).one(told, text=f"{counted(told.notices, *verbs)} dropped.")
