"""``drive receive`` and what belongs to it: the drives of other sites."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from librarian.admin.arguments import checked
from librarian.admin.paging import pages
from librarian.admin.reach import reach, require_server
from librarian.cli.terminal import AsJson, Column, Terminal, awaited, counted, size_text
from librarian.client.progress import Phase, Progress
from librarian.errors import IntegrityError, WrongState
from librarian.states import ReceptionState
from librarian.wire.receptions import BadEntry, BadEntryPage, ReceiveDrive, ReceptionDescription, ReceptionPage

if TYPE_CHECKING:
    from librarian.client import LibrarianClient

#: Between two looks at how far it is.
_LOOK_EVERY: Final = 0.5
Which = Annotated[str, typer.Argument(metavar="DRIVE", help="The drive's name, or the uuid of its manifest.")]


@awaited
async def receive(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Where the drive is mounted, at the server.")],
    trust: Annotated[
        str | None,
        typer.Option(metavar="FINGERPRINT", help="Take what this key has signed, though no paired peer has it."),
    ] = None,
    although_for: Annotated[
        str | None, typer.Option(metavar="SITE", help="Take a drive that was sealed for this other site.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not watch until all is done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Receive a drive that another site has sealed, and watch until all that it carries is held.

    The server reads the drive, and never writes to it. The command only watches: it may be interrupted and run again
    at any time, as the drive may be unplugged and plugged in again. Exits with 0 when all is held, 4 when something
    could not be taken, 2 when nothing is received.

    Example: python -m librarian.admin drive receive /media/a07

    Example: python -m librarian.admin drive receive /media/a07 --trust YQML-MQU7-UG33-KMGM-FGGU-RTYT
    """
    body = checked(ReceiveDrive, path=str(path.absolute()), trust=trust, although_for=although_for)
    terminal = Terminal(is_json=as_json)
    async with reach(context.obj) as client:
        if not no_wait:
            await require_server(client, because="it has to read the drive")
        found = await client.request("POST", "/receptions", body=body, answer=ReceptionDescription)
        if not no_wait:
            found = await _watch(client, terminal, found)
    terminal.one(found, text=_story(found))
    _require_all_held(found)


def _require_all_held(found: ReceptionDescription) -> None:
    """Refuse to call it well where not everything is held, and nothing more will be read."""
    if found.state is ReceptionState.CANCELLED:
        raise WrongState(
            f"receiving the drive {found.drive} was given up",
            remedy=f"See 'drive received {found.drive}'. To go on with what was not listed yet, receive it again.",
        )
    if found.bad_files and found.is_done:
        again = (
            "What was bad its sender sends again by itself." if found.tells else "Tell its sender: nobody else does."
        )
        raise IntegrityError(
            f"{found.bad_files:,} of the {found.files:,} entries of {found.drive} could not be taken",
            remedy=f"See 'drive received {found.drive}' for each. {again}",
        )


async def _watch(client: LibrarianClient, terminal: Terminal, found: ReceptionDescription) -> ReceptionDescription:
    said = ""
    with terminal.progress(f"drive {found.drive}") as show:
        while not found.is_done:
            if found.reason and found.reason != said:
                terminal.note(f"It waits: {found.reason}")
            said = found.reason or ""
            show(_progress(found))
            await asyncio.sleep(_LOOK_EVERY)
            found = await client.request("GET", f"/receptions/{found.uuid}", answer=ReceptionDescription)
    return found


def _progress(found: ReceptionDescription) -> Progress:
    return Progress(
        phase=Phase.VERIFYING if found.state is not ReceptionState.RECEIVING else Phase.COPYING,
        done_bytes=found.read_bytes,
        total_bytes=found.bytes,
        done_files=found.held_files,
        total_files=found.files,
    )


def _story(found: ReceptionDescription) -> str:
    held = f"{found.held_files:,} of {counted(found.files, 'file is', 'files are')} held here"
    known = f", {found.known_files:,} of them since before" if found.known_files else ""
    bad = f"; {found.bad_files:,} could not be taken" if found.bad_files else ""
    told = "" if found.tells else " Nobody is told."
    if found.reason:
        return f"The drive {found.drive} of {found.origin} waits: {found.reason}. {held}{known}{bad}.{told}"
    if not found.is_done:
        share = f"{size_text(found.read_bytes)} of {size_text(found.bytes)} were read"
        return f"The drive {found.drive} of {found.origin} is being received at {found.path}: {share}, {held}.{told}"
    what = "was given up" if found.state is ReceptionState.CANCELLED else "may be unplugged"
    return f"The drive {found.drive} of {found.origin} {what}: {held}{known}{bad}.{told}"


@awaited
async def received(
    context: typer.Context,
    which: Annotated[
        str | None, typer.Argument(metavar="[DRIVE]", help="A drive's name, or the uuid of its manifest.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the drives of other sites that were received here; of one, each entry that could not be taken.

    With --json the first line is the drive, and each other one an entry.

    Example: python -m librarian.admin drive received A07
    """
    terminal = Terminal(is_json=as_json)
    async with reach(context.obj) as client:
        if which is None:
            _list(terminal, await _all(client))
            return
        found = await client.request("GET", f"/receptions/{which}", answer=ReceptionDescription)
        bad = await _bad_of(client, found.uuid)
    terminal.one(found, text=_story(found))
    columns = [Column(title="name"), Column(title="code"), Column(title="reason")]
    terminal.table(columns, [((each.name, each.code, each.reason), each) for each in bad])


async def _all(client: LibrarianClient) -> list[ReceptionDescription]:
    async def read(asked: dict[str, str]) -> tuple[list[ReceptionDescription], str | None]:
        page = await client.request("GET", "/receptions", query=asked, answer=ReceptionPage)
        return page.receptions, page.next_cursor

    return (await pages(read, {}))[0]


async def _bad_of(client: LibrarianClient, uuid: str) -> list[BadEntry]:
    async def read(asked: dict[str, str]) -> tuple[list[BadEntry], str | None]:
        page = await client.request("GET", f"/receptions/{uuid}/bad", query=asked, answer=BadEntryPage)
        return page.entries, page.next_cursor

    return (await pages(read, {}))[0]


def _list(terminal: Terminal, found: list[ReceptionDescription]) -> None:
    columns = [
        Column(title="drive"),
        Column(title="from"),
        Column(title="state"),
        Column(title="began"),
        Column(title="files", is_number=True),
        Column(title="held", is_number=True),
        Column(title="bad", is_number=True),
        Column(title="waits"),
    ]
    rows = [
        (
            (
                each.drive,
                each.origin,
                "done" if each.is_done else each.state.value,
                terminal.instant(each.created_at),
                terminal.count(each.files),
                terminal.count(each.held_files),
                terminal.count(each.bad_files),
                each.reason or "-",
            ),
            each,
        )
        for each in found
    ]
    terminal.table(columns, rows)


@awaited
async def give_up(context: typer.Context, which: Which, as_json: AsJson = False) -> None:
    """Read nothing more from a drive of another site: it is lost, or broken.

    What was read is kept. What was not fails, and the other site is told, as far as the drive's list has been read.
    'drive receive' takes it up again.

    Example: python -m librarian.admin drive abandon A07
    """
    async with reach(context.obj) as client:
        found = await client.request("POST", f"/receptions/{which}/cancel", answer=ReceptionDescription)
    Terminal(is_json=as_json).one(found, text=_story(found))


def join(app: typer.Typer) -> None:
    """Add these commands to those about our own drives."""
    app.command("receive")(receive)
    app.command("received")(received)
    app.command("abandon")(give_up)
