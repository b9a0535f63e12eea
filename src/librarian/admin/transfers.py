"""``transfer``: files on their way, in and out."""

from __future__ import annotations

from typing import Annotated

import typer

from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Column, Terminal, awaited, new_app, size_text
from librarian.client import segment
from librarian.states import TransferState
from librarian.wire.transfers import Transfer, TransferPage

app = new_app("Files on their way, in and out.")


@app.command("list")
@awaited
async def list_transfers(
    context: typer.Context,
    way: Annotated[str, typer.Option(help="'in' or 'out'.")] = "out",
    peer: Annotated[str | None, typer.Option(help="Only with this peer.")] = None,
    state: Annotated[TransferState | None, typer.Option(help="Only in this state.")] = None,
    limit: Annotated[int, typer.Option(help="At most this many, newest first.", min=1, max=1000)] = 100,
    as_json: AsJson = False,
) -> None:
    """List transfers, newest first.

    Example: python -m librarian.admin transfer list --way out --state failed
    """
    query = {"way": way, "peer": peer, "state": None if state is None else state.value, "limit": str(limit)}
    given = {key: value for key, value in query.items() if value is not None}
    async with reach(context.obj) as client:
        found = await client.request("GET", "/transfers", query=given, answer=TransferPage)
    columns = [
        Column(title="id"),
        Column(title="peer"),
        Column(title="state"),
        Column(title="size", is_number=True),
        Column(title="name"),
        Column(title="reason"),
    ]
    rows = [
        ((t.uuid, t.peer or "-", t.state.value, size_text(t.size), t.name, t.reason or "-"), t) for t in found.transfers
    ]
    Terminal(is_json=as_json).table(columns, rows)


@app.command("show")
@awaited
async def show_transfer(
    context: typer.Context, uuid: Annotated[str, typer.Argument(help="The transfer's id.")], as_json: AsJson = False
) -> None:
    """Show everything about one transfer.

    Example: python -m librarian.admin transfer show 0b0e7a3e-7c6e-4f1e-9d56-6b1d9a6d1f00
    """
    async with reach(context.obj) as client:
        found = await client.request("GET", f"/transfers/{segment(uuid)}", answer=Transfer)
    lines = [f"{key:14} {'-' if value is None else value}" for key, value in found.model_dump(mode="json").items()]
    Terminal(is_json=as_json).one(found, text="\n".join(lines))
