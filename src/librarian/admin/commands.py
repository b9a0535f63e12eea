"""The tree of admin commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from librarian.admin import (
    accounts,
    alerts,
    database,
    drives,
    globus,
    journeys,
    notices,
    notifications,
    peers,
    receiving,
    rules,
    stores,
    transfers,
    why,
)
from librarian.admin.reach import Target, reach
from librarian.cli.terminal import AsJson, Terminal, awaited, counted, new_app, run_app, size_text, span_text
from librarian.settings import check_settings
from librarian.wire.peers import PeerTraffic
from librarian.wire.site import RestoredAcknowledged, SiteStatus

app = new_app(
    "Run a site: accounts, stores, peers, its database.\n\n"
    "Commands reach the site of the first of --url, --config, LIBRARIAN_CONFIG, LIBRARIAN_URL, and the default "
    "state folder. Beside a server no password is needed; with a URL, LIBRARIAN_USER and LIBRARIAN_PASSWORD name "
    "an admin account."
)
config_app = new_app("The settings of a site.")
restored_app = new_app("A catalog that was restored from a backup.")
for name, part in {
    "account": accounts.app,
    "alert": alerts.app,
    "config": config_app,
    "database": database.app,
    "drive": drives.app,
    "globus": globus.app,
    "notice": notices.app,
    "notify": notifications.app,
    "peer": peers.app,
    "restored": restored_app,
    "rule": rules.app,
    "store": stores.app,
    "transfer": transfers.app,
}.items():
    app.add_typer(part, name=name)
drives.app.command("status")(journeys.status)
app.command("why")(why.why)
receiving.join(drives.app)


@app.callback()
def choose_site(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The site's settings file.", show_default=False)
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL|NAME", help="The site's URL, or its name in client.toml.", show_default=False),
    ] = None,
) -> None:
    """Note which site the command is for."""
    context.obj = Target.choose(url=url, config=config)


@app.command()
@awaited
async def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Tell how the site is.

    Example: python -m librarian.admin status --json
    """
    async with reach(context.obj) as client:
        found = await client.request("GET", "/status", answer=SiteStatus)
    # Only a server has tasks: without one the command itself has opened the site.
    running = f"up {found.uptime_seconds:,.0f} s, {found.owner}" if found.tasks else "no server runs"
    lines = [
        f"site {found.name}, generation {found.generation}, {running}",
        f"holds {counted(found.held.files)}, {found.held.bytes:,} bytes",
        *(f"store {store.name}: {store.problem or 'fine'}" for store in found.stores),
        *map(_peer, found.peers),
        *(f"task {task.name}: {task.last_error if task.failures else 'fine'}" for task in found.tasks),
        *(f"ALERT {alert.message} {alert.remedy}" for alert in found.alerts),
    ]
    Terminal(is_json=as_json).one(found, text="\n".join(lines))


def _peer(peer: PeerTraffic) -> str:
    left = "" if peer.seconds_left is None else f", {span_text(peer.seconds_left)} left"
    moving = f"{counted(peer.due_files)} due, {size_text(peer.due_bytes)}, {size_text(peer.bytes_per_second)}/s{left}"
    return f"peer {peer.name}: {peer.state}, {moving}{f'; {peer.why_not}' if peer.why_not else ''}"


@config_app.command("check")
def check(context: typer.Context, as_json: AsJson = False) -> None:
    """Tell everything that is wrong with the settings, without starting anything.

    Example: python -m librarian.admin --config site.toml config check
    """
    target: Target = context.obj
    settings = target.settings()
    check_settings(settings, target.config)
    Terminal(is_json=as_json).one(settings, text=f"The settings of site '{settings.name}' can work.")


@restored_app.command("acknowledge")
@awaited
async def acknowledge(context: typer.Context, as_json: AsJson = False) -> None:
    """Say that the restored catalog is meant: bytes may be removed again.

    Example: python -m librarian.admin restored acknowledge
    """
    async with reach(context.obj) as client:
        told = await client.request("POST", "/site/restored", answer=RestoredAcknowledged)
    text = f"Acknowledged: the site goes on at epoch {told.epoch}, generation {told.generation}."
    Terminal(is_json=as_json).one(told, text=text)


# A group with one command alone would itself become that command.
@config_app.callback()
def config_group() -> None:
    """The settings of a site."""


@restored_app.callback()
def restored_group() -> None:
    """A catalog that was restored from a backup."""


def main() -> NoReturn:
    """Run the command line, and exit: 0 done, 2 caller, 3 unavailable, 4 integrity, 70 bug."""
    run_app(app, "python -m librarian.admin")
