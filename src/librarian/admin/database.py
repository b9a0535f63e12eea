"""``database``: the catalog's tables, their soundness, and copies of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from librarian.admin.reach import Target
from librarian.catalog import backup, migrations
from librarian.catalog.lock import owner_lock
from librarian.cli.terminal import AsJson, Terminal, awaited, new_app
from librarian.errors import IntegrityError
from librarian.settings import check_settings

app = new_app("The catalog's database. These commands open it themselves, so that they run where it is.")


@app.command("migrate")
@awaited
async def migrate(context: typer.Context, as_json: AsJson = False) -> None:
    """Bring the catalog to the tables of this version. Back it up before. A repeat does nothing.

    Example: python -m librarian.admin --config site.toml database migrate
    """
    target: Target = context.obj
    settings = target.settings()
    check_settings(settings, target.config)
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
async def check(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="BACKUP", help="Look at this backup instead.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for damage and contradictions in the catalog, or a backup; exits with 4 when there are any. Only reads.

    Example: python -m librarian.admin database check
    """
    if file is not None:
        what, problems = str(file), await backup.check_backup(file)
    else:
        settings = context.obj.settings()
        what = "the catalog"
        problems = await backup.check(settings.database_url, password=settings.database_password)
    if problems:
        raise IntegrityError(
            f"{what} is not sound:" + "".join(f"\n  - {problem}" for problem in problems),
            remedy="Keep it as it is; the how-to 'back up and restore' says what can be done.",
            details={"problems": list(problems)},
        )
    Terminal(is_json=as_json).one({"problems": []}, text=f"{file or 'The catalog'} is sound.")


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
    settings = context.obj.settings()
    size = await backup.back_up(settings.database_url, target, password=settings.database_password)
    told = {"path": str(target), "size": size}
    Terminal(is_json=as_json).one(told, text=f"Wrote {target}, {size:,} bytes.")
