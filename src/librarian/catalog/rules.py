"""Rules: which files must get a copy where."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, or_, select, text, update

from librarian.catalog import rows
from librarian.catalog.records import Rule
from librarian.catalog.repository import Repository
from librarian.catalog.schema import FileRow, InstanceRow, RuleRow, StoreRow
from librarian.names import FileId, FileName, PeerId, RuleId, RuleName, StoreName
from librarian.states import Intent, Presence, RuleWay
from librarian.timing import utc_now

if TYPE_CHECKING:
    from datetime import datetime

RULE_COLUMNS = (
    RuleRow.id,
    RuleRow.name,
    RuleRow.version,
    RuleRow.way,
    RuleRow.peer_id,
    RuleRow.policy,
    RuleRow.is_from_settings,
    RuleRow.is_enabled,
    RuleRow.backfill_after,
    RuleRow.backfill_until,
    RuleRow.created_at,
)


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """A file as the back-fill of a rule looks at it."""

    file_id: FileId
    name: FileName
    size: int
    created_at: datetime
    stores: tuple[StoreName, ...]


def rule_of(row: rows.Found) -> Rule:
    """The record of a row that selected ``RULE_COLUMNS``."""
    found = row._mapping
    return Rule(
        id=RuleId(found["id"]),
        name=RuleName(found["name"]),
        version=found["version"],
        way=RuleWay(found["way"]),
        peer_id=None if found["peer_id"] is None else PeerId(found["peer_id"]),
        policy=found["policy"],
        is_from_settings=found["is_from_settings"],
        is_enabled=found["is_enabled"],
        backfill_after=None if found["backfill_after"] is None else FileId(found["backfill_after"]),
        backfill_until=FileId(found["backfill_until"]),
        created_at=found["created_at"],
    )


#: It knows where its copies are to be.
_APPLIES = or_(RuleRow.peer_id.is_not(None), rows.one_of(RuleRow.way, RuleWay.LOCAL))


class Rules(Repository):
    """Replication rules."""

    async def all(self) -> tuple[Rule, ...]:
        """Every rule, by name."""
        found = await self._connection.execute(select(*RULE_COLUMNS).order_by(RuleRow.name))
        return tuple(rule_of(row) for row in found)

    async def find(self, name: str) -> Rule | None:
        """The rule called *name*, if there is one."""
        row = (await self._connection.execute(select(*RULE_COLUMNS).where(RuleRow.name == name))).first()
        return rule_of(row) if row else None

    async def in_force(self) -> tuple[Rule, ...]:
        """The rules that apply to files that arrive now: enabled, with a peer that exists where they name one."""
        statement = self._once(lambda: select(*RULE_COLUMNS).where(RuleRow.is_enabled, _APPLIES).order_by(RuleRow.id))
        return tuple(rule_of(row) for row in await self._connection.execute(statement))

    async def put(
        self, name: RuleName, *, way: RuleWay, peer: PeerId | None, policy: str, is_from_settings: bool
    ) -> bool:
        """Write the rule, enabled; returns whether anything changed. A change is back-filled from the start."""
        before = await self.find(name)
        asked = (peer, policy, is_from_settings)
        if (
            before is not None
            and before.is_enabled
            and (before.peer_id, before.policy, before.is_from_settings) == asked
        ):
            return False
        until = await self._last_file()
        applies = peer is not None or way is RuleWay.LOCAL
        values = {
            "way": way,
            "peer_id": peer,
            "policy": policy,
            "is_from_settings": is_from_settings,
            "is_enabled": True,
            "backfill_after": 0 if applies and until else None,
            "backfill_until": until,
        }
        if before is None:
            await self._connection.execute(insert(RuleRow).values(name=name, version=1, created_at=utc_now(), **values))
        else:
            await self._connection.execute(
                update(RuleRow).where(RuleRow.id == before.id).values(version=RuleRow.version + 1, **values)
            )
        return True

    async def walk_again(self, rule: RuleId) -> None:
        """Look at every file once more: what is still owed to *rule* is to be written anew."""
        until = await self._last_file()
        await self._connection.execute(
            update(RuleRow)
            .where(RuleRow.id == rule)
            .values(version=RuleRow.version + 1, backfill_after=0 if until else None, backfill_until=until)
        )

    async def switch_off(self, rule: RuleId) -> None:
        """The rule applies no longer. A repeat does nothing."""
        await self._connection.execute(
            update(RuleRow).where(RuleRow.id == rule).values(is_enabled=False, backfill_after=None)
        )

    async def next_backfill(self) -> Rule | None:
        """A rule whose files have not all been looked at, if there is one."""
        row = (
            await self._connection.execute(
                select(*RULE_COLUMNS)
                .where(RuleRow.backfill_after.is_not(None), RuleRow.is_enabled, _APPLIES)
                .order_by(RuleRow.id)
                .limit(1)
            )
        ).first()
        return rule_of(row) if row else None

    async def walked(self, rule: Rule, *, after: FileId | None) -> bool:
        """The walk of *rule* has come to *after* (None: to its end); False when the rule changed meanwhile."""
        moved = await self._connection.execute(
            update(RuleRow)
            .where(
                RuleRow.id == rule.id,
                RuleRow.version == rule.version,
                RuleRow.backfill_after == rule.backfill_after,
            )
            .values(backfill_after=after)
            .returning(RuleRow.id)
        )
        return moved.first() is not None

    async def backlog(self, *, after: FileId, until: FileId, limit: int) -> tuple[Backlog, ...]:
        """Files with ids above *after* up to *until*, in order, at most *limit*."""
        found = await self._connection.execute(
            select(FileRow.id, FileRow.name, FileRow.size, FileRow.created_at)
            .where(FileRow.id > after, FileRow.id <= until)
            .order_by(FileRow.id)
            .limit(limit)
        )
        files = found.all()
        stores: defaultdict[int, list[StoreName]] = defaultdict(list)
        if files:
            copies = await self._connection.execute(
                select(InstanceRow.file_id, StoreRow.name)
                .join(StoreRow, StoreRow.id == InstanceRow.store_id)
                .where(
                    InstanceRow.file_id > after,
                    InstanceRow.file_id <= files[-1].id,
                    InstanceRow.presence == Presence.PRESENT,
                    InstanceRow.intent == Intent.KEEP,
                )
            )
            for copy in copies:
                stores[copy.file_id].append(StoreName(copy.name))
        return tuple(
            Backlog(
                file_id=FileId(row.id),
                name=FileName.trusted(row.name),
                size=row.size,
                created_at=row.created_at,
                stores=tuple(stores[row.id]),
            )
            for row in files
        )

    async def _last_file(self) -> int:
        """The highest file id, with every arrival that has not seen our change of the rules behind us.

        An arrival writes its File rows before it reads the rules. The lock waits for those that have written, and
        those that come later read the rules after we have committed: no file falls between walk and arrival.
        """
        if not self._is_sqlite:
            await self._connection.execute(text("LOCK TABLE files IN SHARE MODE"))
        return int(await self._connection.scalar(select(func.coalesce(func.max(FileRow.id), 0))) or 0)
