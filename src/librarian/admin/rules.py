"""``rule``: which files must get a copy where."""

from __future__ import annotations

import typer

from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Column, Terminal, awaited, new_app
from librarian.wire.rules import RuleList

app = new_app("Which files must get a copy where. They are made in the settings.")


@app.command("list")
@awaited
async def list_rules(context: typer.Context, as_json: AsJson = False) -> None:
    """List every replication rule.

    Example: python -m librarian.admin rule list
    """
    async with reach(context.obj) as client:
        found = await client.request("GET", "/rules", answer=RuleList)
    columns = [Column(title=title) for title in ("name", "peer", "match", "engines", "applies", "back-filling")]
    rows = [
        (
            (
                rule.name,
                rule.policy.peer,
                " ".join(rule.policy.match),
                " ".join(rule.policy.engines) or "any",
                "yes" if rule.applies else "no",
                "yes" if rule.is_backfilling else "no",
            ),
            rule,
        )
        for rule in found.rules
    ]
    Terminal(is_json=as_json).table(columns, rows)


# One command alone would become the whole program.
@app.callback()
def rule() -> None:
    """Which files must get a copy where. They are made in the settings."""
