"""``globus``: who this site is at Globus, and whether its collections are what the settings say."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from librarian.cli.terminal import AsJson, Column, Terminal, awaited, new_app
from librarian.errors import BadRequest, ConfigurationError, LibrarianError, PeerUnavailable
from librarian.site import globus_desk
from librarian.stores import places
from librarian.transfers.globus_account import Login

if TYPE_CHECKING:
    from librarian.settings import CollectionSettings, GlobusSettings, Settings
    from librarian.transfers.globus_desk import Desk

app = new_app("Globus: who this site is there, and whether it can work. See 'Connect to Globus'.")


@app.command("login")
@awaited
async def login(
    context: typer.Context,
    collection: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A mapped collection to consent to; may be given again.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let the site act for you at Globus: visit a page, and bring its code. A repeat replaces the refresh token.

    Example: python -m librarian.admin globus login
    """
    known = _known(context.obj.settings())
    file = known.refresh_token_file
    if file is None:
        raise ConfigurationError(
            "the settings name no globus.refresh_token_file", remedy="A service account needs no login; else name one."
        )
    terminal = Terminal(is_json=as_json)
    flow = Login(str(known.client_id), collections=collection or [])
    terminal.err.print(f"Log in at\n\n{flow.url()}\n\nand type the code that is shown there:", markup=False)
    code = (await asyncio.to_thread(sys.stdin.readline)).strip()
    if not code:
        raise BadRequest("there was no code", remedy="Run it again, and type the code that the page shows.")
    token = await asyncio.to_thread(flow.refresh_token, code)
    await asyncio.to_thread(_write, file, token)
    terminal.one({"refresh_token_file": str(file)}, text=f"The refresh token is in {file}.")


@app.command("check")
@awaited
async def check(context: typer.Context, as_json: AsJson = False) -> None:
    """Ask Globus whether it knows us, and whether each store is where the settings say; exits with 3 if not.

    Example: python -m librarian.admin globus check
    """
    settings: Settings = context.obj.settings()
    desk = globus_desk(_known(settings))
    try:
        await desk.submission_id()
        found = [
            (store.name, await _problem(desk, store.globus)) for store in settings.stores if store.globus is not None
        ]
    finally:
        await desk.close()
    rows = [((name, problem or "fine"), {"store": name, "problem": problem}) for name, problem in found]
    Terminal(is_json=as_json).table([Column(title="store"), Column(title="at Globus")], rows)
    if any(problem for _, problem in found):
        raise PeerUnavailable("not every store is where the settings say", remedy="Correct what is told above.")


def _known(settings: Settings) -> GlobusSettings:
    if settings.globus is None:
        raise ConfigurationError("the settings have no section [globus]", remedy="See 'Connect to Globus'.")
    return settings.globus


async def _problem(desk: Desk, there: CollectionSettings) -> str | None:
    """Why the store cannot be reached as *there* says."""
    try:
        if not await desk.holds(str(there.collection), there.root, places.IDENTITY):
            return f"{there.root} in the collection is not the root of the store: it holds no {places.IDENTITY}"
        await desk.holds(str(there.collection), there.staging, places.IDENTITY)
    except LibrarianError as error:
        return f"{error.message}. {error.remedy}"
    return None


def _write(file: Path, token: str) -> None:
    """Put *token* in place whole, readable by its owner alone."""
    beside = file.with_name(f".{file.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
        new.write(f"{token}\n")
        new.flush()
        os.fsync(new.fileno())
    beside.replace(file)
