"""Outgoing transfers: files on their way to peers, under uuids of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, exists, func, insert, literal, or_, select, update

from librarian.catalog import rows
from librarian.catalog.columns import to_micros
from librarian.catalog.records import Outgoing
from librarian.catalog.repository import Repository
from librarian.catalog.schema import FileRow, OutgoingRow, PeerRow
from librarian.checksum import Checksum
from librarian.names import BatchId, FileId, FileName, ManifestId, PeerId, StoreName, Token, TransferId
from librarian.states import LIVE, OUTGOING_MOVES, Kind, TransferState, sources_of
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement

_COLUMNS = (
    OutgoingRow.id,
    OutgoingRow.uuid,
    OutgoingRow.peer_id,
    OutgoingRow.file_id,
    OutgoingRow.batch_id,
    OutgoingRow.manifest_id,
    OutgoingRow.token,
    OutgoingRow.store,
    OutgoingRow.state,
    OutgoingRow.code,
    OutgoingRow.reason,
    OutgoingRow.created_at,
    OutgoingRow.progressed_at,
    FileRow.name,
    FileRow.kind,
    FileRow.size,
    FileRow.checksum,
)


@dataclass(frozen=True, kw_only=True)
class NewOutgoing:
    """A transfer to be opened before it is offered."""

    uuid: str
    file_id: FileId
    size: int


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """The receiver takes a transfer: where to, and in which batch it goes."""

    uuid: str
    token: Token
    store: StoreName
    batch_id: BatchId | None


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a transfer ends; *seq* is the notice's that says so (0: no notice)."""

    uuid: str
    state: TransferState
    code: str | None = None
    reason: str | None = None
    seq: int = 0


def _outgoing(row: rows.Found) -> Outgoing:
    found = row._mapping
    return Outgoing(
        id=TransferId(found["id"]),
        uuid=found["uuid"],
        peer_id=PeerId(found["peer_id"]),
        file_id=FileId(found["file_id"]),
        name=FileName.trusted(found["name"]),
        kind=Kind(found["kind"]),
        size=found["size"],
        checksum=Checksum.trusted(found["checksum"]),
        batch_id=None if found["batch_id"] is None else BatchId(found["batch_id"]),
        manifest_id=None if found["manifest_id"] is None else ManifestId(found["manifest_id"]),
        token=None if found["token"] is None else Token(found["token"]),
        store=None if found["store"] is None else StoreName(found["store"]),
        state=TransferState(found["state"]),
        code=found["code"],
        reason=found["reason"],
        created_at=found["created_at"],
        progressed_at=found["progressed_at"],
    )


#: What a drive carries moves when its peer says so, and by nothing else.
_IS_SENT: Final = OutgoingRow.manifest_id.is_(None)


def _in_doubt(since: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        rows.one_of(OutgoingRow.state, "initiated", "ongoing", "staged", "ingesting"),
        OutgoingRow.progressed_at <= since,
        _IS_SENT,
        or_(OutgoingRow.batch_id.is_(None), OutgoingRow.state == TransferState.STAGED),
    )


def _records(found: Iterable[rows.Found]) -> tuple[Outgoing, ...]:
    return tuple(_outgoing(row) for row in found)


