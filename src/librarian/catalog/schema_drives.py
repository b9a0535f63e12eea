"""Mapped classes of drives, and of what travels on them. Private to ``catalog``."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from librarian.catalog.columns import Base, Instant, Name, RowId


class DriveRow(Base):
    """A store that is carried by hand. Its name and uuid are those of its row in ``stores``."""

    __tablename__ = "drives"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    store_id: Mapped[int] = mapped_column(RowId, ForeignKey("stores.id"), unique=True)
    #: Of the device, where the system tells.
    serial: Mapped[str | None] = mapped_column(Text)
    filesystem: Mapped[str] = mapped_column(Text)
    #: Of its file system.
    size: Mapped[int] = mapped_column(BigInteger)
    #: The thousandth parts of its size at which it counts as full.
    full_at: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(Text)
    #: When it came into its state, and who brought it there.
    since: Mapped[datetime] = mapped_column(Instant)
    who: Mapped[str] = mapped_column(Text)
    #: Counts its journeys, from 1.
    round: Mapped[int] = mapped_column(Integer)
    #: The highest that was read from its identity file: what bears less is a copy of it. 0: none was written yet.
    generation: Mapped[int] = mapped_column(BigInteger)
    #: Where its root was seen last: a hint, for it may be plugged in anywhere.
    path: Mapped[str] = mapped_column(Text)
    is_plugged: Mapped[bool] = mapped_column(Boolean)
    seen_at: Mapped[datetime] = mapped_column(Instant)
    created_at: Mapped[datetime] = mapped_column(Instant)


class MisfitRow(Base):
    """A file that a store of ours cannot keep: its name is none there, or it is too large."""

    __tablename__ = "misfits"
    file_id: Mapped[int] = mapped_column(RowId, ForeignKey("files.id"), primary_key=True, autoincrement=False)
    store_id: Mapped[int] = mapped_column(RowId, ForeignKey("stores.id"), primary_key=True, autoincrement=False)
    reason: Mapped[str] = mapped_column(Text)


class ManifestRow(Base):
    """What a drive carries to a peer in one round. Rows are kept; only the counts change."""

    __tablename__ = "manifests"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    drive_id: Mapped[int] = mapped_column(RowId, ForeignKey("drives.id"))
    round: Mapped[int] = mapped_column(Integer)
    peer_id: Mapped[int] = mapped_column(RowId, ForeignKey("peers.id"))
    #: The first and the last line; the last is null until the manifest is complete.
    head: Mapped[str] = mapped_column(Text)
    seal: Mapped[str | None] = mapped_column(Text)
    files: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    #: Of these, what the peer holds, and what it could not take from the drive.
    confirmed_files: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    confirmed_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    failed_files: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    failed_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    sealed_at: Mapped[datetime] = mapped_column(Instant)
    sealed_by: Mapped[str] = mapped_column(Text)
    __table_args__ = (Index("manifests_by_drive", "drive_id", "round", unique=True),)


class ManifestPartRow(Base):
    """Some lines of a manifest, compressed; all parts in order are its lines between the first and the last."""

    __tablename__ = "manifest_parts"
    manifest_id: Mapped[int] = mapped_column(RowId, ForeignKey("manifests.id"), primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    lines: Mapped[bytes] = mapped_column(LargeBinary)


class ReceptionRow(Base):
    """One manifest of a peer that is being received, or was: one row however often its drive is read."""

    __tablename__ = "receptions"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    #: The manifest's.
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    drive: Mapped[str] = mapped_column(Name)
    #: The site that sealed it, and the peer that it is here, where it is one.
    origin: Mapped[str] = mapped_column(Name)
    peer_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("peers.id"))
    #: The manifest's first line.
    head: Mapped[str] = mapped_column(Text)
    #: Where the drive is read.
    path: Mapped[str] = mapped_column(Text)
    account: Mapped[str] = mapped_column(Name)
    state: Mapped[str] = mapped_column(Text)
    #: Why it waits.
    reason: Mapped[str | None] = mapped_column(Text)
    #: Entries of the manifest that have become incoming transfers, in its order.
    entries: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    next_try_at: Mapped[datetime] = mapped_column(Instant)
    created_at: Mapped[datetime] = mapped_column(Instant)
    progressed_at: Mapped[datetime] = mapped_column(Instant)
    __table_args__ = (
        Index(
            "receptions_live",
            "next_try_at",
            "id",
            sqlite_where=text("state = 'receiving'"),
            postgresql_where=text("state = 'receiving'"),
        ),
    )
