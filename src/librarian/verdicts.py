"""Verdicts: what becomes of the clones that a peer offers. One transaction and few statements, however many.

The same offer again gets the same verdicts: a row, once written, answers for its uuid.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from librarian import guard, replication, room
from librarian.catalog.incoming_rows import Failure, Opening
from librarian.catalog.records import Happening
from librarian.checksum import Checksum
from librarian.errors import LibrarianError, NoRoom, Unavailable
from librarian.names import FileName, Token
from librarian.states import OPEN, Arrival, Kind, TransferState
from librarian.timing import utc_now
from librarian.wire.clones import Accepted, Busy, Held, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from librarian.catalog.obstacles import Obstacle
    from librarian.catalog.outbox import Note
    from librarian.catalog.records import Incoming, Peer
    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName
    from librarian.site import Site
    from librarian.wire.clones import OfferedClone, Verdict

#: Why a uuid is refused whose file came, and was lost since.
COPY_LOST: Final = "copy_lost"
#: BUSY names an instant at least this far away.
SOONEST: Final = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The verdicts in the order of the offer, and the staging that must exist before they are sent."""

    verdicts: list[Verdict]
    to_stage: dict[StoreName, list[Incoming]]
    #: The uuids of those that are new.
    new: frozenset[str] = frozenset()


@dataclass(kw_only=True)
class _Bench:
    """What one judgement has decided so far."""

    peer: Peer
    ledger: room.Ledger
    lease: timedelta
    now: datetime
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    openings: list[Opening] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    lapsed: list[Incoming] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    above: set[str] = field(default_factory=set)


async def answer_offer(site: Site, peer: Peer, clones: Sequence[OfferedClone], *, lease: timedelta) -> list[Verdict]:
    """Give a verdict on each of *clones*, and make the staging of those that are accepted.

    Rows are written first and directories made afterwards: a crash leaves rows without directories, and the same
    offer again makes them.
    """
    judged = await _judge_with_room(site, peer, clones, lease=lease)
    guard.step("row written")
    instead: dict[str, Verdict] = {}
    for name, rows in judged.to_stage.items():
        try:
            await site.stores.lookup(name).stage([row.token for row in rows])
        except LibrarianError as error:
            # What was under way before may have its bytes there: a store that may come back is no end of it.
            lost = [row for row in rows if row.uuid in judged.new or not isinstance(error, Unavailable)]
            soon = utc_now() + SOONEST
            instead |= {row.uuid: Busy(uuid=row.uuid, until=soon, reason=error.message) for row in rows}
            instead |= {row.uuid: Refused(uuid=row.uuid, code=error.code, reason=error.message) for row in lost}
            await _fail(site, lost, error)
    guard.step("directory made")
    return [instead.get(verdict.uuid, verdict) for verdict in judged.verdicts]


async def _judge_with_room(site: Site, peer: Peer, clones: Sequence[OfferedClone], *, lease: timedelta) -> Judged:
    judged = await _judge_once(site, peer, clones, lease=lease)
    is_short = any(isinstance(verdict, Refused) and verdict.code == NoRoom.code for verdict in judged.verdicts)
    if is_short and await room.look_again(site):
        # Reservations shrink as bytes come in; before a refusal for want of room they are worth another look.
        judged = await _judge_once(site, peer, clones, lease=lease)
    return judged


async def _judge_once(site: Site, peer: Peer, clones: Sequence[OfferedClone], *, lease: timedelta) -> Judged:
    rooms = await room.sample(site)
    async with site.catalog.begin(opens_names=True) as tx:
        return await judge(tx, peer=peer, clones=clones, rooms=rooms, lease=lease)


async def _fail(site: Site, rows: Sequence[Incoming], error: LibrarianError) -> None:
    async with site.catalog.begin() as tx:
        await tx.claims.fail([Failure(id=row.id, code=error.code, reason=error.message) for row in rows])


