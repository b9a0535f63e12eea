"""``peer check``: what two sites need of each other, and what would help where it fails."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

import typer

from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Terminal, awaited
from librarian.names import SiteName
from librarian.wire.checkup import Checkup, Finding
from librarian.wire.peers import ChangePeer, PeerDescription

#: Every engine is tried, one after the other.
_PATIENCE: Final = timedelta(minutes=10)
#: Something that the two sites need fails: as for any peer that is away.
_FAILED: Final = 3


@awaited
async def check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The peer's site name.")],
    accept: Annotated[
        bool, typer.Option("--accept", help="First pin the entry points that it offers now; ends a hold.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a peer: reach, protocol, clock, both logins, entry points, and a probe through each engine.

    Each line says ok, warning or failed, with a remedy. Exits with 3 where one has failed.

    Example: python -m librarian.admin peer check nersc
    """
    path = f"/peers/{SiteName(name)}"
    async with reach(context.obj) as client:
        if accept:
            body = ChangePeer(accept_entry_points=True)
            await client.request("PATCH", path, body=body, answer=PeerDescription)
        found = await client.request("POST", f"{path}/check", answer=Checkup, repeats=False, silence=_PATIENCE)
    Terminal(is_json=as_json).one(found, text="\n".join(_line(finding) for finding in found.findings))
    if found.verdict == "failed":
        raise typer.Exit(_FAILED)


def _line(finding: Finding) -> str:
    line = f"{finding.verdict:<8}{finding.subject}: {finding.message}"
    return f"{line}\n        {finding.remedy}" if finding.remedy else line
