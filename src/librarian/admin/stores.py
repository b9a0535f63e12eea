"""``store``: the local places for payloads."""

from __future__ import annotations

from typing import Annotated

import typer

from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Column, Terminal, awaited, new_app
from librarian.names import StoreName
from librarian.wire.stores import StoreDescription, StoreList

app = new_app("The local places for payloads. They are made in the settings.")

Name = Annotated[str, typer.Argument(help="The store's name.")]


@app.command("list")
@awaited
async def list_stores(context: typer.Context, as_json: AsJson = False) -> None:
    """List every store, with room and problems.

    Example: python -m librarian.admin store list --json
    """
    async with reach(context.obj) as client:
        found = await client.request("GET", "/stores", answer=StoreList)
    columns = [
        Column(title="name"),
        Column(title="state"),
        Column(title="free", is_number=True),
        Column(title="root"),
        Column(title="problem"),
    ]
    terminal = Terminal(is_json=as_json)
    rows = [
        (
            (
                store.name,
                "open" if store.is_open else "closed",
                "-" if store.free_bytes is None else terminal.size(store.free_bytes),
                store.root or "-",
                store.problem or "-",
            ),
            store,
        )
        for store in found.stores
    ]
    terminal.table(columns, rows)


@app.command("open")
@awaited
async def open_store(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Let new files go to a store.

    Example: python -m librarian.admin store open fast
    """
    await _switch(context, name, "open", as_json=as_json)


@app.command("close")
@awaited
async def close_store(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Let no new files go to a store; what it holds stays, and is served.

    Example: python -m librarian.admin store close fast
    """
    await _switch(context, name, "close", as_json=as_json)


async def _switch(context: typer.Context, name: str, verb: str, *, as_json: bool) -> None:
    async with reach(context.obj) as client:
        store = await client.request("POST", f"/stores/{StoreName(name)}/{verb}", answer=StoreDescription)
    text = f"The store '{store.name}' is {'open' if store.is_open else 'closed'}."
    Terminal(is_json=as_json).one(store, text=text)
