"""``alert``: what a person must look at."""

from __future__ import annotations

from typing import Annotated

import typer

from librarian.admin.arguments import checked
from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Column, Terminal, awaited, new_app
from librarian.wire.alerts import AcknowledgeAlerts, AlertList, AlertsAcknowledged

app = new_app("What a person must look at.")


@app.command("list")
@awaited
async def list_alerts(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also those that somebody has acknowledged.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Alerts at most.", min=1, max=1000)] = 100,
    as_json: AsJson = False,
) -> None:
    """List alerts, newest first, each with what to do.

    Example: python -m librarian.admin alert list
    """
    query = {"all": str(every).lower(), "limit": str(limit)}
    async with reach(context.obj) as client:
        found = await client.request("GET", "/alerts", query=query, answer=AlertList)
    columns = [Column(title=title) for title in ("cause", "last", "times", "message", "what to do")]
    terminal = Terminal(is_json=as_json)
    rows = [
        ((each.cause, terminal.instant(each.last_at), str(each.count), each.message, each.remedy or "-"), each)
        for each in found.alerts
    ]
    terminal.table(columns, rows)
    if found.has_more:
        terminal.note(f"There are more than {limit:,}; see --limit.")


@app.command("acknowledge")
@awaited
async def acknowledge(
    context: typer.Context,
    causes: Annotated[list[str] | None, typer.Argument(help="The causes, as 'alert list' shows them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All there are now.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say that somebody has seen alerts; one that is reported again is shown again.

    Example: python -m librarian.admin alert acknowledge peer:nersc:quarantine
    """
    body = checked(AcknowledgeAlerts, causes=causes or [], all=every)
    async with reach(context.obj) as client:
        told = await client.request("POST", "/alerts/acknowledge", body=body, answer=AlertsAcknowledged)
    Terminal(is_json=as_json).one(told, text=f"Acknowledged: {told.alerts:,}.")
