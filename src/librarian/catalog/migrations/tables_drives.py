"""The first tables of drives, and of what travels on them: a part of revision 0001."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

ROW_ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
#: Microseconds since 1970, UTC.
INSTANT: Final = sa.BigInteger()

# fmt: off


def create() -> None:
    """Make the tables; those of stores and peers exist."""
    _drives()
    _manifests()
    _receptions()


def _drives() -> None:
    op.create_table("drives", sa.Column("id", ROW_ID, nullable=False), sa.Column("store_id", ROW_ID, nullable=False),
        sa.Column("serial", sa.Text(), nullable=True), sa.Column("filesystem", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False), sa.Column("full_at", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False), sa.Column("since", INSTANT, nullable=False),
        sa.Column("who", sa.Text(), nullable=False), sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False), sa.Column("is_plugged", sa.Boolean(), nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False), sa.ForeignKeyConstraint(["store_id"], ["stores.id"], ),
        sa.PrimaryKeyConstraint("id"), sa.UniqueConstraint("store_id"))


def _manifests() -> None:
    op.create_table("manifests", sa.Column("id", ROW_ID, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False), sa.Column("drive_id", ROW_ID, nullable=False),
        sa.Column("round", sa.Integer(), nullable=False), sa.Column("peer_id", ROW_ID, nullable=False),
        sa.Column("head", sa.Text(), nullable=False), sa.Column("seal", sa.Text(), nullable=True),
        sa.Column("files", sa.BigInteger(), nullable=False), sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_files", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("confirmed_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed_files", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("sealed_at", INSTANT, nullable=False), sa.Column("sealed_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["drive_id"], ["drives.id"], ), sa.ForeignKeyConstraint(["peer_id"], ["peers.id"], ),
        sa.PrimaryKeyConstraint("id"), sa.UniqueConstraint("uuid"))
    op.create_index("manifests_by_drive", "manifests", ["drive_id", "round"], unique=True)
    op.create_table("misfits", sa.Column("file_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("store_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], ), sa.ForeignKeyConstraint(["store_id"], ["stores.id"], ),
        sa.PrimaryKeyConstraint("file_id", "store_id"))
    op.create_table("manifest_parts", sa.Column("manifest_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("lines", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["manifest_id"], ["manifests.id"], ),
        sa.PrimaryKeyConstraint("manifest_id", "number"))


def _receptions() -> None:
    op.create_table("receptions", sa.Column("id", ROW_ID, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False), sa.Column("drive", NAME, nullable=False),
        sa.Column("origin", NAME, nullable=False), sa.Column("peer_id", ROW_ID, nullable=True),
        sa.Column("head", sa.Text(), nullable=False), sa.Column("path", sa.Text(), nullable=False),
        sa.Column("account", NAME, nullable=False), sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("entries", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_try_at", INSTANT, nullable=False), sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("progressed_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["peer_id"], ["peers.id"], ), sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("uuid"))
    op.create_index("receptions_live", "receptions", ["next_try_at", "id"],
        sqlite_where=sa.text("state = 'receiving'"), postgresql_where=sa.text("state = 'receiving'"))
