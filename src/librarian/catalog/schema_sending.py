"""Mapped classes of what is sent: rules, copies due, transfers, batches. Private to ``catalog``."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from librarian.catalog.columns import Base, Instant, Name, RowId

#: Of transfers both ways, for partial indexes.
LIVE = "state IN ('initiated', 'ongoing', 'staged', 'ingesting')"


class OutgoingRow(Base):
    """One file on its way to a peer, under a UUID of ours."""

    __tablename__ = "outgoing_transfers"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    peer_id: Mapped[int] = mapped_column(RowId, ForeignKey("peers.id"))
    file_id: Mapped[int] = mapped_column(RowId, ForeignKey("files.id"))
    size: Mapped[int] = mapped_column(BigInteger)
    batch_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("batches.id"))
    #: It travels on a drive, with this manifest, and in no batch.
    manifest_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("manifests.id"))
    #: The receiver's, once accepted.
    token: Mapped[str | None] = mapped_column(String(32))
    store: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    code: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    notice_epoch: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    notice_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(Instant)
    progressed_at: Mapped[datetime] = mapped_column(Instant)
    __table_args__ = (
        Index(
            "outgoing_live_once",
            "peer_id",
            "file_id",
            # One over the network, and one on each drive.
            text("coalesce(manifest_id, 0)"),
            unique=True,
            sqlite_where=text(LIVE),
            postgresql_where=text(LIVE),
        ),
        Index("outgoing_by_state", "state", "id", sqlite_where=text(LIVE), postgresql_where=text(LIVE)),
        Index("outgoing_by_batch", "batch_id", "id"),
        Index("outgoing_by_file", "file_id", "id"),
        Index(
            "outgoing_by_manifest",
            "manifest_id",
            "id",
            sqlite_where=text("manifest_id IS NOT NULL"),
            postgresql_where=text("manifest_id IS NOT NULL"),
        ),
    )


_BATCH_LIVE = "state IN ('queued', 'submitting', 'active', 'held')"


class BatchRow(Base):
    """Transfers that one engine moves together."""

    __tablename__ = "batches"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    peer_id: Mapped[int] = mapped_column(RowId, ForeignKey("peers.id"))
    engine: Mapped[str] = mapped_column(Text)
    #: The receiver's store that the batch goes to.
    store: Mapped[str] = mapped_column(Text)
    #: Stored before submit; submitting it again yields the same transfer.
    key: Mapped[str | None] = mapped_column(Text)
    handle: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    files: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    bytes_done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    next_try_at: Mapped[datetime] = mapped_column(Instant)
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Instant)
    progressed_at: Mapped[datetime] = mapped_column(Instant)
    #: Since when its engine sees nothing done, although something should be; survives a restart.
    silent_since: Mapped[datetime | None] = mapped_column(Instant)
    ended_at: Mapped[datetime | None] = mapped_column(Instant)
    __table_args__ = (
        Index(
            "batches_live",
            "state",
            "next_try_at",
            "id",
            sqlite_where=text(_BATCH_LIVE),
            postgresql_where=text(_BATCH_LIVE),
        ),
    )


class RuleRow(Base):
    """A replication rule: which files must get a copy where, and how."""

    __tablename__ = "rules"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    #: Grows with every change; a change is back-filled.
    version: Mapped[int] = mapped_column(Integer)
    #: The files go over the network, onto drives that are carried to the peer, or onto stores of ours.
    way: Mapped[str] = mapped_column(Text, server_default=text("'network'"))
    peer_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("peers.id"))
    #: JSON of ``policies.RulePolicy``.
    policy: Mapped[str] = mapped_column(Text)
    is_from_settings: Mapped[bool] = mapped_column(Boolean)
    is_enabled: Mapped[bool] = mapped_column(Boolean)
    #: Files up to this id have been looked at; null when the walk is over.
    backfill_after: Mapped[int | None] = mapped_column(BigInteger)
    #: The walk ends here: files that came later were matched as they came.
    backfill_until: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Instant)


class CopyDueRow(Base):
    """A copy that a file still owes to a rule."""

    __tablename__ = "copies_due"
    file_id: Mapped[int] = mapped_column(RowId, ForeignKey("files.id"), primary_key=True, autoincrement=False)
    rule_id: Mapped[int] = mapped_column(RowId, ForeignKey("rules.id"), primary_key=True, autoincrement=False)
    #: Of a rule that asks for a copy on each of its stores: which one; 0 otherwise.
    store_id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False, server_default=text("0"))
    peer_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("peers.id"))
    size: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    #: Of the attempts, those that failed for reasons of the file's own.
    failures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    next_try_at: Mapped[datetime] = mapped_column(Instant)
    code: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Instant)
    #: When it came into its state.
    since: Mapped[datetime] = mapped_column(Instant)
    __table_args__ = (
        Index(
            "copies_due_now",
            "rule_id",
            "next_try_at",
            "file_id",
            sqlite_where=text("state = 'due'"),
            postgresql_where=text("state = 'due'"),
        ),
        Index(
            "copies_due_on_store",
            "rule_id",
            "store_id",
            "next_try_at",
            "file_id",
            sqlite_where=text("state = 'due' AND store_id > 0"),
            postgresql_where=text("state = 'due' AND store_id > 0"),
        ),
        Index(
            "copies_due_stopped",
            "file_id",
            "rule_id",
            sqlite_where=text("state IN ('blocked', 'quarantined')"),
            postgresql_where=text("state IN ('blocked', 'quarantined')"),
        ),
        Index("copies_due_by_peer", "peer_id", "file_id"),
        Index("copies_due_by_rule", "rule_id", "file_id"),
    )
