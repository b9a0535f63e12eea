"""``why``: what each copy of a file still waits for."""

from __future__ import annotations

from typing import Annotated

import typer

from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Terminal, awaited
from librarian.client.connection import segment
from librarian.wire.why import Why


@awaited
async def why(
    context: typer.Context, name: Annotated[str, typer.Argument(help="The file's name.")], as_json: AsJson = False
) -> None:
    """Tell in sentences where a file is, and what each of its other copies waits for.

    Example: python -m librarian.admin why 2026/11/book-001
    """
    async with reach(context.obj) as client:
        told = await client.request("GET", f"/why/{segment(name)}", answer=Why)
    Terminal(is_json=as_json).one(told, text="\n".join(copy.sentence for copy in told.copies))