class OutgoingTransfers(Repository):
    """Files on their way to peers."""

    def _select(self) -> rows.Chosen:
        return select(*_COLUMNS).join(FileRow, FileRow.id == OutgoingRow.file_id)

    async def open(self, peer: PeerId, transfers: Sequence[NewOutgoing]) -> None:
        """Write *transfers* to *peer*, INITIATED."""
        if not transfers:
            return
        now = literal(to_micros(utc_now()))
        new = self._table("new", uuid=rows.TEXT, file_id=rows.BIGINT, size=rows.BIGINT)
        await self._connection.execute(
            insert(OutgoingRow).from_select(
                ["uuid", "peer_id", "file_id", "size", "state", "created_at", "progressed_at"],
                select(
                    new.c.uuid,
                    literal(peer),
                    new.c.file_id,
                    new.c.size,
                    literal(TransferState.INITIATED.value),
                    now,
                    now,
                ),
            ),
            {"new": rows.pack((t.uuid, t.file_id, t.size) for t in transfers)},
        )

    async def accept(self, acceptances: Sequence[Acceptance]) -> None:
        """INITIATED (or, taken up again, ONGOING) transfers go on under the receiver's tokens."""
        if not acceptances:
            return
        taken = self._table("taken", uuid=rows.TEXT, token=rows.TEXT, store=rows.TEXT, batch_id=rows.BIGINT)
        await self._connection.execute(
            update(OutgoingRow)
            .where(
                OutgoingRow.uuid == taken.c.uuid,
                OutgoingRow.state.in_((TransferState.INITIATED, TransferState.ONGOING)),
            )
            .values(
                state=TransferState.ONGOING,
                token=taken.c.token,
                store=taken.c.store,
                batch_id=taken.c.batch_id,
                progressed_at=utc_now(),
            ),
            {"taken": rows.pack((a.uuid, a.token, a.store, a.batch_id) for a in acceptances)},
        )

    async def stage(self, batch: BatchId, *, uuids: Sequence[str]) -> None:
        """The engine has delivered *uuids* of *batch*: ONGOING → STAGED."""
        delivered = self._table("delivered", uuid=rows.TEXT)
        await self._connection.execute(
            update(OutgoingRow)
            .where(
                OutgoingRow.batch_id == batch,
                OutgoingRow.uuid.in_(select(delivered.c.uuid)),
                OutgoingRow.state == TransferState.ONGOING,
            )
            .values(state=TransferState.STAGED, progressed_at=utc_now()),
            {"delivered": rows.pack((uuid,) for uuid in uuids)},
        )

    async def unbatch(self, uuids: Sequence[str]) -> None:
        """The engine could not deliver *uuids*: they leave their batch and are offered again under the same uuid."""
        if not uuids:
            return
        left = self._table("unbatched", uuid=rows.TEXT)
        await self._connection.execute(
            update(OutgoingRow)
            .where(
                OutgoingRow.uuid.in_(select(left.c.uuid)),
                OutgoingRow.state.in_((TransferState.INITIATED, TransferState.ONGOING)),
            )
            .values(batch_id=None, progressed_at=utc_now()),
            {"unbatched": rows.pack((uuid,) for uuid in uuids)},
        )

    async def end(self, peer: PeerId, endings: Sequence[Ending], *, epoch: int = 0) -> tuple[str, ...]:
        """Live transfers to *peer* end; an older notice than the last applied changes nothing.

        Returns the uuids of those that have ended now.
        """
        if not endings:
            return ()
        ended = self._table("ended", uuid=rows.TEXT, state=rows.TEXT, code=rows.TEXT, reason=rows.TEXT, seq=rows.BIGINT)
        is_newer = or_(
            ended.c.seq == 0,
            OutgoingRow.notice_epoch < epoch,
            and_(OutgoingRow.notice_epoch == epoch, OutgoingRow.notice_seq < ended.c.seq),
        )
        found = await self._connection.execute(
            update(OutgoingRow)
            .where(
                OutgoingRow.uuid == ended.c.uuid,
                OutgoingRow.peer_id == peer,
                OutgoingRow.state.in_(sources_of(OUTGOING_MOVES, TransferState.FAILED)),
                is_newer,
            )
            .values(
                state=ended.c.state,
                code=ended.c.code,
                reason=ended.c.reason,
                notice_epoch=epoch,
                notice_seq=ended.c.seq,
                progressed_at=utc_now(),
            )
            .returning(OutgoingRow.uuid),
            {"ended": rows.pack((e.uuid, e.state, *rows.why(e.code, e.reason), e.seq) for e in endings)},
        )
        return tuple(found.scalars())

    async def complete(self, peer: PeerId, files: Sequence[FileId]) -> tuple[str, ...]:
        """*peer* holds *files*: whatever was on its way there is completed; returns the uuids of that."""
        if not files:
            return ()
        held = self._table("completed", file_id=rows.BIGINT)
        completed = await self._connection.execute(
            update(OutgoingRow)
            .where(
                OutgoingRow.peer_id == peer,
                OutgoingRow.file_id.in_(select(held.c.file_id)),
                OutgoingRow.state.in_(sources_of(OUTGOING_MOVES, TransferState.COMPLETED)),
            )
            .values(state=TransferState.COMPLETED, progressed_at=utc_now())
            .returning(OutgoingRow.uuid),
            {"completed": rows.pack((file_id,) for file_id in files)},
        )
        return tuple(completed.scalars())

    async def of_batch(self, batch: BatchId) -> tuple[Outgoing, ...]:
        """The transfers of *batch*, in the order they were opened."""
        return _records(
            await self._connection.execute(self._select().where(OutgoingRow.batch_id == batch).order_by(OutgoingRow.id))
        )

    async def known(self, peer: PeerId, uuids: Sequence[str]) -> tuple[Outgoing, ...]:
        """Our transfers to *peer* with the given *uuids*; unknown ones are left out."""
        asked = self._table("asked", uuid=rows.TEXT)
        return _records(
            await self._connection.execute(
                self._select().join(asked, asked.c.uuid == OutgoingRow.uuid).where(OutgoingRow.peer_id == peer),
                {"asked": rows.pack((uuid,) for uuid in uuids)},
            )
        )

    async def offered(self, peer: PeerId, files: Sequence[FileId]) -> frozenset[FileId]:
        """Those of *files* that were ever offered to *peer*."""
        if not files:
            return frozenset()
        asked = self._table("asked", file_id=rows.BIGINT)
        found = await self._connection.scalars(
            select(asked.c.file_id).where(
                exists().where(OutgoingRow.file_id == asked.c.file_id, OutgoingRow.peer_id == peer)
            ),
            {"asked": rows.pack((file_id,) for file_id in files)},
        )
        return frozenset(FileId(file_id) for file_id in found)

    async def times_brought(self, peer: PeerId, files: Sequence[FileId]) -> dict[FileId, int]:
        """How often bytes of each of *files* went over the network to *peer*, which then held it; others are absent."""
        if not files:
            return {}
        asked = self._table("asked", file_id=rows.BIGINT)
        found = await self._connection.execute(
            select(OutgoingRow.file_id, func.count().label("times"))
            .join(asked, asked.c.file_id == OutgoingRow.file_id)
            .where(
                OutgoingRow.peer_id == peer,
                OutgoingRow.state == TransferState.COMPLETED,
                OutgoingRow.batch_id.is_not(None),
            )
            .group_by(OutgoingRow.file_id),
            {"asked": rows.pack((file_id,) for file_id in files)},
        )
        return {FileId(row.file_id): int(row.times) for row in found}

    async def staged_bytes(self, peer: PeerId) -> int:
        """Bytes that *peer* has accepted and does not hold yet: in its staging, or on their way there; on no drive."""
        found = await self._connection.scalar(
            select(func.coalesce(func.sum(OutgoingRow.size), 0)).where(
                OutgoingRow.peer_id == peer,
                _IS_SENT,
                rows.one_of(OutgoingRow.state, TransferState.ONGOING, TransferState.STAGED),
            )
        )
        return int(found or 0)

    async def live(self, files: Sequence[FileId], *, peer: PeerId | None = None) -> tuple[Outgoing, ...]:
        """The transfers over a network of *files* to *peer* (None: to anybody) that have not ended."""
        if not files:
            return ()
        asked = self._table("asked", file_id=rows.BIGINT)
        return _records(
            await self._connection.execute(
                self._select()
                .join(asked, asked.c.file_id == OutgoingRow.file_id)
                .where(
                    rows.one_of(OutgoingRow.state, *sorted(LIVE)),
                    _IS_SENT,
                    *([] if peer is None else [OutgoingRow.peer_id == peer]),
                ),
                {"asked": rows.pack((file_id,) for file_id in files)},
            )
        )

    async def with_uuids(self, uuids: Sequence[str]) -> tuple[Outgoing, ...]:
        """Our transfers *uuids*, to whomever; unknown ones are left out."""
        asked = self._table("asked", uuid=rows.TEXT)
        return _records(
            await self._connection.execute(
                self._select().where(OutgoingRow.uuid.in_(select(asked.c.uuid))),
                {"asked": rows.pack((uuid,) for uuid in uuids)},
            )
        )

    async def find(self, uuid: str) -> Outgoing | None:
        """The transfer *uuid*, if there is one."""
        return next(iter(await self.with_uuids([uuid])), None)

    async def peers_in_doubt(self, *, since: datetime) -> tuple[PeerId, ...]:
        """Enabled peers with transfers that ``without_progress`` would find."""
        doubtful = exists().where(OutgoingRow.peer_id == PeerRow.id, *_in_doubt(since))
        return tuple(
            PeerId(peer)
            for peer in await self._connection.scalars(select(PeerRow.id).where(PeerRow.is_enabled, doubtful))
        )

    async def without_progress(self, peer: PeerId, *, since: datetime, limit: int) -> tuple[Outgoing, ...]:
        """Live transfers to *peer* that have not moved since *since* and that no engine is working on."""
        return _records(
            await self._connection.execute(
                self._select()
                .where(OutgoingRow.peer_id == peer, *_in_doubt(since))
                .order_by(OutgoingRow.id)
                .limit(limit)
            )
        )

    async def touch(self, uuids: Sequence[str]) -> None:
        """These were asked about just now."""
        touched = self._table("touched", uuid=rows.TEXT)
        await self._connection.execute(
            update(OutgoingRow).where(OutgoingRow.uuid.in_(select(touched.c.uuid))).values(progressed_at=utc_now()),
            {"touched": rows.pack((uuid,) for uuid in uuids)},
        )

    async def page(
        self, *, before: TransferId | None, peer: PeerId | None, states: Sequence[TransferState], limit: int
    ) -> tuple[Outgoing, ...]:
        """Transfers newest first, those with ids below *before*, at most *limit*."""
        statement = self._select().order_by(OutgoingRow.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(OutgoingRow.id < before)
        if peer is not None:
            statement = statement.where(OutgoingRow.peer_id == peer)
        if states:
            statement = statement.where(OutgoingRow.state.in_(states))
        return _records(await self._connection.execute(statement))
