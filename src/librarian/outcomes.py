"""What becomes of copies that fail: another try, later each time, and in the end quarantine, where a person looks.

Called within the transaction that records the failure. Only what is wrong with the file itself counts towards
quarantine: a peer that is away or full, and a network that drops, may fail a copy for weeks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from librarian.catalog.copies_due import Turn
from librarian.catalog.due_totals import quarantined_subject
from librarian.catalog.outgoing import Ending
from librarian.catalog.records import Happening
from librarian.catalog.stopped import Stop
from librarian.errors import LibrarianError, Unavailable
from librarian.replication import Assertion, note
from librarian.states import Damage, DueState, RuleWay, TransferState
from librarian.timing import retry_delay, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from librarian.catalog.outbox import Note
    from librarian.catalog.records import Outgoing, Peer
    from librarian.catalog.transaction import Transaction
    from librarian.names import FileId, FileName, StoreName

#: An operator ended it, here or at the receiver: only an operator takes it up again.
CANCELLED: Final = "cancelled_by_operator"
#: The receiver holds other content under the name.
HELD_DIFFERENTLY: Final = "held_differently"
#: An engine gave a whole batch up, and did not say because of which item.
BATCH_FAILED: Final = "batch_failed"


def _codes(kind: type[LibrarianError]) -> Iterator[str]:
    yield kind.code
    for each in kind.__subclasses__():
        yield from _codes(each)


#: What a receiver says when nothing is wrong with the file: it cannot now, or another arrival was in the way.
#: And when the copy on a drive was not what it was: it is loaded anew.
_PASSING: Final = frozenset(
    {*_codes(Unavailable), *Damage, "lease_lapsed", "name_busy", "copy_lost", TransferState.CANCELLED.value}
)

#: An engine could not bring it, for reasons of its own.
NOT_DELIVERED: Final = "not_delivered"
#: Again and again it could not be read or brought, or other bytes arrived: perhaps ours are not what they were.
_DOUBTFUL: Final = frozenset({"checksum_mismatch", "size_mismatch", NOT_DELIVERED})


@dataclass(frozen=True, kw_only=True)
class Failed:
    """One copy that was not made."""

    file_id: FileId
    name: FileName
    code: str
    reason: str
    #: Whether it was for reasons of the file's own.
    is_own: bool


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What a receiver says about a transfer that it could not take."""

    transfer: Outgoing
    code: str | None
    reason: str | None
    #: Of the notice that says so; 0: it was asked.
    seq: int = 0


def is_own(code: str) -> bool:
    """Whether a receiver that gives *code* as its reason would say the same whenever it is asked."""
    return code not in _PASSING


async def record_failures(tx: Transaction, peer: Peer, failed: Sequence[Failed], *, most: int) -> datetime | None:
    """Let each be tried again, later each time; the *most*-th failure of its own puts it into quarantine.

    Returns when the first of them is to be tried again.
    """
    if not failed:
        return None
    dues = await tx.copies_due.of_files([each.file_id for each in failed])
    owed = {due.file_id: due for due in dues if due.peer == peer.name and due.way is RuleWay.NETWORK}
    turns: list[Turn] = []
    stops: list[Failed] = []
    for each in failed:
        due = owed.get(each.file_id)
        if due is None:
            continue
        if each.code == CANCELLED or (each.is_own and due.failures + 1 >= most):
            stops.append(each)
        else:
            turns.append(_again(each, attempts=due.attempts + 1))
    await tx.copies_due.turn(peer.id, turns)
    await quarantine(tx, peer, stops)
    return min((turn.next_try_at for turn in turns), default=None)


