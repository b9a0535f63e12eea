"""Mapped classes of peers: who they are, what they hold, what they must learn. Private to ``catalog``."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, LargeBinary, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from librarian.catalog.columns import Base, Instant, Name, RowId


class PeerRow(Base):
    """Another librarian."""

    __tablename__ = "peers"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    url: Mapped[str] = mapped_column(Text)
    username: Mapped[str] = mapped_column(Text)
    #: Our password at theirs, encrypted.
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    #: PEM of the authority that signed their certificate; null: one that this machine trusts.
    authority: Mapped[str | None] = mapped_column(Text)
    #: Our next password there, encrypted: it takes the place of the other once it was seen to work.
    next_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    #: Its ed25519 key, in Base64; null where the peer was added by hand.
    public_key: Mapped[str | None] = mapped_column(Text)
    reach: Mapped[str] = mapped_column(Text)
    #: It cannot call us: we fetch what it has to say.
    is_fetched: Mapped[bool] = mapped_column(Boolean, server_default=false())
    is_enabled: Mapped[bool] = mapped_column(Boolean)
    #: JSON list of name prefixes that we accept from them; [""] is everything.
    accepts: Mapped[str] = mapped_column(Text)
    #: JSON list of pinned entry points of theirs: {store, engine, address, staging}.
    entry_points: Mapped[str] = mapped_column(Text)
    #: Why nothing is sent now (changed entry point, wrong credentials), or null.
    held_because: Mapped[str | None] = mapped_column(Text)
    #: What an operator lets go there.
    flow: Mapped[str] = mapped_column(Text, server_default=text("'open'"))
    #: Bytes per second, or null.
    rate_limit: Mapped[int | None] = mapped_column(BigInteger)
    #: JSON list of windows; [] is always.
    windows: Mapped[str] = mapped_column(Text, server_default=text("'[]'"))
    #: Bytes that it may have in its staging, or null.
    staged_budget: Mapped[int | None] = mapped_column(BigInteger)
    #: The highest (epoch, seq) of theirs that we have seen.
    seen_epoch: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    seen_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    #: The last seq that ``tasks/deliver`` gave to a notice of ours.
    sent_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    last_heard_at: Mapped[datetime | None] = mapped_column(Instant)
    created_at: Mapped[datetime] = mapped_column(Instant)


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


class ToldRow(Base):
    """A peer was told that we hold a file; ``is_held`` false: and then that we lost it."""

    __tablename__ = "told"
    file_id: Mapped[int] = mapped_column(RowId, ForeignKey("files.id"), primary_key=True, autoincrement=False)
    peer_id: Mapped[int] = mapped_column(RowId, ForeignKey("peers.id"), primary_key=True, autoincrement=False)
    is_held: Mapped[bool] = mapped_column(Boolean)
    __table_args__ = (
        Index(
            "told_lost",
            "peer_id",
            "file_id",
            sqlite_where=text("NOT is_held"),
            postgresql_where=text("NOT is_held"),
        ),
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
