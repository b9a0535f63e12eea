"""The commands that look: search, show, where, ping."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from librarian.cli.session import At, opened
from librarian.cli.terminal import AsJson, Column, Terminal, awaited, instant_text, size_text
from librarian.client.searching import read_query
from librarian.errors import BadRequest, NotFound
from librarian.states import Presence
from librarian.wire.base import in_utc
from librarian.wire.files import MOST_FILES, FileSummary

if TYPE_CHECKING:
    from librarian.wire.files import FileDescription

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGTP]?)(i?)B?")
_SPAN: Final = re.compile(r"(\d+)([mhdw])")
_SPANS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


def bytes_of(text: str) -> int:
    """``10GB`` is ten times 1000³ bytes, ``10GiB`` ten times 1024³.

    Raises
    ------
    BadRequest
        Not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BadRequest(f"{text!r} is not a size", remedy="Write it like 500, 10kB, 2.5GB or 4GiB.")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[unit.upper()])


def instant_of(text: str) -> datetime:
    """``2026-11-05``, ``2026-11-05T12:30``, or how long ago: ``90m``, ``12h``, ``7d``, ``2w``.

    Raises
    ------
    BadRequest
        Neither.
    """
    ago = _SPAN.fullmatch(text.strip())
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(**{_SPANS[ago[2]]: int(ago[1])})
        return in_utc(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError) as error:
        raise BadRequest(
            f"{text!r} is no date", remedy="Write it like 2026-11-05, 2026-11-05T12:30Z (UTC), or 7d for a week ago."
        ) from error


@awaited
async def search(
    match: Annotated[
        str | None,
        typer.Argument(metavar="PATTERN", help="Whole names: * (crosses slashes), ?, [a-z], [!a-z]. Quote it."),
    ] = None,
    *,
    since: Annotated[str | None, typer.Option(help="Taken in at or after: 2026-11-05, 12h, 7d.")] = None,
    until: Annotated[str | None, typer.Option(help="Taken in before.")] = None,
    uploader: Annotated[str | None, typer.Option(help="Account that uploaded it.")] = None,
    origin: Annotated[str | None, typer.Option(help="Site that took it in first.")] = None,
    store: Annotated[str | None, typer.Option(help="With a copy on this store.")] = None,
    kind: Annotated[str | None, typer.Option(help="file or book.")] = None,
    min_size: Annotated[str | None, typer.Option(help="At least: 10MB, 4GiB.")] = None,
    max_size: Annotated[str | None, typer.Option(help="At most.")] = None,
    order: Annotated[
        str | None, typer.Option(help="newest or name; by default by name where PATTERN starts with plain text.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Files at most.")] = 100,
    every: Annotated[bool, typer.Option("--all", help="However many there are.")] = False,
    as_json: AsJson = False,
    at: At = None,
) -> None:
    """Find files.

    Examples
    --------
        librarian search '2026/11/*'

        librarian search --since 7d --min-size 1GB --kind book

        librarian search --all --json '*.fits' | jq .checksum
    """
    terminal = Terminal(is_json=as_json)
    wanted: dict[str, object] = {
        "match": match,
        "since": since and instant_of(since),
        "until": until and instant_of(until),
        "uploader": uploader,
        "origin": origin,
        "store": store,
        "kind": kind,
        "min_size": min_size and bytes_of(min_size),
        "max_size": max_size and bytes_of(max_size),
        "order": order,
        "limit": MOST_FILES if every else min(limit, MOST_FILES),
    }
    query = read_query(wanted, remedy="See 'librarian search --help'.")
    found: list[FileSummary] = []
    is_more = False
    async with opened(at) as librarian:
        async for file in librarian.search(query):
            if not every and len(found) == limit:
                is_more = True
                break
            found.append(file)
            if every and len(found) == MOST_FILES:
                _print(terminal, found)
                found.clear()
    if found:
        _print(terminal, found)
    elif terminal.out.is_terminal and not every:
        terminal.note("No file matches.")
    if is_more:
        terminal.note(f"More than {limit:,} match: use --limit, --all, or a narrower search.")