async def record_losses(tx: Transaction, peer: Peer, lost: Sequence[Failed], *, most: int) -> None:
    """*peer* has lost what is due to it again: later each time; after *most* times it waits for a person.

    A disk there that spoils whatever is written to it would have us send the same bytes for ever.
    """
    times = await tx.outgoing.times_brought(peer.id, [each.file_id for each in lost])
    often = [each for each in lost if times.get(each.file_id, 0) > 1]
    if not often:
        return
    owed = {
        due.file_id
        for due in await tx.copies_due.of_files([each.file_id for each in often])
        if due.peer == peer.name and due.way is RuleWay.NETWORK and due.state is DueState.DUE
    }
    again = [each for each in often if each.file_id in owed]
    await tx.copies_due.turn(
        peer.id, [_again(each, attempts=times[each.file_id] - 1) for each in again if times[each.file_id] < most]
    )
    await quarantine(
        tx,
        peer,
        [
            replace(each, reason=f"{peer.name} took it {brought} times, and lost it each time: {each.reason}")
            for each in again
            if (brought := times[each.file_id]) >= most
        ],
    )


async def record_refusals(
    tx: Transaction, peer: Peer, refusals: Sequence[Refusal], *, most: int, epoch: int = 0
) -> frozenset[str]:
    """End what *peer* could not take, and record the failures; an older notice than the last applied changes nothing.

    *epoch*: of the notices that say so. Returns the uuids of those that have ended now.
    """
    told = [(each, _failure(each)) for each in refusals]
    state = TransferState.FAILED
    endings = [
        Ending(uuid=each.transfer.uuid, state=state, code=failure.code, reason=failure.reason, seq=each.seq)
        for each, failure in told
    ]
    ended = frozenset(await tx.outgoing.end(peer.id, endings, epoch=epoch))
    failed = [failure for each, failure in told if each.transfer.uuid in ended]
    await tx.events.tell(
        [
            Happening(subject=each.name, what=f"clone failed at {peer.name}", who=peer.name, why=each.reason)
            for each in failed
        ]
    )
    await record_failures(tx, peer, failed, most=most)
    return ended


def _failure(refusal: Refusal) -> Failed:
    transfer, code = refusal.transfer, refusal.code or "failed"
    reason = refusal.reason or "the receiver gives no reason"
    return Failed(file_id=transfer.file_id, name=transfer.name, code=code, reason=reason, is_own=is_own(code))


def _again(failed: Failed, *, attempts: int) -> Turn:
    return Turn(
        file_id=failed.file_id,
        state=DueState.DUE,
        next_try_at=utc_now() + retry_delay(attempts),
        code=failed.code,
        reason=failed.reason,
        failed=True,
        is_own_failure=failed.is_own,
    )


async def quarantine(tx: Transaction, peer: Peer, failed: Sequence[Failed]) -> None:
    """Put copies aside until a person says that they are to be tried again, and tell that person once for all."""
    if not failed:
        return
    new = await tx.stopped.quarantine(
        peer.id, [Stop(file_id=each.file_id, code=each.code, reason=each.reason) for each in failed]
    )
    stopped = [each for each in failed if each.file_id in new]
    live = await tx.outgoing.live([each.file_id for each in stopped], peer=peer.id)
    await end(tx, peer, live, state=TransferState.FAILED, code="quarantined", reason="its copy is in quarantine")
    await tx.events.tell(
        [
            Happening(subject=each.name, what=f"quarantined for {peer.name}", who=peer.name, why=each.reason)
            for each in stopped
        ]
    )
    await tx.suspects.mark([each.file_id for each in stopped if each.code in _DOUBTFUL])
    untold = [each for each in stopped if each.code not in (CANCELLED, HELD_DIFFERENTLY)]
    if untold:
        await tx.alerts.raise_alert(
            quarantine_cause(peer),
            message=f"Copies for {peer.name} were put into quarantine, {len(untold)} of them now; "
            f"{untold[0].name} among them: {untold[0].reason}.",
            remedy=f"See 'transfer stopped --peer {peer.name}'; when the reason is gone: "
            f"'transfer retry --peer {peer.name}'.",
        )


async def doubt(tx: Transaction, transfer: Outgoing, *, store: StoreName | None, why: str) -> None:
    """What *transfer* read on *store* (None: on some store) may be bad: no source until it was read again."""
    await tx.suspects.mark([transfer.file_id], store=store)
    await tx.alerts.raise_alert(
        suspect_cause(transfer.name),
        message=f"A copy of {transfer.name} did not read as it should: {why}.",
        remedy="It is read again, and no source meanwhile; 'why' tells what was found.",
    )


