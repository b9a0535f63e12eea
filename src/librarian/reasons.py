"""Reasons: how a file stands, told in sentences: what each of its copies still waits for, and since when.

Facts in, sentences out; nothing is asked of anybody here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from librarian import carriage
from librarian.gates import closed_hours, gate_of
from librarian.owing import matches, policy_of
from librarian.quantities import counted
from librarian.states import (
    OPEN,
    Arrival,
    BatchState,
    DueState,
    Intent,
    Presence,
    Reach,
    RuleWay,
    TransferState,
)
from librarian.timing import told_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.receptions import Reception
    from librarian.catalog.records import Batch, CopyDueRecord, Incoming, InstanceRecord, Outgoing, Peer
    from librarian.catalog.standing import Standing
    from librarian.gates import Gate


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """That a peer does not answer."""

    why: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One sentence about one copy: ``place`` is a store of ours, or a peer, or empty for the file itself."""

    place: str
    #: ``present``, ``held``, a state of a due copy or of a transfer, or ``unknown``.
    state: str
    since: datetime | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One due copy, with all that bears on it."""

    due: CopyDueRecord
    peer: Peer
    gate: Gate
    trouble: Trouble | None
    transfer: Outgoing | None
    batch: Batch | None
    #: Why the rule may not be offered now, or empty.
    hours: str
    standing: Standing
    most_batches: int
    now: datetime


def reasons(standing: Standing, *, troubles: Mapping[str, Trouble], most_batches: int, now: datetime) -> list[Reason]:
    """A sentence for each copy that is here, is held elsewhere, is due, or is arriving."""
    told = [*_arrival(standing, now)]
    told += [_here(each, standing.drives.get(each.store), now) for each in standing.instances]
    told += [
        Reason(
            place=each.peer,
            state="held",
            since=each.attested_at,
            sentence=f"{each.peer} holds it{f' on {each.store}' if each.store else ''}, as it said "
            f"{_ago(each.attested_at, now)}.",
        )
        for each in standing.remote_instances
    ]
    told += [_due(case) for case in _cases(standing, troubles, most_batches, now)]
    told += [_loads(due, standing, now) for due in standing.dues if due.way is not RuleWay.NETWORK]
    told += _walks(standing)
    if not told:
        told.append(_nothing())
    return told


def _nothing() -> Reason:
    return Reason(
        place="",
        state="unknown",
        since=None,
        sentence="Nothing of that name is here, on its way here, or known to have been.",
    )


# What is here, or arrives.


def _arrival(standing: Standing, now: datetime) -> Iterator[Reason]:
    arrival = standing.arrival
    if arrival is None or (arrival.state is TransferState.COMPLETED and standing.file is not None):
        return
    ended = arrival.state in (TransferState.FAILED, TransferState.CANCELLED)
    if ended and standing.instances:
        return
    yield Reason(
        place="" if ended else arrival.store,
        state=arrival.state.value,
        since=arrival.progressed_at,
        sentence=f"{_whose(arrival, standing)} ({arrival.size:,} bytes) {_arriving(arrival, standing.reception, now)}",
    )


def _whose(arrival: Incoming, standing: Standing) -> str:
    match arrival.arrival:
        case Arrival.UPLOAD:
            return f"The upload of {arrival.account}"
        case Arrival.CLONE:
            peer = next((each.name for each in standing.peers if each.id == arrival.peer_id), "a former peer")
            return f"The clone from {peer}"
        case Arrival.COPY:
            return "The copy from another store"
        case Arrival.DRIVE:
            drive = standing.reception
            return (
                "What a drive carries" if drive is None else f"What the drive {drive.drive} of {drive.origin} carries"
            )
        case _:
            assert_never(arrival.arrival)


def _arriving(arrival: Incoming, reception: Reception | None, now: datetime) -> str:
    moved = _ago(arrival.progressed_at, now)
    why = f": {arrival.reason}" if arrival.reason else ""
    if reception is not None and arrival.state in OPEN:
        return carriage.of_entry(reception)
    match arrival.state:
        case TransferState.INITIATED | TransferState.ONGOING:
            return f"is under way to {arrival.store} since {told_at(arrival.created_at)}; bytes came last {moved}."
        case TransferState.STAGED:
            since = told_at(arrival.progressed_at)
            return f"has come whole to {arrival.store}, and waits to be verified since {since}{why}."
        case TransferState.INGESTING:
            return f"is being verified on {arrival.store}."
        case TransferState.COMPLETED:
            return f"was completed {moved}; no copy of it is known here any more."
        case TransferState.FAILED:
            return f"was refused {moved}{why or f' ({arrival.code})'}."
        case TransferState.CANCELLED:
            return f"was cancelled {moved}{why}."
        case _:
            assert_never(arrival.state)


def _here(copy: InstanceRecord, drive: DriveRecord | None, now: datetime) -> Reason:
    is_there = copy.presence in (Presence.PRESENT, Presence.SUSPECT)
    on = carriage.of_copy(drive) if is_there else ""
    if copy.presence is Presence.PRESENT:
        wish = "" if copy.intent is Intent.KEEP else ", and is to go"
        sentence = f"A good copy is on {copy.store}, verified {_ago(copy.verified_at, now)}{wish}{on}."
    else:
        found = f"last found good {_ago(copy.verified_at, now)}"
        sentence = f"The copy on {copy.store} is {copy.presence}, and no source of others; {found}{on}."
    return Reason(place=copy.store, state=copy.presence.value, since=copy.verified_at, sentence=sentence)


# What is due.

_NO_SOURCE: Final = "cannot be made since {since}: no healthy copy of it is here; it goes on when one is"


def _cases(standing: Standing, troubles: Mapping[str, Trouble], most_batches: int, now: datetime) -> Iterator[_Case]:
    peers = {peer.name: peer for peer in standing.peers}
    for due in standing.dues:
        peer = None if due.peer is None else peers.get(due.peer)
        if peer is None or due.way is not RuleWay.NETWORK:
            continue
        transfer = next((each for each in standing.leaving if _is_sent(each, peer)), None)
        batch = None if transfer is None or transfer.batch_id is None else standing.batches.get(transfer.batch_id)
        yield _Case(
            due=due,
            peer=peer,
            gate=gate_of(peer, now=now),
            trouble=troubles.get(peer.name),
            transfer=transfer,
            batch=batch,
            hours=_hours(standing, due, now),
            standing=standing,
            most_batches=most_batches,
            now=now,
        )


def _hours(standing: Standing, due: CopyDueRecord, now: datetime) -> str:
    rule = next((rule for rule in standing.rules if rule.name == due.rule), None)
    return "" if rule is None else closed_hours(policy_of(rule), now=now)


def _is_sent(transfer: Outgoing, peer: Peer) -> bool:
    return transfer.peer_id == peer.id and transfer.manifest_id is None


def _due(case: _Case) -> Reason:
    due = case.due
    match due.state:
        case DueState.DUE:
            told = _waits(case)
        case DueState.SENDING:
            told = _sends(case)
        case DueState.AWAITING:
            told = _awaits(case)
        case DueState.LOADED | DueState.BLOCKED:
            told = _NO_SOURCE.format(since=told_at(due.since))
        case DueState.QUARANTINED:
            told = _in_quarantine(due)
        case _:
            assert_never(due.state)
    return Reason(
        place=case.peer.name,
        state=due.state.value,
        since=due.since,
        sentence=f"The copy at {case.peer.name} that the rule {due.rule} asks for {told}.",
    )


def _in_quarantine(due: CopyDueRecord) -> str:
    return (
        f"is in quarantine since {told_at(due.since)}, after {_tries(due.attempts)}: {due.reason or due.code}; "
        f"'transfer retry' takes it up again"
    )


def _loads(due: CopyDueRecord, standing: Standing, now: datetime) -> Reason:
    """What becomes of a copy on a store or a drive of ours."""
    match due.state:
        case DueState.SENDING:
            told = f"is being copied, or read back, since {told_at(due.since)}"
        case DueState.LOADED:
            steps = carriage.next_steps(standing, to=due.peer or "a peer")
            told = f"rests {due.reason or 'on a drive'} since {told_at(due.since)}{steps}"
        case DueState.BLOCKED:
            told = _NO_SOURCE.format(since=told_at(due.since))
        case DueState.QUARANTINED:
            told = f"{_in_quarantine(due)}, and goes onto no drive until then"
        case DueState.DUE | DueState.AWAITING:
            told = _waits_for_room(due, _hours(standing, due, now), now)
        case _:
            assert_never(due.state)
    where = due.peer or due.store or ""
    whose = f"The copy {f'at {due.peer}' if due.peer else f'on {due.store}' if due.store else 'on a store of ours'}"
    sentence = f"{whose} that the rule {due.rule} asks for {told}."
    return Reason(place=where, state=due.state.value, since=due.since, sentence=sentence)


def _waits_for_room(due: CopyDueRecord, hours: str, now: datetime) -> str:
    if due.next_try_at > now and due.code is None:
        return f"waits until {told_at(due.next_try_at)}: the file is younger than the rule asks"
    if due.next_try_at > now:
        tries = f", after {_tries(due.attempts)}" if due.attempts else ""
        return f"is tried again at {told_at(due.next_try_at)}{tries}: {due.reason or due.code}"
    if hours:
        return f"waits since {told_at(due.since)}: {hours}"
    what = "drive" if due.peer else "store"
    last = f" (last: {due.reason})" if due.reason else ""
    return f"waits since {told_at(due.since)}: it is copied as soon as a {what} of the rule has room for it{last}"


def _waits(case: _Case) -> str:
    due, peer, now = case.due, case.peer, case.now
    start = f"waits since {told_at(due.since)}: "
    if not case.gate.may_offer:
        until = f", until {told_at(case.gate.changes_at)}" if case.gate.changes_at else ""
        return f"{start}nothing new goes to {peer.name}, {case.gate.why}{until}"
    if due.next_try_at > now and due.attempts == 0:
        return f"waits until {told_at(due.next_try_at)}: the file is younger than the rule asks"
    if due.next_try_at > now:
        return f"is tried again at {told_at(due.next_try_at)}, after {_tries(due.attempts)}: {due.reason or due.code}"
    if case.hours:
        return f"{start}{case.hours}"
    if case.trouble is not None:
        return f"{start}{_away(case)}"
    under_way = case.standing.under_way.get(peer.id, 0)
    if under_way >= case.most_batches:
        return f"{start}{under_way} batches are on their way to {peer.name}, and no more go at once"
    return f"{start}it is offered as soon as its turn comes{f' (last: {due.reason})' if due.reason else ''}"


def _away(case: _Case) -> str:
    trouble = case.trouble
    heard = case.peer.last_heard_at
    known = "" if heard is None else f", and was heard of last {_ago(heard, case.now)}"
    if trouble is None:
        return ""
    return f"{case.peer.name} does not answer since {told_at(trouble.since)}{known}: {trouble.why}"


def _sends(case: _Case) -> str:
    batch, peer = case.batch, case.peer
    if batch is None:
        return f"is being offered to {peer.name} since {told_at(case.due.since)}{_but_away(case)}"
    if not case.gate.may_move:
        until = f", until {told_at(case.gate.changes_at)}" if case.gate.changes_at else ""
        return f"waits in batch {batch.id}: nothing moves to {peer.name}, {case.gate.why}{until}"
    what = f"batch {batch.id} of the {batch.engine} engine ({counted(batch.files)}, {batch.bytes:,} bytes)"
    why = f": {batch.reason}" if batch.reason else ""
    match batch.state:
        case BatchState.QUEUED | BatchState.SUBMITTING:
            return f"is in {what}, which is yet to start{why}"
        case BatchState.ACTIVE:
            return f"moves in {what}, {_progress(batch, case.now)}{why}"
        case BatchState.HELD:
            return f"is in {what}, which is held{why}"
        case BatchState.DELIVERED | BatchState.FAILED | BatchState.CANCELLED:
            return f"was in {what}, which is {batch.state}{why}"
        case _:
            assert_never(batch.state)


def _progress(batch: Batch, now: datetime) -> str:
    share = 100 * batch.bytes_done // max(batch.bytes, 1)
    seconds = (batch.progressed_at - batch.created_at).total_seconds()
    rate = f" at {batch.bytes_done / seconds:,.0f} bytes/s" if seconds >= 1 and batch.bytes_done else ""
    return f"{share} % done{rate}, with progress last {_ago(batch.progressed_at, now)}"


def _awaits(case: _Case) -> str:
    due, peer = case.due, case.peer
    if due.code == "held":
        said = f"is held at {peer.name}, as it said {_ago(due.since, case.now)}"
        return f"{said}; its notice has not come yet{_but_away(case)}"
    uuid = None if case.transfer is None else case.transfer.uuid
    for note in case.standing.untold:
        if note.subject == uuid:
            if note.set_aside_because is not None:
                return f"was delivered, but {peer.name} refuses to hear of it: {note.set_aside_because}"
            waits = "has not fetched that yet" if peer.reach is Reach.POLL else "has not been told yet"
            return f"was delivered {_ago(due.since, case.now)}, and {peer.name} {waits}{_but_away(case)}"
    return f"was delivered {_ago(due.since, case.now)}, and waits until {peer.name} has verified it{_but_away(case)}"


def _but_away(case: _Case) -> str:
    return f"; {_away(case)}" if case.trouble is not None else ""


def _walks(standing: Standing) -> list[Reason]:
    peers = {peer.id: peer.name for peer in standing.peers}
    stores = [each.store for each in standing.instances if each.presence is Presence.PRESENT]
    told = []
    for rule in standing.walking:
        policy = policy_of(rule)
        place = " or ".join(policy.stores) if rule.peer_id is None else peers.get(rule.peer_id, "")
        if not place or not matches(policy, name=standing.name, stores=stores):
            continue
        on = "on" if rule.peer_id is None else "at"
        sentence = f"The rule {rule.name} asks for a copy {on} {place}; its walk has not come to this file yet."
        told.append(Reason(place=place, state="unknown", since=rule.created_at, sentence=sentence))
    return told


# How instants and numbers are told.


def _tries(attempts: int) -> str:
    return "one try" if attempts == 1 else f"{attempts} tries"


def _ago(instant: datetime, now: datetime) -> str:
    seconds = max(0, round((now - instant).total_seconds()))
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
