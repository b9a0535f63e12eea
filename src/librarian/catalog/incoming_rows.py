"""What incoming transfers look like: their columns, and the records that go into and come out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, func, literal_column, select

from librarian.catalog import rows
from librarian.catalog.columns import from_micros, to_micros
from librarian.catalog.records import Incoming
from librarian.catalog.schema import IncomingRow, StoreRow
from librarian.checksum import Checksum
from librarian.names import FileName, PeerId, ReceptionId, RuleId, StoreId, StoreName, Token, TransferId
from librarian.states import INCOMING_MOVES, Arrival, Kind, TransferState, sources_of

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import InstrumentedAttribute

INCOMING_COLUMNS = (
    IncomingRow.id,
    IncomingRow.uuid,
    IncomingRow.arrival,
    IncomingRow.peer_id,
    IncomingRow.account,
    IncomingRow.reception_id,
    IncomingRow.source_store_id,
    IncomingRow.rule_id,
    IncomingRow.name,
    IncomingRow.kind,
    IncomingRow.size,
    IncomingRow.checksum,
    IncomingRow.uploader,
    IncomingRow.origin,
    IncomingRow.file_created_at,
    IncomingRow.store_id,
    IncomingRow.token,
    IncomingRow.state,
    IncomingRow.code,
    IncomingRow.reason,
    IncomingRow.has_staging,
    IncomingRow.attempts,
    IncomingRow.created_at,
    IncomingRow.progressed_at,
)


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A transfer to be opened on a store that was chosen for it."""

    uuid: str
    arrival: Arrival
    peer_id: PeerId | None
    account: str
    name: FileName
    kind: Kind
    size: int
    checksum: Checksum | None
    uploader: str
    origin: str
    file_created_at: datetime | None
    store: StoreName
    token: Token
    reserved: int
    #: Of one that is read from a drive.
    reception_id: ReceptionId | None = None
    #: Of a copy of what rests on a store of ours: that store, and the rule that asks for it.
    source_store_id: StoreId | None = None
    rule_id: RuleId | None = None


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A store as room is counted: whether it is open, the bytes it keeps, and those it promised and has not seen."""

    store: StoreName
    is_open: bool
    held: int
    reserved: int


@dataclass(frozen=True, kw_only=True)
class Commit:
    """The bytes of one upload are all there."""

    uuid: str
    checksum: Checksum | None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why one transfer failed for good."""

    id: TransferId
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Delay:
    """A claimed transfer goes back to STAGED and is tried again after ``until``."""

    id: TransferId
    until: datetime
    code: str
    reason: str
    #: Whether it may be this transfer's own fault; those come back in ever smaller batches.
    is_suspicious: bool = False


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One claimed transfer is published; whether something of it is left in staging."""

    id: TransferId
    has_staging: bool


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A staged transfer, as far as dealing out claims needs it."""

    id: TransferId
    store: StoreName
    size: int
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How many bytes a live transfer still needs room for, less what stands in staging now."""

    id: TransferId
    reserved: int


def is_live(state: ColumnElement[str] | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """States that occupy a name, written as literals: a partial index is only used for literals."""
    return state.in_([literal_column(f"'{each}'") for each in ("initiated", "ongoing", "staged", "ingesting")])


def is_in(state: TransferState) -> ColumnElement[bool]:
    """Transfers in the live *state*; SQLite uses a partial index only where its condition is repeated."""
    return and_(IncomingRow.state == literal_column(f"'{state}'"), is_live(IncomingRow.state))


def may_become(target: TransferState) -> ColumnElement[bool]:
    """Transfers that ``INCOMING_MOVES`` lets move to *target*."""
    return IncomingRow.state.in_([literal_column(f"'{each}'") for each in sorted(sources_of(INCOMING_MOVES, target))])


#: Whose uuid it is, zero for uploads: written as the unique index writes it, or the index is not used.
OFFERER: Final[ColumnElement[int]] = func.coalesce(IncomingRow.peer_id, literal_column("0"))
STORE_NAME = select(StoreRow.name).where(StoreRow.id == IncomingRow.store_id).scalar_subquery().label("store")


def incoming_of(row: rows.Found) -> Incoming:
    """The record of a row that selected ``INCOMING_COLUMNS`` and ``store``."""
    return Incoming(
        id=TransferId(row.id),
        uuid=row.uuid,
        arrival=Arrival(row.arrival),
        peer_id=None if row.peer_id is None else PeerId(row.peer_id),
        account=row.account,
        reception_id=None if row.reception_id is None else ReceptionId(row.reception_id),
        source_store_id=None if row.source_store_id is None else StoreId(row.source_store_id),
        rule_id=None if row.rule_id is None else RuleId(row.rule_id),
        name=FileName.trusted(row.name),
        kind=Kind(row.kind),
        size=row.size,
        checksum=None if row.checksum is None else Checksum.trusted(row.checksum),
        uploader=row.uploader,
        origin=row.origin,
        file_created_at=row.file_created_at,
        store=StoreName.trusted(row.store),
        store_id=StoreId(row.store_id),
        token=Token.trusted(row.token),
        state=TransferState(row.state),
        code=row.code,
        reason=row.reason,
        has_staging=row.has_staging,
        attempts=row.attempts,
        created_at=row.created_at,
        progressed_at=row.progressed_at,
    )


def every() -> Select[*tuple[object, ...]]:
    """Transfers with their store's name, as ``incoming_of`` reads them."""
    return select(*INCOMING_COLUMNS, StoreRow.name.label("store")).join(StoreRow, StoreRow.id == IncomingRow.store_id)