def suspect_cause(name: str) -> str:
    """What the alert is raised for that a copy of the file *name* may be bad."""
    return f"suspect:{name}"


def lost_cause(store: StoreName, name: FileName) -> str:
    """What the alert is raised for that the copy of the file *name* on *store* was lost."""
    return f"copy-lost:{store}:{name}"


def quarantine_cause(peer: Peer) -> str:
    """What the alert about copies in quarantine is raised for: one for a peer, however many."""
    return f"peer:{peer.name}:quarantine"


def unwanted_cause(drive: StoreName) -> str:
    """What the alert is raised for that a peer does not want something that *drive* carries."""
    return f"drive-unwanted:{drive}"


def refusing_cause(peer: Peer) -> str:
    """What the alert is raised for that *peer* refuses notices of ours for good."""
    return f"peer:{peer.name}:refuses-notices"


async def notices_heard(tx: Transaction, peers: Sequence[Peer]) -> None:
    """Take back that alert about those of *peers* for which nothing is set aside any more. A repeat does nothing."""
    raised = await tx.alerts.named([refusing_cause(peer) for peer in peers])
    still = {alert.cause for alert in raised if alert.acknowledged_at is None}
    for peer in peers:
        # Counted only then: it reads all that the peer has not heard yet.
        if refusing_cause(peer) in still and not await tx.outbox.count_set_aside(ids=(), peer=peer.id):
            await tx.alerts.acknowledge([refusing_cause(peer)])


def differs_cause(peer: Peer, name: str) -> str:
    """What the alert is raised for that *peer* holds other content under *name*."""
    return f"peer:{peer.name}:differs:{name}"


async def forget_alerts(tx: Transaction, names: Sequence[str]) -> None:
    """The files *names* are tried again: what was alerted about them is over, or will be alerted anew.

    So is quarantine for a peer where nothing is left in it, and what that did not want from drives.
    """
    peers = await tx.peers.all()
    causes = [differs_cause(peer, name) for peer in peers for name in names]
    well = [peer for peer in peers if (await tx.tallies.of(quarantined_subject(peer.id))).files == 0]
    causes += [quarantine_cause(peer) for peer in well]
    well_names = {peer.name for peer in well}
    carrying = [each.id for each in (await tx.manifests.present()).values() if each.peer in well_names]
    causes += [unwanted_cause(drive) for drive in (await tx.manifests.drives_of(carrying)).values()]
    await tx.alerts.acknowledge(causes)


async def cancel(tx: Transaction, peer: Peer, transfers: Sequence[Outgoing], *, who: str) -> None:
    """End *transfers* to *peer* since an operator says so; their copies wait for an operator from now on."""
    reason = f"{who} has cancelled it"
    await end(tx, peer, transfers, state=TransferState.CANCELLED, code=CANCELLED, reason=reason)
    await quarantine(
        tx,
        peer,
        [Failed(file_id=t.file_id, name=t.name, code=CANCELLED, reason=reason, is_own=True) for t in transfers],
    )


async def end(
    tx: Transaction, peer: Peer, transfers: Sequence[Outgoing], *, state: TransferState, code: str, reason: str
) -> None:
    """End live *transfers* to *peer*, and tell it of those that it has accepted."""
    await tx.outgoing.end(
        peer.id, [Ending(uuid=each.uuid, state=state, code=code, reason=reason) for each in transfers]
    )
    # One without a token may be unknown there: the peer will ask, should it know it.
    await tx.outbox.put([cancelled_note(peer, each) for each in transfers if each.token is not None])


def cancelled_note(peer: Peer, transfer: Outgoing) -> Note:
    """The notice to *peer* that we work for *transfer* no longer."""
    assertion = Assertion(name=transfer.name, size=transfer.size, checksum=transfer.checksum)
    return note(peer.id, transfer.uuid, "cancelled", assertion)
