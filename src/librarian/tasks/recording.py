"""Recording: what ingest writes down about a batch, within its one transaction."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from librarian import replication
from librarian.catalog.files import Listing, NewFile
from librarian.catalog.incoming_rows import Completion, Failure
from librarian.catalog.instances import NewInstance
from librarian.catalog.loading import Owed, Setback
from librarian.catalog.records import Happening, Tally
from librarian.errors import ChecksumMismatch, NameHeld, SizeMismatch
from librarian.outcomes import lost_cause
from librarian.quantities import counted
from librarian.replication import Arrived, Unarrived
from librarian.states import Arrival, DueState, Intent, Presence
from librarian.tasks import misfits
from librarian.tasks.verifying import Bad
from librarian.timing import utc_now
from librarian.turns import in_turns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from librarian.catalog.records import File, Incoming
    from librarian.catalog.transaction import Transaction
    from librarian.errors import LibrarianError
    from librarian.names import FileId, FileName, StoreName
    from librarian.tasks.verifying import Good, Later


#: A copy that was spoilt while it was written is made again so much later.
AFTER_BAD_WRITE: Final = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What became of good payloads when they were written down."""

    good: Sequence[Good] = ()
    #: Those whose name has come to stand for something else meanwhile; not written down yet.
    bad: Sequence[Bad] = ()
    #: There may be something to send to peers now.
    owes: bool = False


async def record_good(tx: Transaction, good: Sequence[Good], *, now: datetime) -> Recorded:
    """Write File, Instance and listing of each, its event, the totals, what it owes, and COMPLETED."""
    if not good:
        return Recorded()
    first = {each.transfer.name: each for each in good}
    if len(first) < len(good):
        return await _record_twins(tx, list(first.values()), good, now=now)
    ids = await tx.files.add(await in_turns(lambda each: _new_file(each.transfer, now), good))
    held = await tx.files.named([each.transfer.name for each in good if each.transfer.name not in ids])
    settled = [each for each in good if _is_equal(each.transfer, held)]
    file_ids = {**{name: file.id for name, file in held.items()}, **ids}
    gained = await _gained(tx, settled, held, ids)
    await tx.instances.add(await in_turns(lambda each: _instance(each, file_ids[each.transfer.name], now), settled))
    await tx.files.add_listings(
        [
            Listing(file_id=ids[each.transfer.name], count=len(each.measured.members), packed=each.listing)
            for each in settled
            if each.listing is not None and each.transfer.name in ids
        ]
    )
    await tx.tallies.add_many(_totals(gained))
    await tx.events.tell(await in_turns(lambda each: _ingested(each, is_new=each.transfer.name in ids), settled))
    await _tell_replaced(tx, [each for each in settled if each.set_aside])
    arrived = await in_turns(
        lambda each: _arrived(each.transfer, file_ids[each.transfer.name], is_new=each.transfer.name in ids), settled
    )
    owes = await replication.files_arrived(tx, arrived)
    await tx.loading.paid(
        [
            Owed(file_id=file_ids[each.transfer.name], rule_id=each.transfer.rule_id, store=each.transfer.store)
            for each in settled
            if each.transfer.rule_id is not None
        ]
    )
    await tx.claims.complete([Completion(id=each.transfer.id, has_staging=each.has_staging) for each in settled])
    lost = [_lost_race(each, held) for each in good if not _is_equal(each.transfer, held)]
    return Recorded(good=settled, bad=lost, owes=owes)


async def _record_twins(tx: Transaction, first: Sequence[Good], good: Sequence[Good], *, now: datetime) -> Recorded:
    """Some names came twice at once, on a drive and over the network: one of each is new, the others are equal or not.

    Their order does not matter.
    """
    chosen = {each.transfer.token for each in first}
    recorded = await record_good(tx, first, now=now)
    others = await record_good(tx, [each for each in good if each.transfer.token not in chosen], now=now)
    return Recorded(
        good=[*recorded.good, *others.good],
        bad=[*recorded.bad, *others.bad],
        owes=recorded.owes or others.owes,
    )


def _instance(good: Good, file_id: FileId, now: datetime) -> NewInstance:
    return NewInstance(file_id=file_id, store=good.transfer.store, verified_at=now, verified_from=good.verified_from)


