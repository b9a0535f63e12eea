"""Mapped classes of pairings: how two sites come to know each other. Private to ``catalog``."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from librarian.catalog.columns import Base, Instant, Name, RowId


class PairingRow(Base):
    """An invitation of ours, or one that we use. It goes some time after it has expired."""

    __tablename__ = "pairings"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    #: SHA-256 of the secret, which has 256 random bits: nothing slower is needed to keep it.
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    #: The site at the other side.
    name: Mapped[str] = mapped_column(Name)
    is_ours: Mapped[bool] = mapped_column(Boolean)
    direction: Mapped[str] = mapped_column(Text)
    #: JSON list of name prefixes that we accept from the other; null: as it was, all from a new peer.
    accepts: Mapped[str | None] = mapped_column(Text)
    #: PEM of the authority that signed the other's certificate; null: as it was, or one that this machine trusts.
    authority: Mapped[str | None] = mapped_column(Text)
    #: Of the site that used our invitation: no other may.
    public_key: Mapped[str | None] = mapped_column(Text)
    #: What the two agreed on, encrypted, from when the invitation was first used.
    terms: Mapped[bytes | None] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime] = mapped_column(Instant)
    #: When account and peer were made here.
    joined_at: Mapped[datetime | None] = mapped_column(Instant)
    created_at: Mapped[datetime] = mapped_column(Instant)
