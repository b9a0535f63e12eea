"""``drive status``: where each drive stands, and how many more will be needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Terminal, awaited, counted, size_text, span_text
from librarian.states import DriveState
from librarian.wire.journeys import DriveStatus, Journey, Outlook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from librarian.wire.site import TallyStatus

#: Characters of a bar.
_BAR = 20


@awaited
async def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Tell where each drive stands, what is still due, and how many more drives that takes.

    Rates are those of the last seven days. The page /drives of the server shows the same.

    Example: python -m librarian.admin drive status
    """
    async with reach(context.obj) as client:
        found = await client.request("GET", "/status/drives", answer=DriveStatus)
    Terminal(is_json=as_json).one(found, text="\n".join(lines_of(found)))


def lines_of(found: DriveStatus) -> list[str]:
    """*found* as people read it, in the order of the page /drives."""
    lines = [line for drive in found.drives for line in _drive(drive)] or ["There is no drive yet."]
    return [*lines, *(line for rule in found.rules for line in _rule(rule))]


def _drive(drive: Journey) -> Iterator[str]:
    filled = round(_BAR * min(drive.held.bytes / drive.size, 1)) if drive.size else 0
    bar = f"[{'#' * filled}{'.' * (_BAR - filled)}]"
    on_it = f"{size_text(drive.held.bytes)} of {size_text(drive.size)}, {counted(drive.held.files)}"
    state = f"{drive.state.value} for {span_text(drive.age_seconds)}, by {drive.who}"
    where = f"plugged in at {drive.path}" if drive.is_plugged else f"not plugged in, last at {drive.path}"
    yield f"{drive.name}  {bar} {on_it}; {state}; round {drive.round}; {where}"
    if drive.carried and drive.confirmed and drive.waiting and drive.failed:
        told = f"confirmed {drive.confirmed.files:,} of {counted(drive.carried.files)} by {drive.to}"
        rest = f"waiting {_amount(drive.waiting)}; failed {_amount(drive.failed)}"
        yield f"    {told}, {size_text(drive.confirmed.bytes)}; {rest}"
        if drive.state is DriveState.RECEIVED and not drive.waiting.files:
            yield f"    nothing on it is waited for any more: see 'drive release {drive.name} --dry-run'"
    if drive.is_plugged and drive.problem:
        yield f"    {drive.problem}"


def _rule(rule: Outlook) -> Iterator[str]:
    yield f"rule {rule.rule} to {rule.to} on {', '.join(rule.drives)}: on no drive yet: {_amount(rule.due)}"
    full = ""
    if rule.due.bytes >= rule.room_bytes > 0:
        full = ", which what is due fills"
    elif rule.full_in_seconds:
        full = f", full in {span_text(rule.full_in_seconds)}"
    room = f"room on drives being loaded: {size_text(rule.room_bytes)}{full}"
    yield f"    {room}; arriving: {size_text(rule.bytes_per_day)} a day"
    if rule.quarantined.files:
        yield f"    in quarantine: {_amount(rule.quarantined)}; see 'transfer stopped --peer {rule.to}'"
    if rule.drive_bytes is None:
        yield "    no drive fits this rule yet"
    else:
        now = counted(rule.drives_due, "more drive") if rule.drives_due else "no more drives"
        yield f"    needs {now} of {size_text(rule.drive_bytes)} now, then {rule.drives_per_week:g} a week"


def _amount(tally: TallyStatus) -> str:
    return f"{counted(tally.files)}, {size_text(tally.bytes)}" if tally.files else "none"