async def judge(
    tx: Transaction, *, peer: Peer, clones: Sequence[OfferedClone], rooms: Sequence[room.Room], lease: timedelta
) -> Judged:
    """Give a verdict on each of *clones*; accepted ones are written as incoming transfers of *peer*."""
    known = {row.uuid: row for row in await tx.incoming.with_uuids([c.uuid for c in clones], peer_id=peer.id)}
    bench = _Bench(peer=peer, ledger=await room.ledger(tx, rooms), lease=lease, now=utc_now())
    fresh: list[OfferedClone] = []
    seen: dict[str, OfferedClone] = {}
    ended = [row.name for row in known.values() if row.state is TransferState.COMPLETED]
    obstacles = await tx.files.conflicts([*(FileName.trusted(c.name) for c in clones if c.uuid not in known), *ended])
    for clone in clones:
        if seen.setdefault(clone.uuid, clone) != clone:
            return _refuse_all(clones, "uuid_reused", f"the uuid {clone.uuid} is offered twice with different content")
        if clone.uuid in known:
            bench.verdicts[clone.uuid] = _again(clone, known[clone.uuid], obstacles, bench)
        elif (refusal := _refuse(clone, peer)) is not None:
            bench.verdicts[clone.uuid] = refusal
        else:
            fresh.append(clone)
    for clone in fresh:
        if clone.uuid not in bench.verdicts:
            bench.verdicts[clone.uuid] = _judge_fresh(clone, obstacles.get(FileName.trusted(clone.name)), bench)
    await _pin(tx, bench, clones, obstacles)
    opened = await _write(tx, bench)
    return Judged(
        verdicts=[bench.verdicts[clone.uuid] for clone in clones],
        to_stage=_by_store([*opened, *known.values()]),
        new=frozenset(row.uuid for row in opened),
    )


async def _pin(
    tx: Transaction, bench: _Bench, clones: Sequence[OfferedClone], obstacles: Mapping[FileName, Obstacle]
) -> None:
    """Let nobody find what we say is held to be lost before that is written: who is not told yet would never hear."""
    held = {note.subject: file.id for note in bench.notes if (file := obstacles[FileName.trusted(note.subject)].file)}
    if not held:
        return
    pinned = await tx.instances.pin(list(held.values()))
    lost = {name for name, file_id in held.items() if file_id not in pinned}
    bench.notes = [note for note in bench.notes if note.subject not in lost]
    bench.verdicts |= {
        clone.uuid: Busy(uuid=clone.uuid, until=bench.now + SOONEST, reason="the copy here is being looked at")
        for clone in clones
        if clone.name in lost and isinstance(bench.verdicts[clone.uuid], Held)
    }


def _refuse_all(clones: Sequence[OfferedClone], code: str, reason: str) -> Judged:
    return Judged(verdicts=[Refused(uuid=clone.uuid, code=code, reason=reason) for clone in clones], to_stage={})


def _by_store(rows: Iterable[Incoming]) -> dict[StoreName, list[Incoming]]:
    to_stage: defaultdict[StoreName, list[Incoming]] = defaultdict(list)
    for row in rows:
        # Known ones as well: a row may have been written by a process that died before it made the directory.
        if row.state in OPEN:
            to_stage[row.store].append(row)
    return dict(to_stage)


async def _write(tx: Transaction, bench: _Bench) -> list[Incoming]:
    if bench.lapsed:
        reason = f"its lease on the name had lapsed when {bench.peer.name} offered the file"
        await tx.incoming.cancel([row.id for row in bench.lapsed], code="lease_lapsed", reason=reason)
        await tx.events.tell(
            [
                Happening(subject=row.name, what="arrival cancelled", who=bench.peer.name, why=reason)
                for row in bench.lapsed
            ]
        )
        await replication.arrivals_failed(
            tx,
            [
                replication.Unarrived(
                    uuid=row.uuid,
                    peer_id=row.peer_id,
                    name=row.name,
                    size=row.size,
                    checksum=row.checksum,
                    code="lease_lapsed",
                    reason=reason,
                )
                for row in bench.lapsed
                if row.peer_id is not None
            ],
        )
    await replication.tell_held(tx, bench.notes)
    return await tx.incoming.open(bench.openings)


def _refuse(clone: OfferedClone, peer: Peer) -> Refused | None:
    if not any(clone.name.startswith(prefix) for prefix in peer.accepts):
        return Refused(
            uuid=clone.uuid, code="name_not_accepted", reason=f"this site accepts no {clone.name!r} from {peer.name}"
        )
    if Checksum(clone.checksum).is_book is not (Kind(clone.kind) is Kind.BOOK):
        return Refused(uuid=clone.uuid, code="bad_checksum", reason=f"a {clone.kind} has no checksum {clone.checksum}")
    return None


