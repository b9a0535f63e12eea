"""``rule``: which files must get a copy where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from librarian.admin.arguments import checked
from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Column, Terminal, awaited, counted, instant_text, new_app, size_text
from librarian.errors import BadRequest
from librarian.names import RuleName
from librarian.policies import RulePolicy
from librarian.states import RuleWay as RuleRoad
from librarian.wire.rules import RuleDescription, RuleList, RuleRemoval, RuleWhy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from librarian.wire.rules import DueGroup, FileWhy, RuleWay

app = new_app("Which files must get a copy where.")

Name = Annotated[str, typer.Argument(help="The rule's name.")]


@app.command("add")
@awaited
async def add(
    context: typer.Context,
    name: Name,
    to: Annotated[str | None, typer.Option("--to", metavar="PEER", help="The peer that must hold a copy.")] = None,
    drive: Annotated[
        list[str] | None,
        typer.Option("--drive", metavar="GLOB", help="Carry them to the peer on drives of these names."),
    ] = None,
    store: Annotated[
        list[str] | None,
        typer.Option("--store", metavar="GLOB", help="Copy them onto stores of ours; may be given several times."),
    ] = None,
    copies: Annotated[
        str | None, typer.Option("--copies", help="One copy on 'any' of the stores (the default), or on 'each'.")
    ] = None,
    match: Annotated[
        list[str] | None, typer.Option("--match", metavar="GLOB", help="Names; may be given several times; all.")
    ] = None,
    from_store: Annotated[
        str | None, typer.Option("--from", metavar="STORE", help="Only files with a copy on this store.")
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option("--engine", help="May be given several times, the preferred one first; any that can."),
    ] = None,
    batch_files: Annotated[int | None, typer.Option("--batch-files", help="Files in one batch, at most.")] = None,
    batch_size: Annotated[
        str | None, typer.Option("--batch-size", metavar="SIZE", help="Bytes in one batch, as '1TB', at most.")
    ] = None,
    batch_age: Annotated[
        str | None, typer.Option("--batch-age", metavar="SPAN", help="Less than a batch waits so long: '10 min'.")
    ] = None,
    min_age: Annotated[
        str | None, typer.Option("--min-age", metavar="SPAN", help="Only files at least this old, as '2 days'.")
    ] = None,
    priority: Annotated[int | None, typer.Option("--priority", help="The higher goes first; 0.")] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            "--window", metavar="WINDOW", help="When it is offered, as '20:00-06:00 UTC'; may be given several times."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a rule, or replace one of that name: every file that matches must get a copy at a peer, or on our stores.

    Files that are here already are looked at by and by; 'rule list' tells how far that is. What was on its way for
    a rule that is replaced arrives all the same.

    Example: python -m librarian.admin rule add everything --to nersc

    Example: python -m librarian.admin rule add second-copy --store slow

    Example: python -m librarian.admin rule add by-post --to nersc --drive "A*"

    Example: python -m librarian.admin rule add nights --to nersc --match "2026/*" --engine globus --batch-size 1TB
    """
    if (drive is not None and (to is None or store)) or (to is None) is (store is None):
        raise BadRequest(
            "a rule sends to a peer, carries to one on drives, or copies onto our stores",
            remedy="Give '--to PEER', '--to PEER --drive GLOB', or '--store GLOB'.",
        )
    asked = {
        "peer": to,
        "stores": drive or store or None,
        "copies": copies,
        "match": match or None,
        "from_store": from_store,
        "engines": engine or None,
        "batch_files": batch_files,
        "batch_bytes": batch_size,
        "batch_age": batch_age,
        "min_age": min_age,
        "priority": priority,
        "windows": window or None,
    }
    body = checked(RulePolicy, **{key: value for key, value in asked.items() if value is not None})
    async with reach(context.obj) as client:
        rule = await client.request("PUT", f"/rules/{RuleName(name)}", body=body, answer=RuleDescription)
    walk = " Files that are here already are looked at now." if rule.is_backfilling else ""
    text = f"The rule '{rule.name}' {_verb(rule.policy)} {_what(rule.policy)}.{walk}"
    Terminal(is_json=as_json).one(rule, text=text)


