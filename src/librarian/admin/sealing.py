"""``drive seal``, ``drive slip``, ``drive manifest``: what leaves, on the drive, on paper and in a file."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from librarian.admin.arguments import STDIN, checked
from librarian.admin.reach import reach, require_server
from librarian.cli.terminal import AsJson, Terminal, awaited, counted, instant_text, size_text
from librarian.client.progress import Phase, Progress
from librarian.errors import BadRequest, StoreUnavailable
from librarian.names import StoreName
from librarian.states import DriveState
from librarian.wire.drives import DriveSealing, DriveStory, PackingSlip, SealDrive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from librarian.client import LibrarianClient
    from librarian.client.progress import OnProgress

Name = Annotated[str, typer.Argument(help="The drive's name.")]
#: Seconds between two looks, and without progress until the command stops watching.
_LOOK: Final = 0.3
_PATIENCE: Final = 120.0
_ADMIN: Final = "python -m librarian.admin"
#: Lines of contents on the slip.
_MOST_LINES: Final = 40


@awaited
async def seal(
    context: typer.Context,
    name: Name,
    to: Annotated[str, typer.Option("--to", metavar="PEER", help="The peer that it is carried to.")],
    is_unasked: Annotated[
        bool, typer.Option("--unasked", help="Although nothing on it was loaded for that peer.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Close a drive for a peer, write its signed manifest onto it, and print the packing slip.

    Nothing is loaded any more. May be repeated at any time: it goes on, or prints the slip again. Refused where
    nothing on it was loaded for that peer, since a seal cannot be taken back; --unasked seals it all the same.

    Example: python -m librarian.admin drive seal A07 --to nersc
    """
    path, terminal = f"/drives/{StoreName(name)}", Terminal(is_json=as_json)
    async with reach(context.obj) as client:
        body = checked(SealDrive, to=to, is_unasked=is_unasked)
        await require_server(client, because="it has to write the manifest")
        begun = await client.request("POST", f"{path}/seal", body=body, answer=DriveSealing)
        for other in begun.also_for:
            terminal.note(f"Something on it was loaded for {other} as well: that is due there again, on another drive.")
        with terminal.progress(f"sealing {begun.drive.name}") as report:
            await _watch(client, path, report)
        told = await client.request("GET", f"{path}/slip", answer=PackingSlip)
    terminal.one(told, text="\n".join(_slip(told)))


async def _watch(client: LibrarianClient, path: str, report: OnProgress) -> None:
    written, moved_at = -1, time.monotonic()
    while True:
        drive = (await client.request("GET", path, answer=DriveStory)).drive
        if drive.state is not DriveState.SEALING:
            return
        manifest = drive.manifest
        if manifest is not None and manifest.files != written:
            written, moved_at = manifest.files, time.monotonic()
            report(
                Progress(
                    phase=Phase.COPYING,
                    done_bytes=manifest.bytes,
                    total_bytes=drive.bytes,
                    done_files=manifest.files,
                    total_files=drive.files,
                )
            )
        if time.monotonic() - moved_at > _PATIENCE:
            raise StoreUnavailable(
                f"the drive '{drive.name}' is still being sealed: {drive.problem or 'it waits'}",
                remedy="It is sealed by itself once the server runs and the drive is plugged in; then repeat this.",
            )
        await asyncio.sleep(_LOOK)


@awaited
async def slip(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Print the packing slip of a sealed drive again: put it into the parcel.

    Example: python -m librarian.admin drive slip A07
    """
    async with reach(context.obj) as client:
        told = await client.request("GET", f"/drives/{StoreName(name)}/slip", answer=PackingSlip)
    Terminal(is_json=as_json).one(told, text="\n".join(_slip(told)))


@awaited
async def manifest(
    context: typer.Context,
    name: Name,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to write it; '-' for standard output.")
    ] = STDIN,
    as_json: AsJson = False,
) -> None:
    """Write the manifest of a sealed drive into a file: the same bytes as on the drive, any number of times.

    Example: python -m librarian.admin drive manifest A07 --output a07.manifest
    """
    terminal = Terminal(is_json=as_json)
    size = 0
    async with reach(context.obj) as client:
        path = f"/drives/{StoreName(name)}/manifest"
        async with client.connection.stream_down(path) as answer:
            if output == STDIN:
                async for chunk in answer.chunks:
                    sys.stdout.buffer.write(chunk)
                return
            target = Path(output)
            fresh = target.with_name(f"{target.name}.part")
            try:
                with fresh.open("wb") as file:
                    async for chunk in answer.chunks:
                        size += file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(target)
            except OSError as error:
                raise BadRequest(
                    f"cannot write '{output}': {error.strerror}", remedy="Name a file that can be written."
                ) from error
    terminal.one(
        {"drive": name, "path": output, "size": size},
        text=f"Wrote the manifest of '{name}' to {output}: {size:,} bytes.",
    )


def _slip(told: PackingSlip) -> Iterator[str]:
    yield f"PACKING SLIP    drive {told.drive}    round {told.round}    serial {told.serial or 'unknown'}"
    yield f"from            {told.sender}"
    yield f"to              {told.to}"
    yield f"sealed          {instant_text(told.sealed_at)} UTC"
    yield f"contents        {counted(told.files)}, {size_text(told.bytes)} ({told.bytes:,} bytes)"
    yield from (
        f"  {line.files:>9,}  {size_text(line.bytes):>8}  {line.prefix}" for line in told.contents[:_MOST_LINES]
    )
    if len(told.contents) > _MOST_LINES:
        yield f"  and {len(told.contents) - _MOST_LINES:,} more"
    yield f"manifest        {told.manifest}"
    yield f"fingerprint     {told.fingerprint}"
    yield ""
    yield "Mount it, read-only if you like, and on any machine with librarian, with or without a network:"
    yield f"  {_ADMIN} drive verify PATH"
    yield "The fingerprint that it prints must be the one above."
    yield f"At {told.to}:"
    yield f"  {_ADMIN} drive receive PATH"
