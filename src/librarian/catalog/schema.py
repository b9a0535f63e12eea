"""The mapped classes: what the catalog's tables look like. Private to ``catalog``."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from librarian.catalog.columns import Base, Instant, Name, RowId


class SiteRow(Base):
    """One row: who this catalog belongs to, and how often it was started."""

    __tablename__ = "site"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36))
    name: Mapped[str] = mapped_column(Text)
    #: Grows at each start and hourly; stamped into every writable store after it is committed.
    generation: Mapped[int] = mapped_column(BigInteger)
    #: Grows only when a restored backup was noticed; part of every notice.
    epoch: Mapped[int] = mapped_column(BigInteger)
    restored_at: Mapped[datetime | None] = mapped_column(Instant)
    restored_why: Mapped[str | None] = mapped_column(Text)


class AccountRow(Base):
    """Somebody who may call us; a peer's account carries the peer's name."""

    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    password_hash: Mapped[str] = mapped_column(Text)
    #: Space-separated, sorted.
    roles: Mapped[str] = mapped_column(Text)
    is_enabled: Mapped[bool] = mapped_column(Boolean)
    #: Grows with every change, so that cached logins die with it.
    version: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Instant)


class PeerRow(Base):
    """Another librarian."""

    __tablename__ = "peers"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    url: Mapped[str] = mapped_column(Text)
    username: Mapped[str] = mapped_column(Text)
    #: Our password at theirs, encrypted.
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    reach: Mapped[str] = mapped_column(Text)
    is_enabled: Mapped[bool] = mapped_column(Boolean)
    #: JSON list of name prefixes that we accept from them; [""] is everything.
    accepts: Mapped[str] = mapped_column(Text)
    #: JSON list of pinned entry points of theirs: {store, engine, address, staging}.
    entry_points: Mapped[str] = mapped_column(Text)
    #: Why nothing is sent now (changed entry point, wrong credentials), or null.
    held_because: Mapped[str | None] = mapped_column(Text)
    #: The highest (epoch, seq) of theirs that we have seen.
    seen_epoch: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    seen_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    #: The last seq that ``tasks/deliver`` gave to a notice of ours.
    sent_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    last_heard_at: Mapped[datetime | None] = mapped_column(Instant)
    created_at: Mapped[datetime] = mapped_column(Instant)


class FileRow(Base):
    """An immutable named payload. Rows are never changed."""

    __tablename__ = "files"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    kind: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    checksum: Mapped[str] = mapped_column(Name)
    uploader: Mapped[str] = mapped_column(Name)
    origin: Mapped[str] = mapped_column(Name)
    created_at: Mapped[datetime] = mapped_column(Instant)
    __table_args__ = (
        Index("files_by_age", "created_at", "id"),
        Index("files_by_uploader", "uploader", "created_at", "id"),
        Index("files_by_origin", "origin", "created_at", "id"),
        Index("files_by_size", "size", "id"),
        Index("files_by_checksum", "checksum"),
    )


class MemberListingRow(Base):
    """What a book holds: one compressed listing per book."""

    __tablename__ = "members"
    file_id: Mapped[int] = mapped_column(RowId, ForeignKey("files.id"), primary_key=True, autoincrement=False)
    count: Mapped[int] = mapped_column(BigInteger)
    listing: Mapped[bytes] = mapped_column(LargeBinary)


class StoreRow(Base):
    """A local place for payloads; its paths live in the settings alone."""

    __tablename__ = "stores"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    kind: Mapped[str] = mapped_column(Text)
    #: Whether new files may go there.
    is_open: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(Instant)


class InstanceRow(Base):
    """A copy of a file on one of our stores."""

    __tablename__ = "instances"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    file_id: Mapped[int] = mapped_column(RowId, ForeignKey("files.id"))
    store_id: Mapped[int] = mapped_column(RowId, ForeignKey("stores.id"))
    presence: Mapped[str] = mapped_column(Text)
    intent: Mapped[str] = mapped_column(Text)
    verified_at: Mapped[datetime] = mapped_column(Instant)
    verified_from: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Instant)
    __table_args__ = (
        Index("instances_once", "file_id", "store_id", unique=True),
        Index("instances_by_store", "store_id", "file_id"),
    )


class RemoteInstanceRow(Base):
    """What a peer told us about its copy of a file; ``is_held`` false remembers that it is gone."""

    __tablename__ = "remote_instances"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    file_id: Mapped[int] = mapped_column(RowId, ForeignKey("files.id"))
    peer_id: Mapped[int] = mapped_column(RowId, ForeignKey("peers.id"))
    store: Mapped[str] = mapped_column(Text)
    is_held: Mapped[bool] = mapped_column(Boolean)
    #: When we heard it, by our clock.
    attested_at: Mapped[datetime] = mapped_column(Instant)
    #: The notice that said so; an older one is ignored.
    epoch: Mapped[int] = mapped_column(BigInteger)
    seq: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (
        Index("remote_instances_once", "file_id", "peer_id", unique=True),
        Index("remote_instances_by_peer", "peer_id", "file_id"),
    )


_LIVE = "state IN ('initiated', 'ongoing', 'staged', 'ingesting')"


class IncomingRow(Base):
    """One file on its way in: an upload or a clone."""

    __tablename__ = "incoming_transfers"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    #: Minted by us for an upload, by the offerer for a clone.
    uuid: Mapped[str] = mapped_column(String(36))
    arrival: Mapped[str] = mapped_column(Text)
    #: Null for an upload. Unique with uuid; 0 stands for null there, since null equals nothing.
    peer_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("peers.id"))
    #: The account that opened it.
    account: Mapped[str] = mapped_column(Name)
    name: Mapped[str] = mapped_column(Name)
    kind: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    checksum: Mapped[str | None] = mapped_column(Text)
    #: Carried over every hop.
    uploader: Mapped[str] = mapped_column(Text)
    origin: Mapped[str] = mapped_column(Text)
    file_created_at: Mapped[datetime | None] = mapped_column(Instant)
    store_id: Mapped[int] = mapped_column(RowId, ForeignKey("stores.id"))
    token: Mapped[str] = mapped_column(String(32), unique=True)
    state: Mapped[str] = mapped_column(Text)
    #: Why it failed: an error code and a sentence.
    code: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    #: Bytes still to be promised room for: size (twice that for foreign writers) less what was seen in staging.
    reserved: Mapped[int] = mapped_column(BigInteger)
    #: Whether the staging directory still has to be removed.
    has_staging: Mapped[bool] = mapped_column(Boolean)
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    next_try_at: Mapped[datetime] = mapped_column(Instant)
    #: Position of the last notice about it that was applied.
    notice_epoch: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    notice_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(Instant)
    progressed_at: Mapped[datetime] = mapped_column(Instant)
    __table_args__ = (
        Index("incoming_once", text("coalesce(peer_id, 0)"), "uuid", unique=True),
        # One arrival over the network per name at a time.
        Index("incoming_live_name", "name", unique=True, sqlite_where=text(_LIVE), postgresql_where=text(_LIVE)),
        Index(
            "incoming_by_state", "state", "next_try_at", "id", sqlite_where=text(_LIVE), postgresql_where=text(_LIVE)
        ),
        Index("incoming_staging", "id", sqlite_where=text("has_staging"), postgresql_where=text("has_staging")),
        Index("incoming_by_name", "name", "id"),
    )


class OutgoingRow(Base):
    """One file on its way to a peer, under a UUID of ours."""

    __tablename__ = "outgoing_transfers"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    peer_id: Mapped[int] = mapped_column(RowId, ForeignKey("peers.id"))
    file_id: Mapped[int] = mapped_column(RowId, ForeignKey("files.id"))
    size: Mapped[int] = mapped_column(BigInteger)
    batch_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("batches.id"))
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
            unique=True,
            sqlite_where=text(_LIVE),
            postgresql_where=text(_LIVE),
        ),
        Index("outgoing_by_state", "state", "id", sqlite_where=text(_LIVE), postgresql_where=text(_LIVE)),
        Index("outgoing_by_batch", "batch_id", "id"),
        Index("outgoing_by_file", "file_id", "id"),
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
    peer_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("peers.id"))
    size: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    next_try_at: Mapped[datetime] = mapped_column(Instant)
    code: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Instant)
    __table_args__ = (
        Index(
            "copies_due_now",
            "peer_id",
            "next_try_at",
            "file_id",
            sqlite_where=text("state = 'due'"),
            postgresql_where=text("state = 'due'"),
        ),
        Index("copies_due_by_peer", "peer_id", "file_id"),
        Index("copies_due_by_rule", "rule_id", "file_id"),
    )


class OutboxRow(Base):
    """Something a peer must learn; the row goes when the peer has acknowledged it."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    peer_id: Mapped[int] = mapped_column(RowId, ForeignKey("peers.id"))
    #: A transfer's uuid or a file's name; order holds per subject.
    subject: Mapped[str] = mapped_column(Name)
    state: Mapped[str] = mapped_column(Text)
    #: JSON: the rest of the assertion.
    body: Mapped[str] = mapped_column(Text)
    seq: Mapped[int | None] = mapped_column(BigInteger)
    epoch: Mapped[int | None] = mapped_column(BigInteger)
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    next_try_at: Mapped[datetime] = mapped_column(Instant)
    #: Why it was refused for good; it and its successors of the same subject then stay here.
    set_aside_because: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Instant)
    __table_args__ = (
        Index(
            "outbox_next",
            "peer_id",
            "id",
            sqlite_where=text("set_aside_because IS NULL"),
            postgresql_where=text("set_aside_because IS NULL"),
        ),
        Index("outbox_by_subject", "peer_id", "subject", "id"),
    )


