"""Drives: stores that are carried by hand, where each stands, and who brought it there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NewType

from sqlalchemy import func, insert, literal_column, select, update

from librarian.catalog import rows
from librarian.catalog.repository import Repository
from librarian.catalog.schema import DriveRow, StoreRow, TallyRow
from librarian.errors import NotFound
from librarian.names import StoreId, StoreName
from librarian.states import DRIVE_MOVES, DriveState, sources_of
from librarian.timing import utc_now

if TYPE_CHECKING:
    from datetime import datetime


DriveId = NewType("DriveId", int)

_COLUMNS = (
    DriveRow.id,
    DriveRow.store_id,
    StoreRow.name,
    StoreRow.uuid,
    StoreRow.is_open,
    DriveRow.serial,
    DriveRow.filesystem,
    DriveRow.size,
    DriveRow.full_at,
    DriveRow.state,
    DriveRow.since,
    DriveRow.who,
    DriveRow.round,
    DriveRow.generation,
    DriveRow.path,
    DriveRow.is_plugged,
    DriveRow.seen_at,
    DriveRow.created_at,
    func.coalesce(TallyRow.files, 0).label("files"),
    func.coalesce(TallyRow.bytes, 0).label("bytes"),
)


@dataclass(frozen=True, kw_only=True)
class NewDrive:
    """A drive that is about to be made."""

    name: StoreName
    uuid: str
    serial: str | None
    filesystem: str
    size: int
    #: Thousandth parts of its size.
    full_at: int
    path: str
    who: str
    round: int = 1


@dataclass(frozen=True, kw_only=True)
class DriveRecord:
    """A drive as the catalog knows it; ``files`` and ``bytes`` are on it."""

    id: DriveId
    store_id: StoreId
    name: StoreName
    uuid: str
    is_open: bool
    serial: str | None
    filesystem: str
    size: int
    full_at: int
    state: DriveState
    since: datetime
    who: str
    round: int
    generation: int
    path: str
    is_plugged: bool
    seen_at: datetime
    created_at: datetime
    files: int
    bytes: int


def _drive(row: rows.Found) -> DriveRecord:
    values = dict(row._mapping)
    return DriveRecord(
        **values
        | {
            "id": DriveId(values["id"]),
            "store_id": StoreId(values["store_id"]),
            "name": StoreName.trusted(values["name"]),
            "state": DriveState(values["state"]),
            "files": int(values["files"]),
            "bytes": int(values["bytes"]),
        }
    )


def _select() -> rows.Chosen:
    return (
        select(*_COLUMNS)
        .join(StoreRow, StoreRow.id == DriveRow.store_id)
        .outerjoin(TallyRow, TallyRow.subject == literal_column("'store:'").concat(StoreRow.name))
    )


class Drives(Repository):
    """Stores that are carried by hand. What may follow what is ``states.DRIVE_MOVES``, nothing else."""

    async def add(self, new: NewDrive) -> DriveRecord:
        """Make the rows of a drive, LOADING and not plugged in; its identity file is written after that."""
        now = utc_now()
        store = await self._connection.scalar(
            insert(StoreRow)
            .values(name=new.name, uuid=new.uuid, kind="drive", is_open=True, created_at=now)
            .returning(StoreRow.id)
        )
        await self._connection.execute(
            insert(DriveRow).values(
                store_id=store,
                serial=new.serial,
                filesystem=new.filesystem,
                size=new.size,
                full_at=new.full_at,
                state=DriveState.LOADING,
                since=now,
                who=new.who,
                round=new.round,
                generation=0,
                path=new.path,
                is_plugged=False,
                seen_at=now,
                created_at=now,
            )
        )
        return await self.get(new.name)

    async def all(self) -> tuple[DriveRecord, ...]:
        """Every drive there ever was, by name."""
        return tuple(map(_drive, await self._connection.execute(_select().order_by(StoreRow.name))))

    async def find(self, name: StoreName) -> DriveRecord | None:
        """The drive called *name*, if there is one."""
        row = (await self._connection.execute(_select().where(StoreRow.name == name))).first()
        return None if row is None else _drive(row)

    async def get(self, name: StoreName) -> DriveRecord:
        """The drive called *name*; raises NotFound."""
        drive = await self.find(name)
        if drive is None:
            raise NotFound(f"no drive is called '{name}'", remedy="See 'drive list' for the names.")
        return drive

    async def advance(self, drive: DriveId, *, to: DriveState, who: str) -> bool:
        """Move *drive* to *to* where ``DRIVE_MOVES`` allows; whether it moved."""
        moved = await self._connection.execute(
            update(DriveRow)
            .where(DriveRow.id == drive, DriveRow.state.in_(sorted(sources_of(DRIVE_MOVES, to))))
            .values(state=to, since=utc_now(), who=who)
            .returning(DriveRow.id)
        )
        return moved.first() is not None

    async def pin(self, drive: DriveId, state: DriveState) -> bool:
        """Whether *drive* is in *state*, which nobody changes before we commit."""
        asked = select(DriveRow.id).where(DriveRow.id == drive, DriveRow.state == state.value)
        return await self._connection.scalar(asked.with_for_update(read=True)) is not None

    async def begin_round(self, drive: DriveId, *, generation: int, who: str) -> bool:
        """*drive* was wiped, and loads again in its next round, bearing *generation*; False when it was not WIPING."""
        begun = await self._connection.execute(
            update(DriveRow)
            .where(DriveRow.id == drive, rows.one_of(DriveRow.state, DriveState.WIPING))
            .values(
                state=DriveState.LOADING,
                since=utc_now(),
                who=who,
                round=DriveRow.round + 1,
                generation=generation,
            )
            .returning(DriveRow.id)
        )
        return begun.first() is not None

    async def in_round(self, drive: DriveId, *, number: int) -> None:
        """*drive* turned out to be in its round *number*, of which the catalog knew nothing."""
        await self._connection.execute(update(DriveRow).where(DriveRow.id == drive).values(round=number))

    async def plugged(self, drive: DriveId, *, path: str, generation: int) -> None:
        """*drive* was found at *path*, with *generation* in its identity file."""
        await self._connection.execute(
            update(DriveRow)
            .where(DriveRow.id == drive)
            .values(path=path, generation=generation, is_plugged=True, seen_at=utc_now())
        )

    async def unplugged(self, drive: DriveId) -> None:
        """*drive* is nowhere to be found."""
        await self._connection.execute(
            update(DriveRow).where(DriveRow.id == drive).values(is_plugged=False, seen_at=utc_now())
        )

    async def expect_at(self, drive: DriveId, *, path: str) -> None:
        """Somebody says that *drive* is at *path*."""
        await self._connection.execute(update(DriveRow).where(DriveRow.id == drive).values(path=path))