def _new_file(transfer: Incoming, now: datetime) -> NewFile:
    assert transfer.checksum is not None  # noqa: S101 - verified against it
    return NewFile(
        name=transfer.name,
        kind=transfer.kind,
        size=transfer.size,
        checksum=transfer.checksum,
        uploader=transfer.uploader,
        origin=transfer.origin,
        created_at=transfer.file_created_at or now,
    )


def _is_equal(transfer: Incoming, held: Mapping[FileName, File]) -> bool:
    """Whether *transfer* is new, or equal to the file that has its name already."""
    file = held.get(transfer.name)
    return file is None or (file.kind, file.size, file.checksum) == (transfer.kind, transfer.size, transfer.checksum)


def _lost_race(good: Good, held: Mapping[FileName, File]) -> Bad:
    file = held[good.transfer.name]
    error = NameHeld(
        f"{file.name!r} is held: {file.kind}, {file.size:,} bytes, {file.checksum}",
        remedy="Choose another name for the different content.",
    )
    # Published under a name that another file has: only on another store, and a person must decide.
    return Bad(transfer=good.transfer, error=error, alerts=True)


async def _gained(
    tx: Transaction, settled: Sequence[Good], held: Mapping[FileName, File], ids: Mapping[FileName, FileId]
) -> list[tuple[StoreName, int, bool]]:
    """(store, bytes, whether the site did not hold the file before) of each copy that was not there before."""
    gained = [(each.transfer.store, each.transfer.size, True) for each in settled if each.transfer.name in ids]
    known = [each for each in settled if each.transfer.name in held]
    if not known:
        return gained
    copies = [
        copy
        for copy in await tx.instances.of_files([held[each.transfer.name].id for each in known])
        if copy.presence in (Presence.PRESENT, Presence.SUSPECT) and copy.intent is Intent.KEEP
    ]
    for each in known:
        stores = {copy.store for copy in copies if copy.file_id == held[each.transfer.name].id}
        if each.transfer.store not in stores:
            gained.append((each.transfer.store, each.transfer.size, not stores))
    return gained


def _totals(gained: Sequence[tuple[StoreName, int, bool]]) -> dict[str, Tally]:
    """``held`` counts files of the site, ``store:<name>`` copies on a store."""
    totals: dict[str, Tally] = {}
    for store, size, is_first in gained:
        for subject in (f"store:{store}", *(("held",) if is_first else ())):
            before = totals.get(subject, Tally(files=0, bytes=0))
            totals[subject] = Tally(files=before.files + 1, bytes=before.bytes + size)
    return totals


def _ingested(good: Good, *, is_new: bool) -> Happening:
    transfer = good.transfer
    what = "ingested" if is_new else "copy ingested"
    why = f"onto {transfer.store}, {transfer.size} bytes, {transfer.checksum}"
    return Happening(subject=transfer.name, what=what, who=transfer.account, why=why)


async def _tell_replaced(tx: Transaction, replaced: Sequence[Good]) -> None:
    """What was alerted about each when its copy was found corrupt now says how it ended."""
    await tx.events.tell(
        [
            Happening(subject=each.transfer.name, what="corrupt copy set aside", who="ingest", why=each.set_aside)
            for each in replaced
        ]
    )
    for each in replaced:
        store, name = each.transfer.store, each.transfer.name
        await tx.alerts.raise_alert(
            lost_cause(store, name),
            message=f"The copy of {name} on {store} was corrupt; a good one has taken its place.",
            remedy=f"Look at the disk behind {store}. What stood there is kept in the store's staging, as "
            f"{each.set_aside}, until you remove it.",
        )


def _arrived(transfer: Incoming, file_id: FileId, *, is_new: bool) -> Arrived:
    assert transfer.checksum is not None  # noqa: S101 - verified against it
    return Arrived(
        file_id=file_id,
        name=transfer.name,
        kind=transfer.kind,
        size=transfer.size,
        checksum=transfer.checksum,
        store=transfer.store,
        peer_id=transfer.peer_id,
        transfer=transfer.uuid if transfer.arrival is Arrival.DRIVE else "",
        is_new=is_new,
    )


