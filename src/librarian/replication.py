"""What follows when files arrive, or fail to: copies become due, and peers are told.

Called within the transaction that records the arrival, after the File and Instance rows are written.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from librarian import owing
from librarian.catalog.outbox import Note
from librarian.catalog.records import Happening, Tally
from librarian.names import FileId, FileName, RuleName
from librarian.states import RuleWay
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from librarian.catalog.copies_due import NewDue
    from librarian.catalog.records import File, Peer, Rule
    from librarian.catalog.rules import Backlog
    from librarian.catalog.transaction import Transaction
    from librarian.checksum import Checksum
    from librarian.names import PeerId, RuleId, StoreName
    from librarian.policies import RulePolicy
    from librarian.states import Kind

#: The code of ``gone`` that says nothing but that.
LOST: Final = "lost"
#: The code of ``gone`` that says that the copy was given up on purpose: nobody owes us another.
WITHDRAWN: Final = "withdrawn"
_TOLD_BEFORE: Final = "it was lost, and told of before"


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """One file that is now present, verified and recorded on *store*."""

    file_id: FileId
    name: FileName
    kind: Kind
    size: int
    checksum: Checksum
    store: StoreName
    #: The peer whose clone it was, or whose drive it was read from; None for an upload.
    peer_id: PeerId | None
    #: The transfer that was read from a drive.
    transfer: str = ""
    #: The File row is new; False when an equal file was held already (the loser of two arrivals settles as held).
    is_new: bool


@dataclass(frozen=True, kw_only=True)
class Unarrived:
    """One clone that failed for good."""

    #: The offerer's uuid.
    uuid: str
    peer_id: PeerId
    name: FileName
    size: int
    checksum: Checksum | None
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Assertion:
    """The rest of a notice, as it rests in the outbox until ``tasks/deliver`` gives it its place."""

    name: FileName
    size: int
    checksum: Checksum | None
    store: str = ""
    #: That brought it on a drive.
    transfer: str = ""
    code: str = ""
    reason: str = ""


class NamedRule(Protocol):
    """A rule as the settings state it."""

    @property
    def name(self) -> str:
        """What the rule is called."""

    @property
    def policy(self) -> RulePolicy:
        """What it asks for."""


def note(peer: PeerId, subject: str, state: str, assertion: Assertion) -> Note:
    """What *peer* must learn about *subject*."""
    body = {
        "name": assertion.name,
        "size": assertion.size,
        "checksum": assertion.checksum,
        "store": assertion.store,
        "transfer": assertion.transfer,
        "code": assertion.code,
        "reason": assertion.reason[:2000],
    }
    return Note(peer_id=peer, subject=subject, state=state, body=json.dumps(body, ensure_ascii=False))


async def files_arrived(tx: Transaction, arrivals: Sequence[Arrived]) -> bool:
    """Write the copies that *arrivals* owe, and a ``held`` notice to each peer that offered one.

    So is one to each peer that was told that the last copy here was lost, where one returns. A repeat writes nothing
    twice for copies; a second notice about the same file is harmless. Returns whether there may be something to send
    now.
    """
    if not arrivals:
        return False
    returned = {arrival.file_id: arrival for arrival in arrivals if not arrival.is_new}
    heard = await tx.told.lock(list(returned))
    known = [(telling.peer_id, returned[telling.file_id]) for telling in heard if not telling.is_held]
    told = [
        held_note(arrival.peer_id, arrival, store=arrival.store, transfer=arrival.transfer)
        for arrival in arrivals
        if arrival.peer_id is not None
    ]
    told += [held_note(peer, arrival, store=arrival.store) for peer, arrival in known if peer != arrival.peer_id]
    await tell_held(tx, told)
    rules = await tx.rules.in_force()
    if not rules:
        return False
    now = utc_now()
    beside = await tx.instances.healthy(list(returned)) if returned else {}
    dues = [
        due
        for arrival in arrivals
        for due in _dues_of(arrival, rules, stores={arrival.store, *beside.get(arrival.file_id, ())}, now=now)
    ]
    owed = await tx.copies_due.owe(dues)
    new = {arrival.file_id for arrival in arrivals if arrival.is_new}
    await _count(tx, [due for due in dues if due.way is RuleWay.CARRIED and due.file_id in new], now=now)
    if returned:
        await tx.stopped.unblock(list(returned))
    return owed > 0 or bool(returned)


async def _count(tx: Transaction, carried: Sequence[NewDue], *, now: datetime) -> None:
    """New files came that are to go onto drives: how many drives that takes is seen from what comes each day."""
    files: Counter[RuleId] = Counter()
    size: Counter[RuleId] = Counter()
    for due in carried:
        files[due.rule_id] += 1
        size[due.rule_id] += due.size
    await tx.arrivals.add({rule: Tally(files=files[rule], bytes=size[rule]) for rule in files}, at=now)


async def arrivals_failed(tx: Transaction, failures: Sequence[Unarrived]) -> None:
    """Write a ``failed`` notice to the peer that offered each of *failures*."""
    await tx.outbox.put(
        [
            note(
                failure.peer_id,
                failure.uuid,
                "failed",
                Assertion(
                    name=failure.name,
                    size=failure.size,
                    checksum=failure.checksum,
                    code=failure.code,
                    reason=failure.reason,
                ),
            )
            for failure in failures
        ]
    )


async def owe_again(tx: Transaction, files: Sequence[File], *, peer: PeerId) -> None:
    """*peer* has lost its copies of *files*: what the rules ask for is owed to it once more."""
    rules = [rule for rule in await tx.rules.in_force() if rule.peer_id == peer]
    await _owe_anew(tx, [_Debtor(file_id=file.id, name=file.name, size=file.size) for file in files], rules)


async def copies_lost(tx: Transaction, store: StoreName, files: Sequence[owing.Debtor]) -> None:
    """Our copies of *files* on *store* are lost: what the rules ask for on stores and drives of ours is owed again.

    Called when the instances are not present any more. A copy that was given up on purpose is none of these.
    """
    if not files:
        return
    await tx.loading.unload([file.file_id for file in files])
    local = [rule for rule in await tx.rules.in_force() if rule.way is RuleWay.LOCAL]
    await _owe_anew(tx, files, [rule for rule in local if owing.takes(owing.policy_of(rule), store)])


@dataclass(frozen=True, kw_only=True)
class _Debtor:
    file_id: FileId
    name: FileName
    size: int


async def _owe_anew(tx: Transaction, files: Sequence[owing.Debtor], rules: Sequence[Rule]) -> None:
    if not files or not rules:
        return
    now = utc_now()
    stores = await tx.instances.healthy([file.file_id for file in files])
    await tx.copies_due.owe(
        [
            due
            for file in files
            for rule in rules
            for due in owing.asked(rule, file, stores=stores.get(file.file_id, ()), not_before=now)
        ]
    )


class _HeldFile(Protocol):
    @property
    def name(self) -> FileName: ...
    @property
    def size(self) -> int: ...
    @property
    def checksum(self) -> Checksum: ...


def held_note(peer: PeerId, file: _HeldFile, *, store: str = "", transfer: str = "") -> Note:
    """The notice to *peer* that we hold *file*: present, verified, kept; *transfer* of its was read from a drive."""
    assertion = Assertion(name=file.name, size=file.size, checksum=file.checksum, store=store, transfer=transfer)
    return note(peer, file.name, "held", assertion)


async def tell_held(tx: Transaction, notes: Iterable[Note]) -> None:
    """Tell peers of files that they have offered to us."""
    told = list(notes)
    await tx.told.held([(each.peer_id, each.subject) for each in told])
    await _tell(tx, told)


async def tell_gone(tx: Transaction, lost: Mapping[FileId, Assertion]) -> None:
    """The last present copies here of *lost* are gone, or are to go: tell every peer that was told of them.

    The assertions' code and reason say what became of them. ``tx.told.lock`` comes first, then the look whether a
    copy is left. A repeat tells nobody twice.
    """
    heard = await tx.told.gone(list(lost))
    await _tell(tx, [note(peer, lost[file_id].name, "gone", lost[file_id]) for peer, file_id in heard])


async def _tell(tx: Transaction, notes: Iterable[Note]) -> None:
    """Tell peers of files.

    One that refused to hear of a file before, since it did not know it then, may know it now: what was set aside
    must not stand in the way.
    """
    by_peer: defaultdict[PeerId, list[Note]] = defaultdict(list)
    for each in notes:
        by_peer[each.peer_id].append(each)
    for peer, told in by_peer.items():
        await tx.outbox.forget(peer, [each.subject for each in told])
        await tx.outbox.put(told)


def _dues_of(
    arrival: Arrived, rules: Iterable[Rule], *, stores: Collection[StoreName], now: datetime
) -> Iterator[NewDue]:
    for rule in rules:
        # Never back to where it came from.
        if arrival.peer_id is None or rule.peer_id != arrival.peer_id:
            not_before = now + owing.policy_of(rule).min_age
            yield from owing.asked(rule, arrival, stores=stores, not_before=not_before)


def backfill_dues(rule: Rule, files: Sequence[Backlog]) -> list[NewDue]:
    """What *files*, which were here before *rule*, owe to it."""
    min_age = owing.policy_of(rule).min_age
    return [
        due
        for file in files
        for due in owing.asked(
            rule, file, stores=file.stores, not_before=max(file.created_at + min_age, rule.created_at)
        )
    ]


async def sync_rules(tx: Transaction, rules: Sequence[NamedRule]) -> None:
    """Make the catalog's rules from the settings equal to *rules*; rules made by command are left alone.

    A changed rule, and one whose peer has appeared, is back-filled. A rule that left the settings is switched off,
    and nothing is owed to it any more. A repeat changes nothing.
    """
    for rule in rules:
        await put_rule(tx, RuleName(rule.name), policy=rule.policy, who="settings")
    kept = {rule.name for rule in rules}
    for known in await tx.rules.all():
        if known.is_from_settings and known.is_enabled and known.name not in kept:
            await tx.rules.switch_off(known.id)
            await tx.copies_due.waive(known.id)
            await tx.events.tell([Happening(subject=f"rule:{known.name}", what="switched off", who="settings")])


async def put_rule(tx: Transaction, name: RuleName, *, policy: RulePolicy, who: str) -> None:
    """Write a rule, enabled, and back-fill it when it is new or changed. A repeat changes nothing.

    *who* is ``settings`` for a rule that the settings state; the next start compares those with the settings.
    """
    peer = None if policy.peer is None else await tx.peers.find(policy.peer)
    changed = await tx.rules.put(
        name,
        way=policy.way,
        peer=None if peer is None else peer.id,
        policy=policy.model_dump_json(),
        is_from_settings=who == "settings",
    )
    rule = await tx.rules.find(name)
    if not changed or rule is None:
        return
    # What the rule asked for before may be more than it asks for now; the walk writes anew what is still owed.
    await tx.copies_due.waive(rule.id)
    waits = policy.peer is not None and peer is None
    why = f"waits for a peer called {policy.peer!r}" if waits else ""
    await tx.events.tell([Happening(subject=f"rule:{name}", what=f"version {rule.version} applies", who=who, why=why)])


async def peer_restored(tx: Transaction, peer: Peer) -> None:
    """*peer* speaks in a new epoch: its catalog came back from a backup, and may have forgotten any of its copies.

    What it was known to hold is doubted, and every rule that sends there looks at every file once more. What it does
    hold costs one offer, which it answers with HELD and a notice.
    """
    await tx.remote_instances.doubt(peer.id)
    # Its catalog may be from before it heard that copies here were lost; of those that are held, it asks by offers.
    any_file = Assertion(name=FileName("any"), size=0, checksum=None, code=LOST, reason=_TOLD_BEFORE)
    await tx.told.repeat_losses(note(peer.id, any_file.name, "gone", any_file))
    # Of what came on its drives nobody asks, and it may have forgotten that.
    any_file = Assertion(name=any_file.name, size=0, checksum=None)
    await tx.told.repeat_carried(note(peer.id, any_file.name, "held", any_file))
    await tx.told.repeat_refusals(note(peer.id, any_file.name, "failed", any_file))
    for rule in await tx.rules.in_force():
        if rule.peer_id == peer.id:
            await tx.rules.walk_again(rule.id)
    why = "it speaks in a new epoch: its catalog was restored from a backup"
    await tx.events.tell([Happening(subject=f"peer:{peer.name}", what="copies doubted", who=peer.name, why=why)])


async def peer_appeared(tx: Transaction, *, name: str) -> None:
    """Rules that waited for a peer called *name* start to apply, and are back-filled."""
    peer = await tx.peers.get(name)
    for rule in await tx.rules.all():
        if rule.peer_id is None and owing.policy_of(rule).peer == name:
            await tx.rules.put(
                rule.name,
                way=rule.way,
                peer=peer.id,
                policy=rule.policy,
                is_from_settings=rule.is_from_settings,
            )


async def store_appeared(tx: Transaction, name: StoreName) -> None:
    """Rules that ask for a copy on each of their stores, the new *name* among them, look at every file once more."""
    for rule in await tx.rules.in_force():
        policy = owing.policy_of(rule)
        if policy.copies == "each" and name in owing.named_stores(policy):
            await tx.rules.walk_again(rule.id)
