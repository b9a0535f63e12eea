"""Migrations: from an empty database, or an older catalog, to the tables of ``schema``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from librarian.catalog.database import make_engine, translated
from librarian.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Connection

_HERE: Final = Path(__file__).parent


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The revision that this program works with."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    assert found is not None  # noqa: S101 - the package carries its revisions
    return found


def known() -> frozenset[str]:
    """Every revision this program has heard of."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


async def current(url: str, *, password: str | None = None) -> str | None:
    """The revision that the database at *url* is at; None when it is empty.

    Raises
    ------
    DatabaseUnavailable
        It does not answer.
    """
    engine = make_engine(url, password=password)
    try:
        with translated():
            async with engine.connect() as connection:
                return await connection.run_sync(lambda c: MigrationContext.configure(c).get_current_revision())
    finally:
        await engine.dispose()


async def upgrade(url: str, *, password: str | None = None) -> None:
    """Bring the database at *url* to ``head``. A repeat does nothing.

    Raises
    ------
    DatabaseUnavailable
        It does not answer.
    ConfigurationError
        It was written by a newer librarian.
    """
    await refuse_newer(url, password=password)
    engine = make_engine(url, password=password)
    try:
        with translated():
            async with engine.begin() as connection:
                await connection.run_sync(lambda c: command.upgrade(_config(c), "head"))
    finally:
        await engine.dispose()


async def refuse_newer(url: str, *, password: str | None = None) -> None:
    """Raise ConfigurationError when the database is at a revision this program has never heard of."""
    at = await current(url, password=password)
    if at is not None and at not in known():
        raise ConfigurationError(
            f"the catalog is at revision {at!r}, this librarian knows revisions up to {head()!r}",
            remedy="A newer librarian wrote it: install that version, or restore a backup from before.",
        )


def upgrade_blocking(url: str) -> None:
    """Call ``upgrade`` from outside any event loop."""
    asyncio.run(upgrade(url))
