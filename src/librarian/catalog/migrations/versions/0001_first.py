"""The first tables.

Revision ID: 0001
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

from librarian.catalog.migrations import tables_drives

revision: Final = "0001"
down_revision: Final = None
branch_labels: Final = None
depends_on: Final = None

ROW_ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
#: Microseconds since 1970, UTC.
INSTANT: Final = sa.BigInteger()

_ESTIMATES: Final = (
    ("incoming_transfers", "incoming_once", "100000 20000 1"),
    ("incoming_transfers", "incoming_live_name", "4000 1"),
    ("incoming_transfers", "incoming_by_state", "4000 1000 10 1"),
    ("incoming_transfers", "incoming_staging", "4000 1"),
    ("incoming_transfers", "incoming_by_name", "100000 2 1"),
    ("incoming_transfers", "incoming_by_reception", "100000 20000 5000 1"),
    ("incoming_transfers", "sqlite_autoindex_incoming_transfers_1", "100000 1"),
    ("outgoing_transfers", "outgoing_live_once", "4000 1000 2 1"),
    ("outgoing_transfers", "outgoing_by_manifest", "100000 20000 1"),
    ("outgoing_transfers", "outgoing_by_state", "4000 1000 1"),
    ("outgoing_transfers", "outgoing_by_batch", "100000 1000 1"),
    ("outgoing_transfers", "outgoing_by_file", "100000 2 1"),
    ("outgoing_transfers", "sqlite_autoindex_outgoing_transfers_1", "100000 1"),
    ("copies_due", "copies_due_now", "100000 20000 1000 1"),
    ("copies_due", "copies_due_by_peer", "100000 20000 1"),
    ("copies_due", "copies_due_by_rule", "100000 20000 1"),
    ("copies_due", "copies_due_stopped", "1000 1 1"),
    ("copies_due", "copies_due_on_store", "10000 10000 5000 1000 1"),
    ("copies_due", "sqlite_autoindex_copies_due_1", "100000 2 2 1"),
    ("outbox", "outbox_next", "10000 2000 1"),
    ("outbox", "outbox_by_subject", "10000 2000 2 1"),
    ("remote_instances", "remote_instances_once", "100000 2 1"),
    ("remote_instances", "remote_instances_by_peer", "100000 20000 1"),
    ("told", "sqlite_autoindex_told_1", "100000 2 1"),
    ("told", "told_lost", "100 50 1"),
    ("instances", "instances_once", "1000000 2 1"),
    ("instances", "instances_by_store", "1000000 300000 1"),
    ("instances", "instances_suspect", "100 2 1"),
    ("events", "events_by_subject", "3000000 4 1"),
    ("events", "events_by_age", "3000000 1"),
    ("files", "sqlite_autoindex_files_1", "1000000 1"),
    ("files", "files_by_age", "1000000 2 1"),
    ("files", "files_by_uploader", "1000000 10000 2 1"),
    ("files", "files_by_origin", "1000000 200000 2 1"),
    ("files", "files_by_size", "1000000 2 1"),
    ("files", "files_by_checksum", "1000000 2"),
)

# fmt: off


def upgrade() -> None:
    """Make every table."""
    _accounts()
    _alerts()
    _notifications()
    _events()
    _files()
    _pairings()
    _peers()
    _site()
    _stores()
    _tallies()
    _batches()
    tables_drives.create()
    _rules()
    _incoming_transfers()
    _instances()
    _members()
    _outbox()
    _remote_instances()
    _told()
    _copies_due()
    _outgoing_transfers()
    if op.get_bind().dialect.name == "sqlite":
        _estimates()


def _estimates() -> None:
    """Tell SQLite's planner how selective each index is in a catalog that has grown.

    It has no other way to know: without estimates it takes "state = ?" for a better start than a key, and nobody runs
    ANALYZE. The numbers are rows in the index, then rows per distinct value of its first column, of its first two, …
    Source: sqlite.org/fileformat2.html, "The sqlite_stat1 table".
    """
    op.execute("ANALYZE")
    rows = [{"tbl": table, "idx": index, "stat": stat} for table, index, stat in _ESTIMATES]
    op.bulk_insert(sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat")), rows)


def _accounts() -> None:
    op.create_table("accounts", sa.Column("id", ROW_ID, nullable=False), sa.Column("name", NAME, nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("next_hash", sa.Text(), nullable=True), sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False), sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False), sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"))


def _alerts() -> None:
    op.create_table("alerts", sa.Column("id", ROW_ID, nullable=False), sa.Column("cause", NAME, nullable=False),
        sa.Column("message", sa.Text(), nullable=False), sa.Column("remedy", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False), sa.Column("first_at", INSTANT, nullable=False),
        sa.Column("last_at", INSTANT, nullable=False), sa.Column("acknowledged_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id"), sa.UniqueConstraint("cause"))


def _notifications() -> None:
    op.create_table("notifications", sa.Column("id", ROW_ID, nullable=False), sa.Column("cause", NAME, nullable=False),
        sa.Column("message", sa.Text(), nullable=False), sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_at", INSTANT, nullable=False), sa.Column("tell_at", INSTANT, nullable=False),
        sa.Column("told_at", INSTANT, nullable=True), sa.PrimaryKeyConstraint("id"), sa.UniqueConstraint("cause"))
    op.create_index("notifications_waiting", "notifications", ["tell_at"],
        sqlite_where=sa.text("count > 0"), postgresql_where=sa.text("count > 0"))


def _events() -> None:
    op.create_table("events", sa.Column("id", ROW_ID, nullable=False), sa.Column("at", INSTANT, nullable=False),
        sa.Column("subject", NAME, nullable=False), sa.Column("what", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False), sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"))
    op.create_index("events_by_age", "events", ["at"])
    op.create_index("events_by_subject", "events", ["subject", "id"])


def _files() -> None:
    op.create_table("files", sa.Column("id", ROW_ID, nullable=False), sa.Column("name", NAME, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False), sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("checksum", NAME, nullable=False), sa.Column("uploader", NAME, nullable=False),
        sa.Column("origin", NAME, nullable=False), sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id"), sa.UniqueConstraint("name"))
    op.create_index("files_by_age", "files", ["created_at", "id"])
    op.create_index("files_by_checksum", "files", ["checksum"])
    op.create_index("files_by_origin", "files", ["origin", "created_at", "id"])
    op.create_index("files_by_size", "files", ["size", "id"])
    op.create_index("files_by_uploader", "files", ["uploader", "created_at", "id"])


def _pairings() -> None:
    op.create_table("pairings", sa.Column("id", ROW_ID, nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False), sa.Column("name", NAME, nullable=False),
        sa.Column("is_ours", sa.Boolean(), nullable=False), sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("accepts", sa.Text(), nullable=True), sa.Column("authority", sa.Text(), nullable=True),
        sa.Column("public_key", sa.Text(), nullable=True),
        sa.Column("terms", sa.LargeBinary(), nullable=True), sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("joined_at", INSTANT, nullable=True), sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id"), sa.UniqueConstraint("secret_hash"))


def _peers() -> None:
    op.create_table("peers", sa.Column("id", ROW_ID, nullable=False), sa.Column("name", NAME, nullable=False),
        sa.Column("url", sa.Text(), nullable=False), sa.Column("username", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False), sa.Column("authority", sa.Text(), nullable=True),
        sa.Column("next_secret", sa.LargeBinary(), nullable=True), sa.Column("public_key", sa.Text(), nullable=True),
        sa.Column("reach", sa.Text(), nullable=False),
        sa.Column("is_fetched", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False), sa.Column("accepts", sa.Text(), nullable=False),
        sa.Column("entry_points", sa.Text(), nullable=False), sa.Column("held_because", sa.Text(), nullable=True),
        sa.Column("flow", sa.Text(), server_default=sa.text("'open'"), nullable=False),
        sa.Column("rate_limit", sa.BigInteger(), nullable=True),
        sa.Column("windows", sa.Text(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("staged_budget", sa.BigInteger(), nullable=True),
        sa.Column("seen_epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("seen_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("sent_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_heard_at", INSTANT, nullable=True), sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id"), sa.UniqueConstraint("name"))


def _site() -> None:
    op.create_table("site", sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False), sa.Column("name", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False), sa.Column("restored_at", INSTANT, nullable=True),
        sa.Column("restored_why", sa.Text(), nullable=True),
        sa.Column("signing_key", sa.LargeBinary(), nullable=True), sa.PrimaryKeyConstraint("id"))


def _stores() -> None:
    op.create_table("stores", sa.Column("id", ROW_ID, nullable=False), sa.Column("name", NAME, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False), sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False), sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id"), sa.UniqueConstraint("name"), sa.UniqueConstraint("uuid"))


def _tallies() -> None:
    op.create_table("tallies", sa.Column("subject", NAME, nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False), sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject"))


def _batches() -> None:
    op.create_table("batches", sa.Column("id", ROW_ID, nullable=False),
        sa.Column("peer_id", ROW_ID, nullable=False), sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("store", sa.Text(), nullable=False), sa.Column("key", sa.Text(), nullable=True),
        sa.Column("handle", sa.Text(), nullable=True), sa.Column("state", sa.Text(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False), sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("bytes_done", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_try_at", INSTANT, nullable=False), sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False), sa.Column("progressed_at", INSTANT, nullable=False),
        sa.Column("silent_since", INSTANT, nullable=True), sa.Column("ended_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["peer_id"], ["peers.id"], ), sa.PrimaryKeyConstraint("id"))
    op.create_index("batches_live", "batches", ["state", "next_try_at", "id"],
        sqlite_where=sa.text("state IN ('queued', 'submitting', 'active', 'held')"),
        postgresql_where=sa.text("state IN ('queued', 'submitting', 'active', 'held')"))


def _incoming_transfers() -> None:
    op.create_table("incoming_transfers", sa.Column("id", ROW_ID, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False), sa.Column("arrival", sa.Text(), nullable=False),
        sa.Column("peer_id", ROW_ID, nullable=True), sa.Column("account", NAME, nullable=False),
        sa.Column("reception_id", ROW_ID, nullable=True), sa.Column("source_store_id", ROW_ID, nullable=True),
        sa.Column("rule_id", ROW_ID, nullable=True),
        sa.Column("name", NAME, nullable=False), sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False), sa.Column("checksum", sa.Text(), nullable=True),
        sa.Column("uploader", sa.Text(), nullable=False), sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("file_created_at", INSTANT, nullable=True), sa.Column("store_id", ROW_ID, nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False), sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True), sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("has_staging", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_try_at", INSTANT, nullable=False),
        sa.Column("notice_epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("notice_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False), sa.Column("progressed_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["peer_id"], ["peers.id"], ),
        sa.ForeignKeyConstraint(["store_id"], ["stores.id"], ),
        sa.ForeignKeyConstraint(["reception_id"], ["receptions.id"], ),
        sa.ForeignKeyConstraint(["source_store_id"], ["stores.id"], ),
        sa.ForeignKeyConstraint(["rule_id"], ["rules.id"], ), sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token"))
    op.create_index("incoming_by_name", "incoming_transfers", ["name", "id"])
    op.create_index("incoming_by_reception", "incoming_transfers", ["reception_id", "state", "id"],
        sqlite_where=sa.text("reception_id IS NOT NULL"), postgresql_where=sa.text("reception_id IS NOT NULL"))
    op.create_index("incoming_by_state", "incoming_transfers", ["state", "next_try_at", "id"],
        sqlite_where=sa.text("state IN ('initiated', 'ongoing', 'staged', 'ingesting')"),
        postgresql_where=sa.text("state IN ('initiated', 'ongoing', 'staged', 'ingesting')"))
    live_on_the_network = sa.text(
        "state IN ('initiated', 'ongoing', 'staged', 'ingesting') AND arrival IN ('upload', 'clone')")
    op.create_index("incoming_live_name", "incoming_transfers", ["name"], unique=True,
        sqlite_where=live_on_the_network, postgresql_where=live_on_the_network)
    op.create_index("incoming_once", "incoming_transfers", [sa.text("coalesce(peer_id, 0)"), "uuid"], unique=True)
    op.create_index("incoming_staging", "incoming_transfers", ["id"], sqlite_where=sa.text("has_staging"),
        postgresql_where=sa.text("has_staging"))


def _instances() -> None:
    op.create_table("instances", sa.Column("id", ROW_ID, nullable=False),
        sa.Column("file_id", ROW_ID, nullable=False), sa.Column("store_id", ROW_ID, nullable=False),
        sa.Column("presence", sa.Text(), nullable=False), sa.Column("intent", sa.Text(), nullable=False),
        sa.Column("verified_at", INSTANT, nullable=False), sa.Column("verified_from", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False), sa.ForeignKeyConstraint(["file_id"], ["files.id"], ),
        sa.ForeignKeyConstraint(["store_id"], ["stores.id"], ), sa.PrimaryKeyConstraint("id"))
    op.create_index("instances_by_store", "instances", ["store_id", "file_id"])
    op.create_index("instances_suspect", "instances", ["file_id", "store_id"],
        sqlite_where=sa.text("presence = 'suspect'"), postgresql_where=sa.text("presence = 'suspect'"))
    op.create_index("instances_once", "instances", ["file_id", "store_id"], unique=True)


def _members() -> None:
    op.create_table("members", sa.Column("file_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("listing", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], ), sa.PrimaryKeyConstraint("file_id"))


def _outbox() -> None:
    op.create_table("outbox", sa.Column("id", ROW_ID, nullable=False),
        sa.Column("peer_id", ROW_ID, nullable=False), sa.Column("subject", NAME, nullable=False),
        sa.Column("state", sa.Text(), nullable=False), sa.Column("body", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True), sa.Column("epoch", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_try_at", INSTANT, nullable=False),
        sa.Column("set_aside_because", sa.Text(), nullable=True), sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["peer_id"], ["peers.id"], ), sa.PrimaryKeyConstraint("id"))
    op.create_index("outbox_by_subject", "outbox", ["peer_id", "subject", "id"])
    op.create_index("outbox_next", "outbox", ["peer_id", "id"], sqlite_where=sa.text("set_aside_because IS NULL"),
        postgresql_where=sa.text("set_aside_because IS NULL"))


def _remote_instances() -> None:
    op.create_table("remote_instances", sa.Column("id", ROW_ID, nullable=False),
        sa.Column("file_id", ROW_ID, nullable=False), sa.Column("peer_id", ROW_ID, nullable=False),
        sa.Column("store", sa.Text(), nullable=False), sa.Column("is_held", sa.Boolean(), nullable=False),
        sa.Column("attested_at", INSTANT, nullable=False), sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False), sa.ForeignKeyConstraint(["file_id"], ["files.id"], ),
        sa.ForeignKeyConstraint(["peer_id"], ["peers.id"], ), sa.PrimaryKeyConstraint("id"))
    op.create_index("remote_instances_by_peer", "remote_instances", ["peer_id", "file_id"])
    op.create_index("remote_instances_once", "remote_instances", ["file_id", "peer_id"], unique=True)


def _told() -> None:
    op.create_table("told", sa.Column("file_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("peer_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("is_held", sa.Boolean(), nullable=False), sa.ForeignKeyConstraint(["file_id"], ["files.id"], ),
        sa.ForeignKeyConstraint(["peer_id"], ["peers.id"], ), sa.PrimaryKeyConstraint("file_id", "peer_id"))
    op.create_index("told_lost", "told", ["peer_id", "file_id"], sqlite_where=sa.text("NOT is_held"),
        postgresql_where=sa.text("NOT is_held"))


def _rules() -> None:
    op.create_table("rules", sa.Column("id", ROW_ID, nullable=False), sa.Column("name", NAME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("way", sa.Text(), server_default=sa.text("'network'"), nullable=False),
        sa.Column("peer_id", ROW_ID, nullable=True),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("is_from_settings", sa.Boolean(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("backfill_after", sa.BigInteger(), nullable=True),
        sa.Column("backfill_until", sa.BigInteger(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False), sa.ForeignKeyConstraint(["peer_id"], ["peers.id"], ),
        sa.PrimaryKeyConstraint("id"), sa.UniqueConstraint("name"))


def _copies_due() -> None:
    op.create_table("copies_due", sa.Column("file_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("rule_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("store_id", ROW_ID, server_default=sa.text("0"), autoincrement=False, nullable=False),
        sa.Column("peer_id", ROW_ID, nullable=True), sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_try_at", INSTANT, nullable=False), sa.Column("code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True), sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], ), sa.ForeignKeyConstraint(["peer_id"], ["peers.id"], ),
        sa.ForeignKeyConstraint(["rule_id"], ["rules.id"], ), sa.PrimaryKeyConstraint("file_id", "rule_id", "store_id"))
    op.create_index("copies_due_by_peer", "copies_due", ["peer_id", "file_id"])
    op.create_index("copies_due_by_rule", "copies_due", ["rule_id", "file_id"])
    op.create_index("copies_due_stopped", "copies_due", ["file_id", "rule_id"],
        sqlite_where=sa.text("state IN ('blocked', 'quarantined')"),
        postgresql_where=sa.text("state IN ('blocked', 'quarantined')"))
    op.create_index("copies_due_now", "copies_due", ["rule_id", "next_try_at", "file_id"],
        sqlite_where=sa.text("state = 'due'"), postgresql_where=sa.text("state = 'due'"))
    op.create_index("copies_due_on_store", "copies_due", ["rule_id", "store_id", "next_try_at", "file_id"],
        sqlite_where=sa.text("state = 'due' AND store_id > 0"),
        postgresql_where=sa.text("state = 'due' AND store_id > 0"))


def _outgoing_transfers() -> None:
    op.create_table("outgoing_transfers", sa.Column("id", ROW_ID, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False), sa.Column("peer_id", ROW_ID, nullable=False),
        sa.Column("file_id", ROW_ID, nullable=False), sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("batch_id", ROW_ID, nullable=True), sa.Column("manifest_id", ROW_ID, nullable=True),
        sa.Column("token", sa.String(length=32), nullable=True),
        sa.Column("store", sa.Text(), nullable=True), sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True), sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("notice_epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("notice_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False), sa.Column("progressed_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], ),
        sa.ForeignKeyConstraint(["manifest_id"], ["manifests.id"], ),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], ), sa.ForeignKeyConstraint(["peer_id"], ["peers.id"], ),
        sa.PrimaryKeyConstraint("id"), sa.UniqueConstraint("uuid"))
    op.create_index("outgoing_by_batch", "outgoing_transfers", ["batch_id", "id"])
    op.create_index("outgoing_by_manifest", "outgoing_transfers", ["manifest_id", "id"],
        sqlite_where=sa.text("manifest_id IS NOT NULL"), postgresql_where=sa.text("manifest_id IS NOT NULL"))
    op.create_index("outgoing_by_file", "outgoing_transfers", ["file_id", "id"])
    op.create_index("outgoing_by_state", "outgoing_transfers", ["state", "id"],
        sqlite_where=sa.text("state IN ('initiated', 'ongoing', 'staged', 'ingesting')"),
        postgresql_where=sa.text("state IN ('initiated', 'ongoing', 'staged', 'ingesting')"))
    op.create_index("outgoing_live_once", "outgoing_transfers",
        ["peer_id", "file_id", sa.text("coalesce(manifest_id, 0)")], unique=True,
        sqlite_where=sa.text("state IN ('initiated', 'ongoing', 'staged', 'ingesting')"),
        postgresql_where=sa.text("state IN ('initiated', 'ongoing', 'staged', 'ingesting')"))
