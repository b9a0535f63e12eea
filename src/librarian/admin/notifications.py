"""``notify``: whether people can be told where they are."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import typer

from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Terminal, awaited, new_app
from librarian.wire.notifications import NotificationTest

app = new_app("Telling people in Slack.")

#: Longer than the server waits for Slack.
_PATIENCE: Final = timedelta(minutes=1)
#: Slack did not take it: as for any peer that is away.
_FAILED: Final = 3


@app.command("test")
@awaited
async def send_test(context: typer.Context, as_json: AsJson = False) -> None:
    """Send a message to Slack now, and tell exactly what it answered and what helps.

    Exits with 3 when Slack did not take it.

    Example: python -m librarian.admin notify test
    """
    async with reach(context.obj) as client:
        told = await client.request(
            "POST", "/notifications/test", answer=NotificationTest, repeats=False, silence=_PATIENCE
        )
    text = f"Slack has the message: {told.said}." if told.is_taken else f"Slack does not have it: {told.said}."
    Terminal(is_json=as_json).one(told, text=f"{text}\n{told.remedy}".rstrip())
    if not told.is_taken:
        raise typer.Exit(_FAILED)


# A group with one command alone would itself become that command.
@app.callback()
def notify_group() -> None:
    """Telling people in Slack."""