_COLUMNS: Final = (
    Column(title="Name"),
    Column(title="Kind"),
    Column(title="Size", is_number=True),
    Column(title="Taken in (UTC)"),
    Column(title="Uploader"),
    Column(title="Origin"),
    Column(title="Checksum"),
)


def _print(terminal: Terminal, files: list[FileSummary]) -> None:
    terminal.table(
        _COLUMNS,
        [
            (
                (
                    file.name,
                    file.kind.value,
                    terminal.size(file.size),
                    terminal.instant(file.created_at),
                    file.uploader,
                    file.origin,
                    file.checksum,
                ),
                file,
            )
            for file in files
        ],
    )


@awaited
async def show(
    name: Annotated[str, typer.Argument(help="The file's name.")], *, as_json: AsJson = False, at: At = None
) -> None:
    """Tell everything about a file: its copies, what it still owes, and its story.

    Example: `librarian show 2026/11/book-001`
    """
    async with opened(at) as librarian:
        file = await librarian.describe(name)
    Terminal(is_json=as_json).one(file, text="\n".join(_told(file)))


def _told(file: FileDescription) -> list[str]:
    members = ""
    if file.member_count is not None:
        members = f", {file.member_count:,} member{'' if file.member_count == 1 else 's'}"
    lines = [
        file.name,
        f"  {file.kind}, {size_text(file.size)} ({file.size:,} bytes){members}",
        f"  {file.checksum}",
        f"  uploaded by {file.uploader} to {file.origin}, taken in {instant_text(file.created_at)} UTC",
        "Copies here:" if file.instances else "No copy here.",
    ]
    lines += [
        f"  {each.store}: {each.presence}{'' if each.intent == 'keep' else f', to {each.intent}'}, verified "
        f"{instant_text(each.verified_at)} from {each.verified_from}: {each.path or 'store not configured'}"
        for each in file.instances
    ]
    if file.remote_instances:
        lines.append("Copies at peers:")
        lines += [
            f"  {each.peer}{f' ({each.store})' if each.store else ''}, attested {instant_text(each.attested_at)}"
            for each in file.remote_instances
        ]
    if file.copies_due:
        lines.append("Still owed:")
        lines += [
            f"  rule {each.rule} to {each.peer or 'a store'}: {each.state}, {each.attempts} attempts, next "
            f"{instant_text(each.next_try_at)}{f' ({each.reason})' if each.reason else ''}"
            for each in file.copies_due
        ]
    lines.append("Story:")
    lines += [
        f"  {instant_text(each.at)}  {each.what} by {each.who}{f': {each.why}' if each.why else ''}"
        for each in file.story
    ]
    return lines


@awaited
async def where(
    name: Annotated[str, typer.Argument(help="The file's name.")], *, as_json: AsJson = False, at: At = None
) -> None:
    """Print the paths to open, best first: good copies only, as the librarian's machine sees them.

    Example: `h5dump "$(librarian where 2026/11/data.h5 | head -1)"`
    """
    async with opened(at) as librarian:
        file = await librarian.describe(name)
    good = [each for each in file.instances if each.presence is Presence.PRESENT and each.path is not None]
    good.sort(key=lambda each: (each.intent != "keep", not Path(each.path or "").exists()))
    terminal = Terminal(is_json=as_json)
    for each in good:
        terminal.one(each, text=each.path or "")
    if not good:
        peers = ", ".join(each.peer for each in file.remote_instances)
        raise NotFound(
            f"no good copy of {name!r} is at this site",
            remedy=f"Copies are at: {peers}." if peers else "Ask the operators: no copy is known anywhere.",
        )


@awaited
async def ping(*, as_json: AsJson = False, at: At = None) -> None:
    """Ask whether the librarian answers, who it is and who you are there.

    Example: `librarian ping --at nersc`
    """
    async with opened(at, patience=timedelta(0)) as librarian:
        await librarian.ping()
        started = time.perf_counter()
        site = await librarian.ping()
        took = time.perf_counter() - started
        url = librarian.connection.address.url
    roles = ", ".join(sorted(role.value for role in site.roles))
    Terminal(is_json=as_json).one(
        site,
        text=f"{site.name} at {url}: librarian {site.version}, protocol {site.protocol}; "
        f"you are {site.account} ({roles}); {took * 1000:.1f} ms",
    )
