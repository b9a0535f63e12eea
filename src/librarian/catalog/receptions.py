"""Receptions: drives of peers that are being read, or were; one row for each manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, case, exists, func, insert, literal, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import aliased

from librarian.catalog import rows
from librarian.catalog.columns import Instant
from librarian.catalog.incoming_rows import OPENING_COLUMNS, Opening, cells_of, every, incoming_of
from librarian.catalog.repository import Repository
from librarian.catalog.schema import IncomingRow, StoreRow
from librarian.catalog.schema_drives import ReceptionRow
from librarian.names import PeerId, ReceptionId, SiteName, StoreName
from librarian.states import ReceptionState, TransferState
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from librarian.catalog.records import Incoming
    from librarian.names import TransferId

_COLUMNS = (
    ReceptionRow.id,
    ReceptionRow.uuid,
    ReceptionRow.drive,
    ReceptionRow.origin,
    ReceptionRow.peer_id,
    ReceptionRow.head,
    ReceptionRow.path,
    ReceptionRow.account,
    ReceptionRow.state,
    ReceptionRow.reason,
    ReceptionRow.entries,
    ReceptionRow.created_at,
    ReceptionRow.progressed_at,
)
_RECEIVING: Final = rows.one_of(ReceptionRow.state, ReceptionState.RECEIVING)
#: Not read from the drive yet, or not whole.
_IS_OPEN: Final = rows.one_of(IncomingRow.state, TransferState.INITIATED, TransferState.ONGOING)


@dataclass(frozen=True, kw_only=True)
class NewReception:
    """A manifest that is to be received."""

    #: The manifest's.
    uuid: str
    drive: StoreName
    origin: SiteName
    #: None: nobody is told what becomes of it.
    peer_id: PeerId | None
    #: The manifest's first line.
    head: str
    path: str
    account: str


@dataclass(frozen=True, kw_only=True)
class Reception:
    """A manifest that is being received, or was."""

    id: ReceptionId
    uuid: str
    drive: StoreName
    origin: SiteName
    peer_id: PeerId | None
    head: str
    path: str
    account: str
    state: ReceptionState
    #: Why it waits, while it does.
    reason: str | None
    #: Of its entries, those that have become incoming transfers, in their order.
    entries: int
    created_at: datetime
    progressed_at: datetime


@dataclass(frozen=True, kw_only=True)
class Ended:
    """An entry about which nothing is left to do: it is held here already, or can never be taken."""

    opening: Opening
    state: TransferState
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many entries of a reception are in a state, and their bytes."""

    reception_id: ReceptionId
    state: TransferState
    code: str | None
    files: int
    bytes: int


def _reception(row: rows.Found) -> Reception:
    found = row._mapping
    return Reception(
        id=ReceptionId(found["id"]),
        uuid=found["uuid"],
        drive=StoreName.trusted(found["drive"]),
        origin=SiteName.trusted(found["origin"]),
        peer_id=None if found["peer_id"] is None else PeerId(found["peer_id"]),
        head=found["head"],
        path=found["path"],
        account=found["account"],
        state=ReceptionState(found["state"]),
        reason=found["reason"],
        entries=found["entries"],
        created_at=found["created_at"],
        progressed_at=found["progressed_at"],
    )


