"""``database``: the catalog's tables, their soundness, and copies of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from librarian.admin.reach import Target
from librarian.catalog import backup, migrations
from librarian.catalog.lock import owner_lock
from librarian.cli.terminal import AsJson, Terminal, awaited, new_app
from librarian.errors import BadRequest, IntegrityError
from librarian.settings import Settings

app = new_app("The catalog's database. These commands open it themselves, so that they run where it is.")


@app.command("migrate")
@awaited
async def migrate(context: typer.Context, as_json: AsJson = False) -> None:
    """Bring the catalog to the tables of this version. Back it up before. A repeat does nothing.

    Example: python -m librarian.admin --config site.toml database migrate
    """
    settings = _settings(context.obj)
    url, password = settings.database_url, settings.database_password
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = owner_lock(url, password=password)
    await lock.take()
    try:
        before = await migrations.current(url, password=password)
        await migrations.upgrade(url, password=password)
    finally:
        await lock.release()
    told = {"before": before, "after": migrations.head()}
    Terminal(is_json=as_json).one(told, text=f"The catalog is at revision {told['after']} (was: {before or 'empty'}).")


@app.command("check")
@awaited
async def check(context: typer.Context, as_json: AsJson = False) -> None:
    """Look for damage and contradictions in the catalog; exits with 4 when there are any. Only reads.

    Example: python -m librarian.admin database check
    """
    settings = _settings(context.obj)
    problems = await backup.check(settings.database_url, password=settings.database_password)
    if problems:
        raise IntegrityError(
            "the catalog is not sound:" + "".join(f"\n  - {problem}" for problem in problems),
            remedy="Keep it as it is, and restore a backup next to it; see the how-to 'back up and restore'.",
            details={"problems": list(problems)},
        )
    Terminal(is_json=as_json).one({"problems": []}, text="The catalog is sound.")


@app.command("backup")
@awaited
async def back_up(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    as_json: AsJson = False,
) -> None:
    """Write a consistent copy of the catalog while it is in use.

    Example: python -m librarian.admin database backup /backups/catalog-2026-11-24
    """
    settings = _settings(context.obj)
    await backup.back_up(settings.database_url, target, password=settings.database_password)
    size = target.stat().st_size
    told = {"path": str(target), "size": size}
    Terminal(is_json=as_json).one(told, text=f"Wrote {target}, {size:,} bytes.")


def _settings(target: Target) -> Settings:
    if target.url is not None:
        raise BadRequest(
            "the database cannot be reached through a URL", remedy="Run this beside it, with --config or none."
        )
    return target.settings()
