"""``transfer``: files on their way, in and out."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import quote

import typer

from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Column, Terminal, awaited, new_app
from librarian.client import LibrarianClient
from librarian.states import TransferState
from librarian.wire.transfers import Transfer, TransferPage, Way

#: As many transfers come with one answer.
_PAGE: Final = 1000

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
        found, is_more = await _newest(client, given, limit=limit)
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


async def _newest(client: LibrarianClient, query: dict[str, str], *, limit: int) -> tuple[list[Transfer], bool]:
    """At most *limit* transfers, newest first, and whether there are more."""
    found: list[Transfer] = []
    asked = {**query, "limit": str(min(limit + 1, _PAGE))}
    while True:
        page = await client.request("GET", "/transfers", query=asked, answer=TransferPage)
        found += page.transfers
        if page.next_cursor is None or len(found) > limit:
            return found[:limit], len(found) > limit
        asked["cursor"] = page.next_cursor


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
