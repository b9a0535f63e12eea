"""Runs revisions over the connection that ``migrations`` opened."""

from __future__ import annotations

from alembic import context

from librarian.catalog import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.SiteRow.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
