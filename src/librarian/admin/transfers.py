"""``transfer``: files on their way, in and out."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

import typer

from librarian.admin.arguments import checked
from librarian.admin.paging import pages
from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Column, Terminal, awaited, counted, new_app
from librarian.states import TransferState
from librarian.wire.transfers import (
    CancelTransfers,
    CopiesRetried,
    RetryCopies,
    StoppedDue,
    StoppedPage,
    Transfer,
    TransferPage,
    TransfersCancelled,
    Way,
)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, and tell what would be done.")]

app = new_app("Files on their way, in and out.")


@app.command("list")
@awaited
async def list_transfers(
    context: typer.Context,
    way: Annotated[Way, typer.Option(help="Arriving, or leaving.")] = "out",
    peer: Annotated[str | None, typer.Option(help="Only with this peer.")] = None,
    state: Annotated[TransferState | None, typer.Option(help="Only in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Transfers at most.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """List transfers, newest first.

    Example: python -m librarian.admin transfer list --way out --state failed
    """
    query = {"way": way, "peer": peer, "state": None if state is None else state.value}
    given = {key: value for key, value in query.items() if value is not None}
    async with reach(context.obj) as client:

        async def read(asked: dict[str, str]) -> tuple[list[Transfer], str | None]:
            page = await client.request("GET", "/transfers", query=asked, answer=TransferPage)
            return page.transfers, page.next_cursor

        found, is_more = await pages(read, given, limit=limit)
    columns = [
        Column(title="id"),
        Column(title="peer"),
        Column(title="state"),
        Column(title="size", is_number=True),
        Column(title="name"),
        Column(title="reason"),
    ]
    terminal = Terminal(is_json=as_json)
    rows = [((t.uuid, t.peer or "-", t.state.value, terminal.size(t.size), t.name, t.reason or "-"), t) for t in found]
    terminal.table(columns, rows)
    if is_more:
        terminal.note(f"There are more than {limit:,}: use --limit, --peer or --state.")


@app.command("show")
@awaited
async def show_transfer(
    context: typer.Context, uuid: Annotated[str, typer.Argument(help="The transfer's id.")], as_json: AsJson = False
) -> None:
    """Show everything about one transfer.

    Example: python -m librarian.admin transfer show 0b0e7a3e-7c6e-4f1e-9d56-6b1d9a6d1f00
    """
    async with reach(context.obj) as client:
        found = await client.request("GET", f"/transfers/{quote(uuid, safe='')}", answer=Transfer)
    lines = [f"{key:14} {'-' if value is None else value}" for key, value in found.model_dump(mode="json").items()]
    Terminal(is_json=as_json).one(found, text="\n".join(lines))


@app.command("stopped")
@awaited
async def stopped(
    context: typer.Context,
    peer: Annotated[str | None, typer.Option(help="Only for this peer.")] = None,
    state: Annotated[
        Literal["blocked", "quarantined"] | None, typer.Option(help="Only those without a source, or in quarantine.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Copies at most.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """List copies that are due and go no further: in quarantine, or blocked for want of a healthy source.

    Example: python -m librarian.admin transfer stopped --peer nersc
    """
    query = {key: value for key, value in {"peer": peer, "state": state}.items() if value is not None}
    async with reach(context.obj) as client:

        async def read(asked: dict[str, str]) -> tuple[list[StoppedDue], str | None]:
            page = await client.request("GET", "/transfers/stopped", query=asked, answer=StoppedPage)
            return page.copies, page.next_cursor

        found, is_more = await pages(read, query, limit=limit)
    columns = [
        Column(title="peer"),
        Column(title="state"),
        Column(title="since"),
        Column(title="tries", is_number=True),
        Column(title="name"),
        Column(title="reason"),
    ]
    terminal = Terminal(is_json=as_json)
    rows = [
        ((c.peer, c.state.value, terminal.instant(c.since), str(c.attempts), c.name, c.reason or "-"), c) for c in found
    ]
    terminal.table(columns, rows)
    if is_more:
        terminal.note(f"There are more than {limit:,}: use --limit, --peer or --state.")


@app.command("retry")
@awaited
async def retry(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Files whose copies are to go on.")] = None,
    peer: Annotated[str | None, typer.Option(help="Only copies for this peer; without names all of them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Of every file, for every peer.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Let copies go on at once that are in quarantine, blocked, or wait after a failure.

    Example: python -m librarian.admin transfer retry 2026/obs/one --peer nersc --dry-run
    """
    body = checked(RetryCopies, names=names or [], peer=peer, all=every, dry_run=dry_run)
    async with reach(context.obj) as client:
        told = await client.request("POST", "/transfers/retry", body=body, answer=CopiesRetried)
    verbs = ("copy would go", "copies would go") if dry_run else ("copy goes", "copies go")
    Terminal(is_json=as_json).one(told, text=f"{counted(told.copies, *verbs)} on.")


@app.command("cancel")
@awaited
async def cancel(
    context: typer.Context,
    uuids: Annotated[list[str], typer.Argument(help="The transfers' ids.", metavar="ID...")],
    peer: Annotated[str | None, typer.Option(help="Only of this peer: two may have chosen the same id.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """End transfers, whichever way they go; the other site is told.

    What was on its way out waits in quarantine until 'transfer retry'. What was on its way in loses what has come of
    it, and its name is free. What travels on a drive cannot be called back: see 'drive lost'.

    Example: python -m librarian.admin transfer cancel 0b0e7a3e-7c6e-4f1e-9d56-6b1d9a6d1f00 --dry-run
    """
    body = checked(CancelTransfers, uuids=uuids, peer=peer, dry_run=dry_run)
    async with reach(context.obj) as client:
        told = await client.request("POST", "/transfers/cancel", body=body, answer=TransfersCancelled)
    columns = [Column(title="id"), Column(title="name"), Column(title="outcome")]
    done = "would be cancelled" if dry_run else "cancelled"
    rows = [
        ((each.uuid, each.name or "-", each.problem.message if each.problem else done), each) for each in told.transfers
    ]
    terminal = Terminal(is_json=as_json)
    terminal.table(columns, rows)
    for remedy in dict.fromkeys(each.problem.remedy for each in told.transfers if each.problem and not as_json):
        terminal.note(remedy)
    if all(each.problem is not None for each in told.transfers):
        raise typer.Exit(2)
