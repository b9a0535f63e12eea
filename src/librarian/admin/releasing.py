"""``drive release``, ``drive lost``, and the next round of ``drive init --reuse``."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import timedelta
from typing import Annotated, Final

import typer

from librarian.admin.reach import reach, require_server
from librarian.cli.terminal import AsJson, Terminal, awaited, counted, size_text
from librarian.errors import BadRequest, StoreUnavailable
from librarian.names import StoreName
from librarian.states import DriveState
from librarian.wire.drives import DriveDescription, DriveStakes, DriveStory, LoseDrive, ReleaseDrive, ReuseDrive

Name = Annotated[str, typer.Argument(help="The drive's name.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, and tell what would be done.")]
#: Seconds between two looks, and until the command stops watching.
_LOOK: Final = 0.5
_PATIENCE: Final = 3600.0
#: A drive that is full of names is not looked through at once.
_SILENCE: Final = timedelta(minutes=5)


@awaited
async def release(
    context: typer.Context,
    name: Name,
    lose: Annotated[
        int,
        typer.Option("--lose", metavar="FILES", help="Give up exactly so many files that are not confirmed.", min=0),
    ] = 0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Let a drive be wiped, once its peer has confirmed everything on it. Its bytes stay until it is used again.

    What is not confirmed is due again, on another drive.

    Example: python -m librarian.admin drive release A07 --dry-run
    """
    body = ReleaseDrive(lose=lose, dry_run=dry_run)
    async with reach(context.obj) as client:
        told = await client.request("POST", f"/drives/{StoreName(name)}/release", body=body, answer=DriveStakes)
    done = f"{'Would release' if dry_run else 'Released'} the drive '{told.name}'"
    if dry_run and told.unconfirmed_files != lose:
        done = f"Would not release the drive '{told.name}' without --lose {told.unconfirmed_files}"
    Terminal(is_json=as_json).one(told, text=_stakes(told, done))


@awaited
async def lost(context: typer.Context, name: Name, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Give a drive up for lost: everything on it that is not confirmed is due again.

    When it is found after all, its destination may still receive it; then release it.

    Example: python -m librarian.admin drive lost A07 --dry-run
    """
    async with reach(context.obj) as client:
        told = await client.request(
            "POST", f"/drives/{StoreName(name)}/lost", body=LoseDrive(dry_run=dry_run), answer=DriveStakes
        )
    done = f"{'Would give up' if dry_run else 'Gave up'} the drive '{told.name}' for lost"
    Terminal(is_json=as_json).one(told, text=_stakes(told, done))


async def reuse(context: typer.Context, name: str, *, lose: int, is_sure: bool, dry_run: bool, as_json: bool) -> None:
    """Wipe the released drive *name* and begin its next round; asks, and watches."""
    path, terminal = f"/drives/{StoreName(name)}", Terminal(is_json=as_json)
    async with reach(context.obj) as client:
        body = ReuseDrive(lose=lose, dry_run=True)
        ready = await client.request("POST", f"{path}/reuse", body=body, answer=DriveDescription, silence=_SILENCE)
        if dry_run:
            terminal.one(
                ready, text=f"Would wipe the drive '{ready.name}' at {ready.path}, and begin round {ready.round + 1}."
            )
            return
        await require_server(client, because="it has to wipe the drive")
        _ask(ready, is_sure=is_sure or ready.state is DriveState.WIPING)
        body = ReuseDrive(lose=lose)
        await client.request("POST", f"{path}/reuse", body=body, answer=DriveDescription, silence=_SILENCE)
        gives_up_at = time.monotonic() + _PATIENCE
        while (drive := (await client.request("GET", path, answer=DriveStory)).drive).state is DriveState.WIPING:
            if time.monotonic() > gives_up_at:
                raise StoreUnavailable(
                    f"the drive '{name}' is still being wiped",
                    remedy="It goes on by itself while the server runs and the drive is plugged in.",
                )
            await asyncio.sleep(_LOOK)
    terminal.one(drive, text=f"The drive '{drive.name}' is empty, and in its round {drive.round}.")


def _ask(drive: DriveDescription, *, is_sure: bool) -> None:
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise BadRequest(f"the drive '{drive.name}' would be wiped", remedy="Say --yes where nobody can be asked.")
    typer.confirm(f"Wipe everything on the drive '{drive.name}' at {drive.path}?", abort=True, err=True)


def _stakes(told: DriveStakes, done: str) -> str:
    lines = [
        f"{done}: {counted(told.files)} ({size_text(told.bytes)}) on it.",
        f"  not confirmed: {counted(told.unconfirmed_files)} ({size_text(told.unconfirmed_bytes)})",
        f"  no other copy known: {counted(told.last_files)} ({size_text(told.last_bytes)})",
        *(f"    {name}" for name in told.examples),
    ]
    return "\n".join(lines)