def _again(clone: OfferedClone, row: Incoming, obstacles: Mapping[FileName, Obstacle], bench: _Bench) -> Verdict:
    """The verdict on a uuid that has a row: the one that the row remembers, unless what it brought was lost."""
    if (row.name, row.size, row.kind, row.checksum) != (clone.name, clone.size, clone.kind, clone.checksum):
        return Refused(
            uuid=clone.uuid,
            code="uuid_reused",
            reason=f"the uuid stands for other content: {row.name}, {row.size:,} bytes",
        )
    match row.state:
        case TransferState.COMPLETED if not obstacles[row.name].is_healthy:
            reason = "the copy that it brought was lost here; it may come again under another uuid"
            return Refused(uuid=clone.uuid, code=COPY_LOST, reason=reason)
        case TransferState.COMPLETED:
            checksum = row.checksum or Checksum(clone.checksum)
            bench.notes.append(
                replication.note(
                    bench.peer.id,
                    row.name,
                    "held",
                    replication.Assertion(name=row.name, size=row.size, checksum=checksum, store=row.store),
                )
            )
            return Held(uuid=clone.uuid, size=row.size, checksum=checksum)
        case TransferState.FAILED | TransferState.CANCELLED:
            reason = row.reason or f"the transfer is {row.state.value}"
            return Refused(uuid=clone.uuid, code=row.code or row.state.value, reason=reason)
        case _:
            return Accepted(uuid=clone.uuid, token=row.token, store=row.store)


def _judge_fresh(clone: OfferedClone, obstacle: Obstacle | None, bench: _Bench) -> Verdict:
    name = FileName.trusted(clone.name)
    if name in bench.names or name in bench.above or not bench.names.isdisjoint(name.ancestors):
        return Refused(uuid=clone.uuid, code="name_nested", reason="the offer names it, or a name above it, twice")
    if obstacle is not None and (verdict := _obstructed(clone, obstacle, bench)) is not None:
        return verdict
    try:
        allotment = bench.ledger.place(clone.size)
    except LibrarianError as error:
        return Refused(uuid=clone.uuid, code=error.code, reason=error.message)
    if obstacle is not None and obstacle.arriving is not None and obstacle.arriving.arrival is not Arrival.DRIVE:
        bench.lapsed.append(obstacle.arriving)
    token = Token.mint()
    bench.names.add(name)
    bench.above.update(name.ancestors)
    bench.openings.append(
        Opening(
            uuid=clone.uuid,
            arrival=Arrival.CLONE,
            peer_id=bench.peer.id,
            account=bench.peer.name,
            name=name,
            kind=Kind(clone.kind),
            size=clone.size,
            checksum=Checksum.trusted(clone.checksum),
            uploader=clone.uploader,
            origin=clone.origin,
            file_created_at=clone.created_at,
            store=allotment.store,
            token=token,
            reserved=allotment.reserved,
        )
    )
    return Accepted(uuid=clone.uuid, token=token, store=allotment.store)


def _obstructed(clone: OfferedClone, obstacle: Obstacle, bench: _Bench) -> Verdict | None:
    beside = obstacle.nested_in or obstacle.encloses
    if beside is not None:
        return Refused(uuid=clone.uuid, code="name_nested", reason=f"the name and {beside!r} lie one within the other")
    file = obstacle.file
    if file is not None:
        is_equal = (file.size, file.checksum) == (clone.size, clone.checksum)
        if obstacle.is_healthy:
            if is_equal:
                bench.notes.append(replication.held_note(bench.peer.id, file))
            elif file.checksum.algorithm != Checksum(clone.checksum).algorithm:
                reason = f"it is held with the checksum {file.checksum}, which cannot be compared"
                return Refused(uuid=clone.uuid, code="other_algorithm", reason=reason)
            return Held(uuid=clone.uuid, size=file.size, checksum=file.checksum)
        if not is_equal:
            reason = f"a file of that name is known here with other content: {file.checksum}, {file.size:,} bytes"
            return Refused(uuid=clone.uuid, code="name_held", reason=reason)
    if obstacle.arriving is not None:
        return _busy(clone, obstacle.arriving, bench)
    return None


def _busy(clone: OfferedClone, arriving: Incoming, bench: _Bench) -> Verdict | None:
    """BUSY while the other arrival of the name makes progress; it loses the name when it does not.

    A drive that lies on a shelf loses nothing: what it carries may come beside the very same from elsewhere.
    """
    until = arriving.progressed_at + bench.lease
    is_other = arriving.checksum is not None and (arriving.size, arriving.checksum) != (clone.size, clone.checksum)
    may_share = arriving.arrival is not Arrival.DRIVE or not is_other
    if arriving.state in OPEN and until <= bench.now and may_share:
        return None
    if is_other:
        reason = f"other content is arriving under that name: {arriving.checksum}, {arriving.size:,} bytes"
        return Refused(uuid=clone.uuid, code="name_busy", reason=reason)
    return Busy(
        uuid=clone.uuid,
        until=max(until, bench.now + SOONEST),
        reason="another arrival of that name is under way",
    )
