"""The mapped classes: what the catalog's tables look like. Private to ``catalog``."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from librarian.catalog.columns import Base, Instant, Name, RowId
from librarian.catalog.schema_drives import DriveRow, ManifestPartRow, ManifestRow, MisfitRow, ReceptionRow
from librarian.catalog.schema_pairing import PairingRow
from librarian.catalog.schema_peers import OutboxRow, PeerRow, RemoteInstanceRow, ToldRow
from librarian.catalog.schema_sending import LIVE, BatchRow, CopyDueRow, OutgoingRow, RuleRow

__all__ = [
    "AccountRow",
    "AlertRow",
    "BatchRow",
    "CopyDueRow",
    "DriveRow",
    "EventRow",
    "FileRow",
    "IncomingRow",
    "InstanceRow",
    "ManifestPartRow",
    "ManifestRow",
    "MemberListingRow",
    "MisfitRow",
    "NotificationRow",
    "OutboxRow",
    "OutgoingRow",
    "PairingRow",
    "PeerRow",
    "ReceptionRow",
    "RemoteInstanceRow",
    "RuleRow",
    "SiteRow",
    "StoreRow",
    "TallyRow",
    "ToldRow",
]


_LIVE_ON_THE_NETWORK = f"{LIVE} AND arrival IN ('upload', 'clone')"


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
    #: Our ed25519 key, encrypted; made when it is first needed.
    signing_key: Mapped[bytes | None] = mapped_column(LargeBinary)


class AccountRow(Base):
    """Somebody who may call us; a peer's account carries the peer's name."""

    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    password_hash: Mapped[str] = mapped_column(Text)
    #: Of a password that takes the place of the other when it is first used.
    next_hash: Mapped[str | None] = mapped_column(Text)
    #: Space-separated, sorted.
    roles: Mapped[str] = mapped_column(Text)
    is_enabled: Mapped[bool] = mapped_column(Boolean)
    #: Grows with every change, so that cached logins die with it.
    version: Mapped[int] = mapped_column(Integer)
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
        Index(
            "instances_suspect",
            "file_id",
            "store_id",
            sqlite_where=text("presence = 'suspect'"),
            postgresql_where=text("presence = 'suspect'"),
        ),
    )


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
    #: It is read from a drive.
    reception_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("receptions.id"))
    #: It is a copy of what rests on this store of ours, made for this rule.
    source_store_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("stores.id"))
    rule_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("rules.id"))
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
        Index(
            "incoming_live_name",
            "name",
            unique=True,
            sqlite_where=text(_LIVE_ON_THE_NETWORK),
            postgresql_where=text(_LIVE_ON_THE_NETWORK),
        ),
        Index("incoming_by_state", "state", "next_try_at", "id", sqlite_where=text(LIVE), postgresql_where=text(LIVE)),
        Index("incoming_staging", "id", sqlite_where=text("has_staging"), postgresql_where=text("has_staging")),
        Index("incoming_by_name", "name", "id"),
        Index(
            "incoming_by_reception",
            "reception_id",
            "state",
            "id",
            sqlite_where=text("reception_id IS NOT NULL"),
            postgresql_where=text("reception_id IS NOT NULL"),
        ),
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


class NotificationRow(Base):
    """What people are told where they are; one row per cause, so that nobody is told twice."""

    __tablename__ = "notifications"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    #: What makes two of them the same: an alert's own cause, or ``drive:A07:full:1``.
    cause: Mapped[str] = mapped_column(Name, unique=True)
    message: Mapped[str] = mapped_column(Text)
    #: So often it was reported since it was told last; what has none waits for nothing.
    count: Mapped[int] = mapped_column(Integer)
    #: When the first of these came.
    first_at: Mapped[datetime] = mapped_column(Instant)
    #: Not before.
    tell_at: Mapped[datetime] = mapped_column(Instant)
    told_at: Mapped[datetime | None] = mapped_column(Instant)
    __table_args__ = (
        Index("notifications_waiting", "tell_at", sqlite_where=text("count > 0"), postgresql_where=text("count > 0")),
    )


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