async def record_bad(tx: Transaction, bad: Sequence[Bad]) -> None:
    """Write why each failed, tell peers, and raise alerts."""
    if not bad:
        return
    await tx.claims.fail(
        [Failure(id=each.transfer.id, code=each.error.code, reason=each.error.message) for each in bad]
    )
    await tx.events.tell(
        [
            Happening(subject=each.transfer.name, what="refused", who=each.transfer.account, why=each.error.message)
            for each in bad
        ]
    )
    await replication.arrivals_failed(tx, [_unarrived(each) for each in bad if each.transfer.peer_id is not None])
    await _put_off(tx, [each for each in bad if each.transfer.arrival is Arrival.COPY])
    for each in bad:
        if each.alerts and not _is_misfit(each):
            cause = f"{each.error.code}:{each.transfer.store}:{each.transfer.name}"
            await tx.alerts.raise_alert(cause, message=each.error.message, remedy=each.error.remedy)


async def _put_off(tx: Transaction, bad: Sequence[Bad]) -> None:
    """Copies of what rests on other stores: they were right when they were read, and are not what was written."""
    if not bad:
        return
    files = await tx.files.named([each.transfer.name for each in bad])
    now = utc_now()
    await tx.loading.put_off(
        [
            Setback(
                owed=Owed(
                    file_id=files[each.transfer.name].id, rule_id=each.transfer.rule_id, store=each.transfer.store
                ),
                state=DueState.DUE,
                next_try_at=now if _is_misfit(each) else now + AFTER_BAD_WRITE,
                code=each.error.code,
                reason=f"on {each.transfer.store}: {each.error.message}",
                failed=True,
            )
            for each in bad
            if each.transfer.rule_id is not None
        ]
    )
    by_store: defaultdict[StoreName, list[tuple[FileId, FileName, LibrarianError]]] = defaultdict(list)
    for each in bad:
        if _is_misfit(each):
            name = each.transfer.name
            by_store[each.transfer.store].append((files[name].id, name, each.error))
    for store, refused in by_store.items():
        await misfits.note(tx, store, refused)
    spoilt = [each for each in bad if isinstance(each.error, ChecksumMismatch | SizeMismatch)]
    if spoilt:
        first = spoilt[0]
        await tx.alerts.raise_alert(
            f"bad-write:{first.transfer.store}",
            message=f"What was written to {first.transfer.store} reads otherwise, {counted(len(spoilt))} now, "
            f"{first.transfer.name} among them: {first.error.message}",
            remedy="Look at the disk, its cable and the kernel's log. The copies are made again.",
        )


def _is_misfit(bad: Bad) -> bool:
    """Whether it is a copy of ours that another store may keep."""
    return bad.transfer.arrival is Arrival.COPY and isinstance(bad.error, misfits.NEVER)


def _unarrived(bad: Bad) -> Unarrived:
    transfer = bad.transfer
    assert transfer.peer_id is not None  # noqa: S101 - of a peer's clone
    return Unarrived(
        uuid=transfer.uuid,
        peer_id=transfer.peer_id,
        name=transfer.name,
        size=transfer.size,
        checksum=transfer.checksum,
        code=bad.error.code,
        reason=bad.error.message,
    )


async def alert_waiting(tx: Transaction, waiting: Sequence[Later]) -> None:
    """Show a person what waits for its store for long: it goes on by itself, but may need help."""
    if not waiting:
        return
    first = waiting[0]
    store = first.transfer.store
    await tx.alerts.raise_alert(
        f"ingest-waits:{store}:{first.error.code}",
        message=f"Cannot ingest {counted(len(waiting))} onto {store} for long, {first.transfer.name} among them: "
        f"{first.error.message}",
        remedy=first.error.remedy,
    )


async def alert_stuck(tx: Transaction, transfer: Incoming, error: Exception) -> None:
    """Show a transfer that fails again and again to a person; it stays staged and is tried again."""
    await tx.alerts.raise_alert(
        f"ingest-stuck:{transfer.uuid}",
        message=f"Cannot ingest {transfer.name}: {error}",
        remedy="The server's log has the traceback. Run 'transfer cancel' if it is not worth the repair.",
    )