OPENING_COLUMNS: Final[dict[str, rows.ColumnType]] = {
    "uuid": rows.TEXT,
    "arrival": rows.TEXT,
    "peer_id": rows.BIGINT,
    "account": rows.TEXT,
    "reception_id": rows.BIGINT,
    "source_store_id": rows.BIGINT,
    "rule_id": rows.BIGINT,
    "name": rows.TEXT,
    "kind": rows.TEXT,
    "size": rows.BIGINT,
    "checksum": rows.TEXT,
    "uploader": rows.TEXT,
    "origin": rows.TEXT,
    "file_created_at": rows.BIGINT,
    "token": rows.TEXT,
    "reserved": rows.BIGINT,
    "created_at": rows.BIGINT,
    "next_try_at": rows.BIGINT,
    "progressed_at": rows.BIGINT,
}


def cells_of(each: Opening, now: datetime) -> tuple[rows.Cell, ...]:
    """The row that *each* becomes, the store's name first, then ``OPENING_COLUMNS`` in order."""
    micros = to_micros(now)
    return (
        each.store,
        each.uuid,
        each.arrival,
        each.peer_id,
        each.account,
        each.reception_id,
        each.source_store_id,
        each.rule_id,
        each.name,
        each.kind,
        each.size,
        each.checksum,
        each.uploader,
        each.origin,
        None if each.file_created_at is None else to_micros(each.file_created_at),
        each.token,
        each.reserved,
        micros,
        micros,
        micros,
    )


def opened(each: Opening, id_: TransferId, store_id: StoreId, now: datetime) -> Incoming:
    """The record of the row that *each* became."""
    now = from_micros(to_micros(now))
    return Incoming(
        id=id_,
        uuid=each.uuid,
        arrival=each.arrival,
        peer_id=each.peer_id,
        account=each.account,
        reception_id=each.reception_id,
        source_store_id=each.source_store_id,
        rule_id=each.rule_id,
        name=each.name,
        kind=each.kind,
        size=each.size,
        checksum=each.checksum,
        uploader=each.uploader,
        origin=each.origin,
        file_created_at=each.file_created_at,
        store=each.store,
        store_id=store_id,
        token=each.token,
        state=TransferState.INITIATED,
        code=None,
        reason=None,
        has_staging=True,
        attempts=0,
        created_at=now,
        progressed_at=now,
    )
