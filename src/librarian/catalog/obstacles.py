"""What stands in the way of a new name: names form a tree, and both the held and the arriving are in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import and_, case, exists, func, literal_column, or_, select

from librarian.catalog import incoming_rows, rows
from librarian.catalog.records import File
from librarian.catalog.schema import FileRow, IncomingRow, InstanceRow, RemoteInstanceRow, StoreRow
from librarian.checksum import Checksum
from librarian.names import FileId, FileName
from librarian.states import Arrival, Intent, Kind, Presence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Select, Subquery
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.orm import InstrumentedAttribute

    from librarian.catalog.records import Incoming


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Why *name* is not simply free. At least one of ``file``, ``arriving``, ``nested_in``, ``encloses`` is set."""

    name: FileName
    #: The file of that name, if a row exists.
    file: File | None = None
    #: A present copy that we want to keep exists here: the name is *held*.
    is_healthy: bool = False
    #: Some copy exists: present or suspect here, or attested by a peer. When False, every copy was lost, and an
    #: equal payload may arrive again under the name.
    is_somewhere: bool = False
    #: The live arrival of that very name.
    arriving: Incoming | None = None
    #: A held or arriving name that lies above this one.
    nested_in: FileName | None = None
    #: A held or arriving name that lies below this one.
    encloses: FileName | None = None


def _has_instance(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(InstanceRow.file_id == FileRow.id, *conditions)


def _below(
    name: ColumnElement[str] | InstrumentedAttribute[str], asked: ColumnElement[str]
) -> tuple[ColumnElement[bool], ...]:
    # '0' is the character after '/': everything below "a" sorts between "a/" and "a0", so one index seek answers.
    return (name > asked.concat(literal_column("'/'")), name < asked.concat(literal_column("'0'")))


def _first_below(dialect: str, asked: Subquery) -> ColumnElement[str | None]:
    held = select(func.min(FileRow.name)).where(*_below(FileRow.name, asked.c.name)).correlate(asked)
    below = IncomingRow.__table__.alias("below")
    # Hidden from SQLite, which without statistics would rather walk every live arrival for each name.
    state = below.c.state.concat(literal_column("''")) if dialect == "sqlite" else below.c.state
    arriving = (
        select(func.min(below.c.name))
        .where(*_below(below.c.name, asked.c.name), incoming_rows.is_live(state))
        .correlate(asked)
    )
    found = func.coalesce(held.scalar_subquery(), arriving.scalar_subquery())
    return case((asked.c.is_asked == 1, found), else_=None)


@lru_cache(maxsize=2)
def _statement(dialect: str) -> Select[*tuple[object, ...]]:
    asked = rows.table_of(dialect, "asked", name=rows.TEXT, is_asked=rows.BIGINT)
    below = _first_below(dialect, asked).label("below")
    healthy = _has_instance(InstanceRow.presence == Presence.PRESENT, InstanceRow.intent == Intent.KEEP)
    somewhere = or_(
        _has_instance(InstanceRow.presence.in_([Presence.PRESENT, Presence.SUSPECT])),
        exists().where(RemoteInstanceRow.file_id == FileRow.id, RemoteInstanceRow.is_held),
    )
    return (
        select(
            asked.c.name.label("asked_name"),
            asked.c.is_asked,
            FileRow.id.label("file_id"),
            FileRow.kind.label("file_kind"),
            FileRow.size.label("file_size"),
            FileRow.checksum.label("file_checksum"),
            FileRow.uploader.label("file_uploader"),
            FileRow.origin.label("file_origin"),
            FileRow.created_at.label("file_row_created_at"),
            case((FileRow.id.is_not(None), healthy), else_=False).label("is_healthy"),
            case((FileRow.id.is_not(None), somewhere), else_=False).label("is_somewhere"),
            below,
            *incoming_rows.INCOMING_COLUMNS,
            StoreRow.name.label("store"),
        )
        .select_from(asked)
        .outerjoin(FileRow, FileRow.name == asked.c.name)
        .outerjoin(
            IncomingRow,
            and_(
                IncomingRow.name == asked.c.name,
                incoming_rows.is_live(IncomingRow.state),
                # A copy of what is held stands in nobody's way.
                IncomingRow.arrival != Arrival.COPY,
            ),
        )
        .outerjoin(StoreRow, StoreRow.id == IncomingRow.store_id)
        .where(or_(FileRow.id.is_not(None), IncomingRow.id.is_not(None), below.is_not(None)))
    )


def _file_of(row: rows.Found) -> File | None:
    if row.file_id is None:
        return None
    return File(
        id=FileId(row.file_id),
        name=FileName.trusted(row.asked_name),
        kind=Kind(row.file_kind),
        size=row.file_size,
        checksum=Checksum.trusted(row.file_checksum),
        uploader=row.file_uploader,
        origin=row.file_origin,
        created_at=row.file_row_created_at,
    )


async def find(connection: AsyncConnection, dialect: str, names: Sequence[FileName]) -> dict[FileName, Obstacle]:
    """The obstacles of *names*; see ``Files.conflicts``."""
    if not names:
        return {}
    asked = set(names)
    above = {ancestor for name in asked for ancestor in name.ancestors}
    packed = rows.pack([*((name, 1) for name in asked), *((name, 0) for name in above - asked)])
    found: dict[str, rows.Found] = {}
    for row in await connection.execute(_statement(dialect), {"asked": packed}):
        # What comes over the network may have drives beside it, and matters more.
        if row.asked_name not in found or row.arrival != Arrival.DRIVE:
            found[row.asked_name] = row
    if not found:
        return {}
    taken = {name for name, row in found.items() if row.file_id is not None or row.id is not None}
    return {
        obstacle.name: obstacle
        for obstacle in (_obstacle(name, found.get(name), taken) for name in asked)
        if obstacle is not None
    }


def _obstacle(name: FileName, row: rows.Found | None, taken: set[str]) -> Obstacle | None:
    nested_in = next((above for above in name.ancestors if above in taken), None)
    if row is None:
        return Obstacle(name=name, nested_in=FileName.trusted(nested_in)) if nested_in is not None else None
    return Obstacle(
        name=name,
        file=_file_of(row),
        is_healthy=bool(row.is_healthy),
        is_somewhere=bool(row.is_somewhere),
        arriving=incoming_rows.incoming_of(row) if row.id is not None else None,
        nested_in=FileName.trusted(nested_in) if nested_in is not None else None,
        encloses=FileName.trusted(row.below) if row.below is not None else None,
    )