class Receptions(Repository):
    """Drives of peers that are being read, or were."""

    async def put(self, new: NewReception) -> Reception:
        """Begin to receive a manifest at its first entry, or go on where its drive is now said to be.

        One that nobody was told of, and whose sender has become a peer since, is told from its first entry on.
        """
        now = utc_now()
        dialect_insert = sqlite.insert if self._is_sqlite else postgresql.insert
        given = dialect_insert(ReceptionRow).values(
            uuid=new.uuid,
            drive=new.drive,
            origin=new.origin,
            peer_id=new.peer_id,
            head=new.head,
            path=new.path,
            account=new.account,
            state=ReceptionState.RECEIVING,
            next_try_at=now,
            created_at=now,
            progressed_at=now,
        )
        goes_on = and_(_RECEIVING, ReceptionRow.peer_id.is_not_distinct_from(new.peer_id))
        statement = given.on_conflict_do_update(
            index_elements=["uuid"],
            set_={
                "path": new.path,
                "account": new.account,
                "peer_id": new.peer_id,
                "state": ReceptionState.RECEIVING,
                "entries": case((goes_on, ReceptionRow.entries), else_=literal_column("0")),
                "reason": None,
                "next_try_at": now,
                "progressed_at": now,
            },
        ).returning(*_COLUMNS)
        reception = _reception((await self._connection.execute(statement)).one())
        if reception.peer_id is not None:
            await self._give_entries(reception.id, reception.peer_id)
        return reception

    async def _give_entries(self, reception: ReceptionId, peer: PeerId) -> None:
        """What was read from the drive while nobody was told answers for the uuids of *peer* as well."""
        other = aliased(IncomingRow)
        await self._connection.execute(
            update(IncomingRow)
            .where(
                IncomingRow.reception_id == reception,
                IncomingRow.peer_id.is_(None),
                ~exists().where(other.peer_id == peer, other.uuid == IncomingRow.uuid),
            )
            .values(peer_id=peer)
        )

    async def find(self, uuid: str) -> Reception | None:
        """The reception of the manifest *uuid*."""
        row = (await self._connection.execute(select(*_COLUMNS).where(ReceptionRow.uuid == uuid))).first()
        return None if row is None else _reception(row)

    async def newest_of(self, drive: str) -> Reception | None:
        """The reception of the drive called *drive* that began last."""
        statement = select(*_COLUMNS).where(ReceptionRow.drive == drive).order_by(ReceptionRow.id.desc()).limit(1)
        row = (await self._connection.execute(statement)).first()
        return None if row is None else _reception(row)

    async def with_ids(self, ids: Sequence[ReceptionId]) -> dict[ReceptionId, Reception]:
        """The receptions *ids*; unknown ones are absent."""
        if not ids:
            return {}
        asked = self._table("asked", id=rows.BIGINT)
        found = await self._connection.execute(
            select(*_COLUMNS).where(ReceptionRow.id.in_(select(asked.c.id))),
            {"asked": rows.pack((id_,) for id_ in ids)},
        )
        return {reception.id: reception for reception in map(_reception, found)}

    async def page(self, *, before: ReceptionId | None, limit: int) -> tuple[Reception, ...]:
        """Receptions, the newest first, those with ids below *before*, at most *limit*."""
        statement = select(*_COLUMNS).order_by(ReceptionRow.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(ReceptionRow.id < before)
        return tuple(map(_reception, await self._connection.execute(statement)))

    async def live(self, *, now: datetime) -> tuple[ReceptionId, ...]:
        """Those from which something is still to be read, and that may be tried at *now*."""
        found = await self._connection.scalars(
            select(ReceptionRow.id).where(_RECEIVING, ReceptionRow.next_try_at <= now).order_by(ReceptionRow.id)
        )
        return tuple(map(ReceptionId, found))

    async def open_entries(self, reception: ReceptionId, *, limit: int) -> tuple[Incoming, ...]:
        """Entries that are to be copied from the drive, in the order of the manifest, at most *limit*."""
        found = await self._connection.execute(
            every().where(IncomingRow.reception_id == reception, _IS_OPEN).order_by(IncomingRow.id).limit(limit)
        )
        return tuple(map(incoming_of, found))

    async def bad_entries(self, reception: ReceptionId, *, after: TransferId, limit: int) -> tuple[Incoming, ...]:
        """Entries that could not be taken, from the one after *after*."""
        ended = rows.one_of(IncomingRow.state, TransferState.FAILED, TransferState.CANCELLED)
        found = await self._connection.execute(
            every()
            .where(IncomingRow.reception_id == reception, ended, IncomingRow.id > after)
            .order_by(IncomingRow.id)
            .limit(limit)
        )
        return tuple(map(incoming_of, found))

    async def write_ended(self, ended: Sequence[Ended]) -> None:
        """Write entries about which nothing is left to do; they never had any staging."""
        if not ended:
            return
        new = self._table("new", store=rows.TEXT, **OPENING_COLUMNS, state=rows.TEXT, code=rows.TEXT, reason=rows.TEXT)
        now = utc_now()
        packed = rows.pack(
            (*cells_of(each.opening, now), each.state, *rows.why(each.code, each.reason)) for each in ended
        )
        columns = [*OPENING_COLUMNS, "state", "code", "reason"]
        await self._connection.execute(
            insert(IncomingRow).from_select(
                ["store_id", "has_staging", *columns],
                select(StoreRow.id, literal_column("false"), *(new.c[name] for name in columns)).where(
                    StoreRow.name == new.c.store
                ),
            ),
            {"new": packed},
        )

    async def advance(self, reception: Reception, *, by: int) -> bool:
        """*by* more entries have become incoming transfers; False when somebody else was there first."""
        moved = await self._connection.execute(
            update(ReceptionRow)
            .where(ReceptionRow.id == reception.id, ReceptionRow.entries == reception.entries, _RECEIVING)
            .values(entries=ReceptionRow.entries + by)
            .returning(ReceptionRow.id)
        )
        return moved.first() is not None

    async def went_on(self, reception: ReceptionId) -> None:
        """Something was read from its drive: it waits for nothing."""
        await self._connection.execute(
            update(ReceptionRow).where(ReceptionRow.id == reception).values(reason=None, progressed_at=utc_now())
        )

    async def move(self, reception: ReceptionId, *, path: str) -> None:
        """Its drive is at *path* now."""
        await self._connection.execute(
            update(ReceptionRow).where(ReceptionRow.id == reception, _RECEIVING).values(path=path)
        )

    async def wait(self, reception: ReceptionId, *, reason: str, until: datetime) -> None:
        """It cannot go on now; it is tried again at *until*."""
        await self._connection.execute(
            update(ReceptionRow)
            .where(ReceptionRow.id == reception, _RECEIVING)
            .values(reason=reason[: rows.REASON_LENGTH], next_try_at=literal(until, Instant()))
        )

    async def end(self, reception: ReceptionId, *, state: ReceptionState) -> bool:
        """Every entry was read (READ), or nothing more is to be (CANCELLED); False when it had ended before."""
        moved = await self._connection.execute(
            update(ReceptionRow)
            .where(ReceptionRow.id == reception, _RECEIVING)
            .values(state=state, reason=None, progressed_at=utc_now())
            .returning(ReceptionRow.id)
        )
        return moved.first() is not None

    async def shares(self, receptions: Sequence[ReceptionId]) -> tuple[Share, ...]:
        """How the entries of *receptions* stand; those of which no transfer was made yet are in none."""
        if not receptions:
            return ()
        asked = self._table("asked", id=rows.BIGINT)
        found = await self._connection.execute(
            select(
                IncomingRow.reception_id,
                IncomingRow.state,
                IncomingRow.code,
                func.count().label("files"),
                func.coalesce(func.sum(IncomingRow.size), 0).label("bytes"),
            )
            .where(IncomingRow.reception_id.in_(select(asked.c.id)))
            .group_by(IncomingRow.reception_id, IncomingRow.state, IncomingRow.code),
            {"asked": rows.pack((id_,) for id_ in receptions)},
        )
        return tuple(
            Share(
                reception_id=ReceptionId(row.reception_id),
                state=TransferState(row.state),
                code=row.code,
                files=row.files,
                bytes=int(row.bytes),
            )
            for row in found
        )
