"""``drive``: stores that are carried by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from librarian.admin import inspecting, releasing, sealing
from librarian.admin.arguments import checked
from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Column, Terminal, awaited, counted, instant_text, new_app, size_text
from librarian.names import StoreName
from librarian.wire.drives import (
    AttachDrive,
    DriveDescription,
    DriveList,
    DriveMade,
    DriveStory,
    InitDrive,
    ManifestSummary,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

app = new_app("Drives: stores that are carried by hand.")

Name = Annotated[str, typer.Argument(help="The drive's name.")]
Place = Annotated[Path, typer.Argument(metavar="PATH", help="Where it is mounted, at the server.")]


@app.command("init")
@awaited
async def init(
    context: typer.Context,
    path: Place,
    name: Annotated[str, typer.Option("--name", help="What it is called for ever, as its label says: 'A07'.")],
    full_at: Annotated[
        int, typer.Option("--full-at", metavar="PERCENT", help="It counts as full when so much of it is in use.")
    ] = 98,
    is_folder: Annotated[
        bool, typer.Option("--folder", help="Take a folder that is no file system of its own.")
    ] = False,
    is_reused: Annotated[
        bool, typer.Option("--reuse", help="Wipe a drive that was released, and begin its next round.")
    ] = False,
    is_sure: Annotated[bool, typer.Option("--yes", help="With --reuse: do not ask.")] = False,
    lose: Annotated[
        int,
        typer.Option(
            "--lose", metavar="FILES", min=0, help="With --reuse: give up exactly so many files that are nowhere else."
        ),
    ] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --reuse: wipe nothing, and tell.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a drive of an empty place, and tell what its file system cannot do.

    Nothing may stand there but 'lost+found'. Rules with '--drive' then load it by themselves. With --reuse a drive
    that came back and was released is wiped; no other ever is, and none with files that are known nowhere else.

    Example: python -m librarian.admin drive init /media/a07 --name A07

    Example: python -m librarian.admin drive init /media/a07 --name A07 --reuse
    """
    if is_reused:
        await attach_at(context, name, path)
        await releasing.reuse(context, name, lose=lose, is_sure=is_sure, dry_run=dry_run, as_json=as_json)
        return
    body = checked(InitDrive, name=name, path=str(path.absolute()), full_at=10 * full_at, is_folder=is_folder)
    async with reach(context.obj) as client:
        made = await client.request("POST", "/drives", body=body, answer=DriveMade)
    drive = made.drive
    what = f"{size_text(drive.size)}, {drive.filesystem}, serial {drive.serial or 'unknown'}"
    remarks = "".join(f"\n  mind: {remark}" for remark in made.remarks)
    text = f"The drive '{drive.name}' at {drive.path} is ready: {what}.{remarks}"
    Terminal(is_json=as_json).one(made, text=text)


@app.command("list")
@awaited
async def list_drives(context: typer.Context, as_json: AsJson = False) -> None:
    """List every drive: where it stands and what is on it.

    Example: python -m librarian.admin drive list
    """
    async with reach(context.obj) as client:
        found = await client.request("GET", "/drives", answer=DriveList)
    columns = [
        Column(title="name"),
        Column(title="state"),
        Column(title="since"),
        Column(title="files", is_number=True),
        Column(title="bytes", is_number=True),
        Column(title="size", is_number=True),
        Column(title="path"),
        Column(title="problem"),
    ]
    terminal = Terminal(is_json=as_json)
    rows = [
        (
            (
                drive.name,
                drive.state.value,
                instant_text(drive.since),
                terminal.count(drive.files),
                terminal.size(drive.bytes),
                terminal.size(drive.size),
                drive.path if drive.is_plugged else "-",
                drive.problem or "-",
            ),
            drive,
        )
        for drive in found.drives
    ]
    terminal.table(columns, rows)


@app.command("show")
@awaited
async def show(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show one drive with its history.

    Example: python -m librarian.admin drive show A07
    """
    async with reach(context.obj) as client:
        told = await client.request("GET", f"/drives/{StoreName(name)}", answer=DriveStory)
    Terminal(is_json=as_json).one(told, text="\n".join(_lines(told)))


@app.command("attach")
@awaited
async def attach(context: typer.Context, name: Name, path: Place, as_json: AsJson = False) -> None:
    """Tell where a drive is that cannot be found by itself: one in a folder, or on a network file system.

    Drives on mounted disks are found within seconds.

    Example: python -m librarian.admin drive attach A07 /mnt/a07
    """
    drive = await attach_at(context, name, path)
    Terminal(is_json=as_json).one(drive, text=f"The drive '{drive.name}' is plugged in at {drive.path}.")


app.command("seal")(sealing.seal)
app.command("slip")(sealing.slip)
app.command("manifest")(sealing.manifest)
app.command("verify")(inspecting.verify)
app.command("release")(releasing.release)
app.command("lost")(releasing.lost)


async def attach_at(context: typer.Context, name: str, path: Path) -> DriveDescription:
    """The drive *name*, which must be at *path*."""
    body = checked(AttachDrive, path=_absolute(path))
    async with reach(context.obj) as client:
        return await client.request("POST", f"/drives/{StoreName(name)}/attach", body=body, answer=DriveDescription)


def _absolute(path: Path) -> str:
    """*path* from the top, its links not resolved: it is the server's."""
    return str(path.absolute())


def _lines(told: DriveStory) -> Iterator[str]:
    drive = told.drive
    yield f"drive '{drive.name}': {drive.state.value} since {instant_text(drive.since)} UTC, by {drive.who}"
    yield f"round {drive.round}, {counted(drive.files)} ({size_text(drive.bytes)}) on {size_text(drive.size)}"
    yield f"{drive.filesystem}, serial {drive.serial or 'unknown'}, {drive.uuid}"
    seen = f"{drive.path} on {instant_text(drive.seen_at)} UTC"
    yield f"plugged in at {drive.path}" if drive.is_plugged else f"not plugged in; last seen at {seen}"
    if drive.manifest is not None:
        yield from _carried(drive.manifest)
    if drive.problem is not None:
        yield f"cannot be written: {drive.problem}"
    for event in told.story:
        why = f": {event.why}" if event.why else ""
        yield f"  {instant_text(event.at)}  {event.what}, by {event.who}{why}"


def _carried(manifest: ManifestSummary) -> Iterator[str]:
    if not manifest.is_complete:
        yield f"its manifest for {manifest.to} is being written: {counted(manifest.files)}"
        return
    yield f"sealed for {manifest.to}: {counted(manifest.files)} ({size_text(manifest.bytes)})"
    yield f"  confirmed: {counted(manifest.confirmed_files)} ({size_text(manifest.confirmed_bytes)})"
    waiting = manifest.files - manifest.confirmed_files - manifest.failed_files
    waiting_bytes = manifest.bytes - manifest.confirmed_bytes - manifest.failed_bytes
    yield f"  waiting: {counted(waiting)} ({size_text(waiting_bytes)})"
    yield f"  failed: {counted(manifest.failed_files)} ({size_text(manifest.failed_bytes)})"