class AlertRow(Base):
    """Something a person must look at; one row per cause."""

    __tablename__ = "alerts"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    #: What makes two reports the same alert.
    cause: Mapped[str] = mapped_column(Name, unique=True)
    message: Mapped[str] = mapped_column(Text)
    remedy: Mapped[str] = mapped_column(Text)
    count: Mapped[int] = mapped_column(Integer)
    first_at: Mapped[datetime] = mapped_column(Instant)
    last_at: Mapped[datetime] = mapped_column(Instant)
    acknowledged_at: Mapped[datetime | None] = mapped_column(Instant)


class EventRow(Base):
    """One milestone of a file, transfer or switch: when, what, who, why. Append-only."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    at: Mapped[datetime] = mapped_column(Instant)
    #: A file's name, or ``peer:nersc``, ``store:fast``, ``account:ana``, ``rule:all``, ``site``.
    subject: Mapped[str] = mapped_column(Name)
    what: Mapped[str] = mapped_column(Text)
    who: Mapped[str] = mapped_column(Text)
    why: Mapped[str] = mapped_column(Text)
    __table_args__ = (Index("events_by_subject", "subject", "id"), Index("events_by_age", "at"))


class TallyRow(Base):
    """Totals that people look at, kept in the transaction that changes what they count."""

    __tablename__ = "tallies"
    #: ``held``, ``due:<peer id>``.
    subject: Mapped[str] = mapped_column(Name, primary_key=True)
    files: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