@app.command("list")
@awaited
async def list_rules(context: typer.Context, as_json: AsJson = False) -> None:
    """List every replication rule.

    Example: python -m librarian.admin rule list
    """
    async with reach(context.obj) as client:
        found = await client.request("GET", "/rules", answer=RuleList)
    titles = ("name", "to", "match", "engines", "applies", "back-filled", "priority", "made in")
    columns = [Column(title=title, is_number=title in ("back-filled", "priority")) for title in titles]
    Terminal(is_json=as_json).table(columns, [(_cells(rule), rule) for rule in found.rules])


@app.command("remove")
@awaited
async def remove(
    context: typer.Context,
    name: Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what that would mean.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a rule: nothing is owed to it any more. What is on its way arrives all the same, and no copy is lost.

    Example: python -m librarian.admin rule remove nights --dry-run
    """
    query = {"dry_run": "true"} if dry_run else {}
    async with reach(context.obj) as client:
        told = await client.request("DELETE", f"/rules/{RuleName(name)}", query=query, answer=RuleRemoval)
    copies = counted(told.waived_files, "copy", "copies")
    text = (
        f"{'Would remove' if told.is_dry_run else 'Removed'} the rule '{told.name}': {copies} "
        f"({size_text(told.waived_bytes)}) owed no longer; on their way, and arriving all the same: "
        f"{told.under_way_files:,}."
    )
    Terminal(is_json=as_json).one(told, text=text)


@app.command("why")
@awaited
async def why(
    context: typer.Context,
    name: Name,
    file: Annotated[str | None, typer.Option("--file", help="Tell what it means for this file as well.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell why a rule's files go or do not go, and by which engine.

    Example: python -m librarian.admin rule why nights --file 2026/11/book-001
    """
    query = {} if file is None else {"file": file}
    async with reach(context.obj) as client:
        told = await client.request("GET", f"/rules/{RuleName(name)}/why", query=query, answer=RuleWhy)
    Terminal(is_json=as_json).one(told, text="\n".join(_lines(told)))


def _cells(rule: RuleDescription) -> tuple[str, ...]:
    return (
        rule.name,
        _where(rule.policy),
        " ".join(rule.policy.match),
        " ".join(rule.policy.engines) or "any",
        "yes" if rule.applies else "no",
        _share(rule),
        str(rule.policy.priority),
        "settings" if rule.is_from_settings else "catalog",
    )


def _verb(policy: RulePolicy) -> str:
    return {RuleRoad.NETWORK: "sends", RuleRoad.CARRIED: "carries", RuleRoad.LOCAL: "copies"}[policy.way]


def _what(policy: RulePolicy) -> str:
    return f"{' '.join(policy.match)} to {_where(policy)}"


def _where(policy: RulePolicy) -> str:
    """Where the copies are to be."""
    stores = " ".join(policy.stores)
    if policy.peer is None:
        return f"each of {stores}" if policy.copies == "each" else f"any of {stores}"
    return f"{policy.peer} on {stores}" if stores else policy.peer


def _share(rule: RuleDescription) -> str:
    return f"{rule.backfilled * 100:.0f} %"


def _lines(told: RuleWhy) -> Iterator[str]:
    rule = told.rule
    yield f"rule '{rule.name}': {_what(rule.policy)}, back-filled {_share(rule)}"
    yield from (f"kept back: {obstacle}" for obstacle in told.obstacles)
    if told.traffic is not None and told.traffic.changes_at is not None:
        yield f"the windows of the peer open or close next at {instant_text(told.traffic.changes_at)} UTC"
    for way in told.ways:
        yield from _way(way)
    yield from map(_due, told.due)
    if not told.due:
        yield "nothing is due"
    if told.file is not None:
        yield _file(told.file)


def _way(way: RuleWay) -> Iterator[str]:
    yield f"from '{way.from_store}' to '{way.to_store}': by {way.engine or 'no engine'}"
    yield from (f"  not by {look.engine}: {look.why_not}. {look.remedy}" for look in way.looks if look.why_not)


def _due(group: DueGroup) -> str:
    reason = f": {group.example}" if group.example else ""
    return f"{group.state.value}: {counted(group.files, 'copy', 'copies')}, {size_text(group.bytes)}{reason}"


def _file(file: FileWhy) -> str:
    asked = "asked for" if file.is_asked else "not asked for"
    again = (
        "" if file.next_try_at is None else f"; {file.attempts} failed tries, the next {instant_text(file.next_try_at)}"
    )
    return f"file {file.name}: {asked}; {file.told}{again}"
