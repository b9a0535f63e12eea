"""Migrations: from nothing to the tables that the mapped classes describe, on both databases."""

import warnings

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from librarian.catalog import migrations
from librarian.catalog.database import make_engine
from librarian.catalog.schema import SiteRow
from librarian.errors import ConfigurationError


def differences(connection) -> list:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    with warnings.catch_warnings():
        # SQLAlchemy cannot reflect indexes over expressions on SQLite; the next test looks at those by name.
        warnings.simplefilter("ignore")
        return compare_metadata(context, SiteRow.metadata)


async def test_mapped_classes_and_migrations_agree(database_url):
    engine = make_engine(database_url)

    async with engine.connect() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()

    assert found == []


async def test_every_index_of_the_mapped_classes_exists(database_url):
    wanted = {index.name for table in SiteRow.metadata.tables.values() for index in table.indexes}
    engine = make_engine(database_url)

    async with engine.connect() as connection:
        catalogue = (
            "SELECT name FROM sqlite_master WHERE type = 'index'"
            if engine.dialect.name == "sqlite"
            else "SELECT indexname FROM pg_indexes"
        )
        found = set((await connection.execute(text(catalogue))).scalars())
    await engine.dispose()

    assert wanted - found == set()


async def test_a_fresh_catalog_is_at_the_newest_revision(database_url):
    assert await migrations.current(database_url) == migrations.head()


async def test_upgrading_twice_does_nothing(database_url):
    await migrations.upgrade(database_url)

    assert await migrations.current(database_url) == migrations.head()


async def test_a_catalog_of_a_newer_librarian_is_refused(database_url):
    engine = make_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()

    with pytest.raises(ConfigurationError, match="9999"):
        await migrations.upgrade(database_url)


async def test_an_empty_database_has_no_revision(tmp_path):
    assert await migrations.current(f"sqlite+aiosqlite:///{tmp_path / 'empty.sqlite'}") is None


async def test_the_tables_have_the_names_the_documentation_uses(sqlite_url):
    engine = make_engine(sqlite_url)

    async with engine.connect() as connection:
        tables = await connection.run_sync(lambda c: set(inspect(c).get_table_names()))
    await engine.dispose()

    assert tables == {*SiteRow.metadata.tables, "alembic_version"}
