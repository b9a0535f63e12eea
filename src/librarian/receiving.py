"""Receiving: what becomes of the entries of a drive that a peer sealed. The judge; ``tasks/receive`` reads the drive.

One transaction and few statements for a portion of entries, however many. An entry once judged has a row, which
answers for its uuid from then on: the same manifest again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from librarian import replication, room
from librarian.catalog.incoming_rows import Opening
from librarian.catalog.receptions import Ended
from librarian.catalog.records import Happening
from librarian.checksum import Checksum
from librarian.errors import NoRoom
from librarian.names import FileName, Token
from librarian.states import Arrival, Kind, TransferState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from librarian.catalog.obstacles import Obstacle
    from librarian.catalog.outbox import Note
    from librarian.catalog.receptions import Reception
    from librarian.catalog.records import Incoming, Peer
    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName
    from librarian.wire.manifest import Entry

#: Of an entry that was here before the drive came.
HELD_ALREADY = "held_already"


@dataclass(frozen=True, kw_only=True)
class Admission:
    """How many entries were judged, and why the next one could not be."""

    entries: int
    shortage: NoRoom | None = None


@dataclass(frozen=True, kw_only=True)
class BadEntry:
    """An entry that cannot be taken."""

    uuid: str
    name: FileName
    size: int
    checksum: Checksum | None
    code: str
    reason: str


@dataclass(kw_only=True)
class _Desk:
    """What was decided so far about a portion."""

    reception: Reception
    peer: Peer | None
    ledger: room.Ledger
    #: The store that a row names which never gets any staging.
    anywhere: StoreName
    openings: list[Opening] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    bad: list[BadEntry] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def end(self, entry: Entry, state: TransferState, code: str, reason: str) -> None:
        opening = _opening(entry, self.reception, room.Allotment(store=self.anywhere, reserved=0))
        self.ended.append(Ended(opening=opening, state=state, code=code, reason=reason))

    def refuse(self, entry: Entry, code: str, reason: str) -> None:
        self.end(entry, TransferState.FAILED, code, reason)
        self.bad.append(
            BadEntry(
                uuid=entry.uuid,
                name=FileName.trusted(entry.name),
                size=entry.size,
                checksum=Checksum.trusted(entry.checksum),
                code=code,
                reason=reason,
            )
        )

    def tell_held(self, entry: Entry) -> None:
        if self.peer is not None:
            file = _Held(FileName.trusted(entry.name), entry.size, Checksum.trusted(entry.checksum))
            self.notes.append(replication.held_note(self.peer.id, file, transfer=entry.uuid))


@dataclass(frozen=True)
class _Held:
    name: FileName
    size: int
    checksum: Checksum


async def admit(
    tx: Transaction, reception: Reception, entries: Sequence[Entry], *, rooms: Sequence[room.Room]
) -> Admission:
    """Judge *entries*, which follow those that *reception* has judged already: each becomes an incoming transfer.

    What is held is recognised, what can never be taken is refused, and the peer is told of both. Ends early where an
    entry has no room now. The transaction must be one that opens names.
    """
    stores = await tx.incoming.shelves()
    desk = _Desk(
        reception=reception,
        peer=None if reception.peer_id is None else (await tx.peers.with_ids([reception.peer_id]))[reception.peer_id],
        ledger=room.Ledger(rooms, stores),
        anywhere=stores[0].store,
    )
    known = {
        row.uuid: row
        for row in await tx.incoming.with_uuids([each.uuid for each in entries], peer_id=reception.peer_id)
    }
    obstacles = await tx.files.conflicts([FileName.trusted(each.name) for each in entries])
    shortage: NoRoom | None = None
    judged = 0
    for entry in entries:
        obstacle = obstacles.get(FileName.trusted(entry.name))
        try:
            if entry.uuid in known:
                _judge_again(entry, known[entry.uuid], obstacle, desk)
            else:
                _judge(entry, obstacle, desk)
        except NoRoom as error:
            shortage = error
            break
        judged += 1
    await _write(tx, desk, judged)
    return Admission(entries=judged, shortage=shortage)


async def _write(tx: Transaction, desk: _Desk, judged: int) -> None:
    await tx.incoming.open(desk.openings)
    await tx.receptions.write_ended(desk.ended)
    await tx.receptions.advance(desk.reception, by=judged)
    await replication.tell_held(tx, desk.notes)
    await tell_bad(tx, desk.reception, desk.bad)


def _judge(entry: Entry, obstacle: Obstacle | None, desk: _Desk) -> None:
    name = FileName.trusted(entry.name)
    if Checksum(entry.checksum).is_book is not (Kind(entry.kind) is Kind.BOOK):
        desk.refuse(entry, "bad_checksum", f"a {entry.kind} has no checksum {entry.checksum}")
    elif desk.peer is not None and not any(name.startswith(prefix) for prefix in desk.peer.accepts):
        desk.refuse(entry, "name_not_accepted", f"this site accepts no {name!r} from {desk.peer.name}")
    elif name in desk.names or not desk.names.isdisjoint(name.ancestors):
        desk.refuse(entry, "name_nested", "the manifest names it, or a name above it, twice")
    elif obstacle is None or not _is_obstructed(entry, obstacle, desk):
        allotment = desk.ledger.place(entry.size)
        desk.openings.append(_opening(entry, desk.reception, allotment))
    desk.names.add(name)


def _is_obstructed(entry: Entry, obstacle: Obstacle, desk: _Desk) -> bool:
    """Whether the entry was recognised or refused; what arrives otherwise and may be equal is no obstacle."""
    wanted = (entry.size, Checksum(entry.checksum))
    file, arriving = obstacle.file, obstacle.arriving
    if (beside := obstacle.nested_in or obstacle.encloses) is not None:
        desk.refuse(entry, "name_nested", f"the name and {beside!r} lie one within the other")
    elif file is not None and (file.size, file.checksum) != wanted:
        desk.refuse(entry, *_differs(entry, file.size, file.checksum))
    elif file is not None and obstacle.is_healthy:
        desk.end(entry, TransferState.COMPLETED, HELD_ALREADY, "it was here before the drive came")
        desk.tell_held(entry)
    elif arriving is not None and arriving.checksum is not None and (arriving.size, arriving.checksum) != wanted:
        reason = f"other content is arriving under that name: {arriving.checksum}, {arriving.size:,} bytes"
        desk.refuse(entry, "name_busy", reason)
    else:
        return False
    return True


def _differs(entry: Entry, size: int, held: Checksum) -> tuple[str, str]:
    if held.algorithm != Checksum(entry.checksum).algorithm and size == entry.size:
        return "other_algorithm", f"it is held with the checksum {held}, which cannot be compared"
    return "name_held", f"a file of that name is known here with other content: {held}, {size:,} bytes"


def _judge_again(entry: Entry, row: Incoming, obstacle: Obstacle | None, desk: _Desk) -> None:
    """The row that an earlier reading of the manifest has left answers once more."""
    if row.state is TransferState.COMPLETED:
        if obstacle is not None and obstacle.is_healthy:
            desk.tell_held(entry)
    elif row.state in (TransferState.FAILED, TransferState.CANCELLED):
        desk.bad.append(bad_entry(row))


def bad_entry(row: Incoming) -> BadEntry:
    """What is to be told of the transfer *row*, which failed."""
    return BadEntry(
        uuid=row.uuid,
        name=row.name,
        size=row.size,
        checksum=row.checksum,
        code=row.code or row.state.value,
        reason=row.reason or f"the transfer is {row.state.value}",
    )


def _opening(entry: Entry, reception: Reception, allotment: room.Allotment) -> Opening:
    return Opening(
        uuid=entry.uuid,
        arrival=Arrival.DRIVE,
        peer_id=reception.peer_id,
        account=reception.account,
        reception_id=reception.id,
        name=FileName.trusted(entry.name),
        kind=Kind(entry.kind),
        size=entry.size,
        checksum=Checksum.trusted(entry.checksum),
        uploader=entry.uploader,
        origin=entry.origin,
        file_created_at=entry.created_at,
        store=allotment.store,
        token=Token.mint(),
        reserved=allotment.reserved,
    )


async def tell_bad(tx: Transaction, reception: Reception, bad: Sequence[BadEntry]) -> None:
    """Tell the peer, the files' stories and a person of entries that cannot be taken; all others go on."""
    if not bad:
        return
    if reception.peer_id is not None:
        await replication.arrivals_failed(tx, list(_unarrived(reception, bad)))
    who = f"drive {reception.drive}"
    await tx.events.tell(
        [
            Happening(subject=each.name, what=f"refused from {who}", who=reception.origin, why=each.reason)
            for each in bad
        ]
    )
    first = bad[0]
    follows = "its sender sends again by itself" if reception.peer_id is not None else "nobody but you tells its sender"
    await tx.alerts.raise_alert(
        bad_cause(reception),
        message=f"Entries of the {who} of {reception.origin} could not be taken; of {first.name}: {first.reason}.",
        remedy=f"See 'drive received {reception.drive}'. What was bad on the drive {follows}.",
    )


def _unarrived(reception: Reception, bad: Iterable[BadEntry]) -> Iterable[replication.Unarrived]:
    for each in bad:
        if reception.peer_id is not None:
            yield replication.Unarrived(
                uuid=each.uuid,
                peer_id=reception.peer_id,
                name=each.name,
                size=each.size,
                checksum=each.checksum,
                code=each.code,
                reason=each.reason,
            )


def bad_cause(reception: Reception) -> str:
    """What the alert about entries that could not be taken is raised for."""
    return f"reception:{reception.uuid}:bad"


def waits_cause(reception: Reception) -> str:
    """What the alert is raised for that a drive cannot be read further now."""
    return f"reception:{reception.uuid}:waits"
