"""Who this catalog belongs to, how often it was started, and whether it came back from a backup."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, func, insert, null, select, update

from librarian.catalog.columns import Instant
from librarian.catalog.records import SiteRecord
from librarian.catalog.repository import Repository
from librarian.catalog.schema import SiteRow
from librarian.errors import Bug
from librarian.names import SiteName
from librarian.timing import utc_now

if TYPE_CHECKING:
    from sqlalchemy import Row

_COLUMNS = (
    SiteRow.uuid,
    SiteRow.name,
    SiteRow.generation,
    SiteRow.epoch,
    SiteRow.restored_at,
    SiteRow.restored_why,
)


class SiteIdentity(Repository):
    """Who this catalog belongs to, its generation and epoch."""

    async def find(self) -> SiteRecord | None:
        """The site's row; None in a catalog that no site has started with yet."""
        row = (await self._connection.execute(select(*_COLUMNS))).first()
        return _site(row) if row else None

    async def get(self) -> SiteRecord:
        """The site's row, which exists once the site was opened."""
        found = await self.find()
        if found is None:
            raise Bug("the catalog has no site yet")
        return found

    async def found(self, name: SiteName) -> SiteRecord:
        """Make the row of a new site. Epochs start at 1, generations at 0 (the first start makes it 1)."""
        row = await self._connection.execute(
            insert(SiteRow).values(id=1, uuid=str(uuid.uuid4()), name=name, generation=0, epoch=1).returning(*_COLUMNS)
        )
        return _site(row.one())

    async def signing_key(self) -> bytes | None:
        """Our encrypted signing key, once there is one."""
        key: bytes | None = await self._connection.scalar(select(SiteRow.signing_key))
        return None if key is None else bytes(key)

    async def keep_signing_key(self, key: bytes) -> None:
        """Write our encrypted signing key, unless there is one."""
        await self._connection.execute(update(SiteRow).where(SiteRow.signing_key.is_(None)).values(signing_key=key))

    async def next_generation(self, *, by: int = 1) -> int:
        """Let the generation grow: by one for a start."""
        counted = await self._connection.execute(
            update(SiteRow).values(generation=SiteRow.generation + by).returning(SiteRow.generation)
        )
        return counted.scalar_one()

    async def mark_restored(self, why: str, *, at_least: int = 0, beyond_epoch: int = 0) -> SiteRecord:
        """Note that this catalog is older than what it describes: a new epoch, and nothing is removed for now.

        The generation is raised to *at_least*, so that the next one is ahead of every store again; the new epoch
        is beyond *beyond_epoch*, the latest that a peer has heard of. A repeat makes another epoch; the first reason
        is kept until it is acknowledged.
        """
        now = utc_now()
        millis = max(int(now.timestamp() * 1000), beyond_epoch + 1)
        later = func.max if self._is_sqlite else func.greatest
        row = await self._connection.execute(
            update(SiteRow)
            .values(
                epoch=later(SiteRow.epoch + 1, millis),
                generation=later(SiteRow.generation, at_least),
                restored_at=func.coalesce(SiteRow.restored_at, bindparam(None, now, type_=Instant())),
                restored_why=func.coalesce(SiteRow.restored_why, why),
            )
            .returning(*_COLUMNS)
        )
        return _site(row.one())

    async def acknowledge_restored(self) -> bool:
        """An operator has looked: bytes may be removed again. Returns whether there was anything to acknowledge."""
        changed = await self._connection.execute(
            update(SiteRow)
            .where(SiteRow.restored_at.is_not(None))
            .values(restored_at=null(), restored_why=null())
            .returning(SiteRow.id)
        )
        return changed.first() is not None


def _site(row: Row[*tuple[object, ...]]) -> SiteRecord:
    values = row._mapping
    return SiteRecord(
        uuid=values["uuid"],
        name=SiteName(values["name"]),
        generation=values["generation"],
        epoch=values["epoch"],
        restored_at=values["restored_at"],
        restored_why=values["restored_why"],
    )
