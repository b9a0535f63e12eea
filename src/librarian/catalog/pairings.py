"""Pairings: invitations that were given, and invitations that are being used."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from librarian.catalog.repository import Repository
from librarian.catalog.schema_pairing import PairingRow
from librarian.names import SiteName
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from librarian.catalog import rows

_COLUMNS = (
    PairingRow.id,
    PairingRow.secret_hash,
    PairingRow.name,
    PairingRow.is_ours,
    PairingRow.direction,
    PairingRow.accepts,
    PairingRow.authority,
    PairingRow.public_key,
    PairingRow.terms,
    PairingRow.expires_at,
    PairingRow.joined_at,
)


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """An invitation of ours, or one that we use. What was agreed on shows in no ``repr``: it is encrypted."""

    id: int
    secret_hash: str
    #: The site at the other side.
    name: SiteName
    is_ours: bool
    direction: str
    accepts: tuple[str, ...] | None
    #: PEM of who must have signed its certificate; None: as it was.
    authority: str | None
    #: Of the site that used our invitation.
    public_key: str | None
    terms: bytes | None
    expires_at: datetime
    joined_at: datetime | None


def _pairing(row: rows.Found) -> Pairing:
    found = row._mapping
    return Pairing(
        id=found["id"],
        secret_hash=found["secret_hash"],
        name=SiteName(found["name"]),
        is_ours=found["is_ours"],
        direction=found["direction"],
        accepts=None if found["accepts"] is None else tuple(json.loads(found["accepts"])),
        authority=found["authority"],
        public_key=found["public_key"],
        terms=found["terms"],
        expires_at=found["expires_at"],
        joined_at=found["joined_at"],
    )


def _of(secret_hash: str) -> rows.Chosen:
    return select(*_COLUMNS).where(PairingRow.secret_hash == secret_hash)


class Pairings(Repository):
    """How sites come to know each other."""

    async def find(self, secret_hash: str, *, is_ours: bool) -> Pairing | None:
        """The pairing under the secret with that hash, if there is one."""
        row = (await self._connection.execute(_of(secret_hash).where(PairingRow.is_ours.is_(is_ours)))).first()
        return _pairing(row) if row else None

    async def add(
        self,
        secret_hash: str,
        *,
        name: SiteName,
        is_ours: bool,
        direction: str,
        accepts: Sequence[str] | None,
        expires_at: datetime,
        authority: str | None = None,
        terms: bytes | None = None,
    ) -> Pairing:
        """Write a pairing that is not joined yet, or find the one that was written meanwhile."""
        insert = sqlite.insert if self._is_sqlite else postgresql.insert
        statement = insert(PairingRow).values(
            secret_hash=secret_hash,
            name=name,
            is_ours=is_ours,
            direction=direction,
            accepts=None if accepts is None else json.dumps(list(accepts)),
            authority=authority,
            terms=terms,
            expires_at=expires_at,
            created_at=utc_now(),
        )
        await self._connection.execute(statement.on_conflict_do_nothing(index_elements=["secret_hash"]))
        return _pairing((await self._connection.execute(_of(secret_hash))).one())

    async def take(self, pairing: int, *, public_key: str, terms: bytes) -> bool:
        """The site with *public_key* uses our invitation; False: another was faster, or it is joined already."""
        taken = await self._connection.execute(
            update(PairingRow)
            .where(
                PairingRow.id == pairing,
                PairingRow.joined_at.is_(None),
                or_(PairingRow.public_key.is_(None), PairingRow.public_key == public_key),
            )
            .values(public_key=public_key, terms=terms)
            .returning(PairingRow.id)
        )
        return taken.first() is not None

    async def join(self, pairing: int) -> bool:
        """Account and peer are made in this transaction; False: they were made before."""
        joined = await self._connection.execute(
            update(PairingRow)
            .where(PairingRow.id == pairing, PairingRow.joined_at.is_(None))
            .values(joined_at=utc_now())
            .returning(PairingRow.id)
        )
        return joined.first() is not None

    async def unfinished(self, now: datetime) -> Pairing | None:
        """An invitation that we began to use, and that has not expired."""
        row = (
            await self._connection.execute(
                select(*_COLUMNS)
                .where(
                    PairingRow.is_ours.is_(False),
                    PairingRow.joined_at.is_(None),
                    PairingRow.terms.is_not(None),
                    PairingRow.expires_at > now,
                )
                .order_by(PairingRow.id)
                .limit(1)
            )
        ).first()
        return _pairing(row) if row else None

    async def drop(self, pairing: int) -> None:
        """Forget one pairing. A repeat does nothing."""
        await self._connection.execute(delete(PairingRow).where(PairingRow.id == pairing))

    async def clear(self, *, expired_before: datetime) -> None:
        """Drop what expired before that. A repeat does nothing."""
        await self._connection.execute(delete(PairingRow).where(PairingRow.expires_at < expired_before))

    async def forget(self, name: SiteName) -> None:
        """Drop every pairing with the site *name*: its invitations are worth nothing any more."""
        await self._connection.execute(delete(PairingRow).where(PairingRow.name == name))
