"""Notices: what peers tell us, applied. A peer may only speak of its own transfers and of what we offered to it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from librarian import confirming, outcomes, replication
from librarian.catalog.offers import Word
from librarian.catalog.records import Happening
from librarian.catalog.remote_instances import Attestation
from librarian.names import FileName
from librarian.states import Role, TransferState
from librarian.wire.clones import NoticeAnswer
from librarian.wire.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from librarian.catalog.records import File, Incoming, Outgoing, Peer
    from librarian.catalog.transaction import Transaction
    from librarian.names import FileId
    from librarian.wire.clones import Notice, Notices

_ROLE_OF = {
    "staged": Role.UPSTREAM,
    "cancelled": Role.UPSTREAM,
    "failed": Role.CALLBACK,
    "held": Role.CALLBACK,
    "gone": Role.CALLBACK,
}
#: Of an absent file, of a file that was never offered to the peer, and of somebody else's transfer: all the same,
#: so that nobody learns by asking what we hold.
_NOT_YOURS = Problem(
    code="not_found",
    message="there is no such transfer or file between us",
    remedy="A site may only speak of its own transfers.",
)


@dataclass(kw_only=True)
class _Hearing:
    """What one hearing has answered so far, and which bells it calls for."""

    peer: Peer
    epoch: int
    in_use: Collection[str]
    most_failures: int
    answers: dict[int, NoticeAnswer] = field(default_factory=dict)
    bells: set[str] = field(default_factory=set)

    def answer(
        self,
        notice: Notice,
        answer: Literal["applied", "ignored", "later", "refused"],
        problem: Problem | None = None,
    ) -> None:
        self.answers[notice.seq] = NoticeAnswer(seq=notice.seq, answer=answer, problem=problem)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """Answers in the order of the notices, and the bells to ring once all is committed."""

    answers: list[NoticeAnswer]
    bells: frozenset[str]
    seen_epoch: int
    seen_seq: int


async def hear(
    tx: Transaction,
    *,
    peer: Peer,
    roles: frozenset[Role],
    said: Notices,
    most_failures: int,
    in_use: Collection[str] = (),
) -> Heard:
    """Apply what *peer* says. Older than what is known about a subject is ignored; a repeat changes nothing.

    *most_failures*: a copy that failed so often for reasons of its own goes into quarantine.
    *in_use*: transfers that some request still writes to. What arrived is not measured while it may still change:
    their notices are to be said again.
    """
    hearing = _Hearing(peer=peer, epoch=said.epoch, in_use=in_use, most_failures=most_failures)
    last = max((notice.seq for notice in said.notices), default=0)
    if said.epoch < peer.seen_epoch:
        # A restored catalog that does not know it yet: our answer tells, and it says everything again.
        for notice in said.notices:
            hearing.answer(notice, "later")
    else:
        if 0 < peer.seen_epoch < said.epoch:
            await replication.peer_restored(tx, peer)
            hearing.bells |= {"backfill", "deliver"}
        await _apply(tx, hearing, roles, said.notices)
        await tx.peers.heard(peer.id, epoch=said.epoch, seq=last)
    seen = max((peer.seen_epoch, peer.seen_seq), (said.epoch, last))
    return Heard(
        answers=[hearing.answers[notice.seq] for notice in said.notices],
        bells=frozenset(hearing.bells),
        seen_epoch=seen[0],
        seen_seq=seen[1],
    )


async def _apply(tx: Transaction, hearing: _Hearing, roles: frozenset[Role], notices: Sequence[Notice]) -> None:
    latest: dict[tuple[bool, str], Notice] = {}
    for notice in sorted(notices, key=lambda notice: notice.seq):
        if _ROLE_OF[notice.state] not in roles:
            hearing.answer(notice, "refused", _NOT_YOURS)
            continue
        of_file = notice.state in ("held", "gone")
        if (earlier := latest.get((of_file, notice.subject))) is not None:
            hearing.answer(earlier, "ignored")
        latest[of_file, notice.subject] = notice
    by_kind: defaultdict[str, list[Notice]] = defaultdict(list)
    for notice in latest.values():
        by_kind[notice.state].append(notice)
    await _from_sender(tx, hearing, by_kind["staged"] + by_kind["cancelled"])
    await _failed(tx, hearing, by_kind["failed"])
    await _about_files(tx, hearing, by_kind["held"] + by_kind["gone"])


# What the sender of clones says: staged, cancelled.


async def _from_sender(tx: Transaction, hearing: _Hearing, notices: Sequence[Notice]) -> None:
    if not notices:
        return
    uuids = [notice.subject for notice in notices]
    known = {row.uuid: row for row in await tx.incoming.with_uuids(uuids, peer_id=hearing.peer.id)}
    words: dict[str, Notice] = {}
    for notice in notices:
        row = known.get(notice.subject)
        if row is None:
            hearing.answer(notice, "refused", _NOT_YOURS)
        elif notice.subject in hearing.in_use:
            hearing.answer(notice, "later")
        elif not _is_about(notice, row):
            hearing.answer(notice, "refused", _other_content(notice))
        else:
            words[notice.subject] = notice
    moved = await tx.offers.hear(
        hearing.peer.id,
        [
            Word(
                uuid=notice.subject,
                state=TransferState(notice.state),
                seq=notice.seq,
                code=notice.code or None,
                reason=notice.reason or None,
            )
            for notice in words.values()
        ],
        epoch=hearing.epoch,
    )
    for subject, notice in words.items():
        hearing.answer(notice, "applied" if subject in moved else "ignored")
    if moved:
        hearing.bells.add("ingest")


def _is_about(notice: Notice, row: Incoming | Outgoing) -> bool:
    return (notice.name, notice.size, notice.checksum) == (row.name, row.size, row.checksum)


def _other_content(notice: Notice) -> Problem:
    return Problem(
        code="conflict",
        message=f"{notice.subject} does not stand for {notice.name}, {notice.checksum}, {notice.size:,} bytes",
        remedy="One uuid stands for one content for ever.",
    )


# What the receiver of clones says: failed.


async def _failed(tx: Transaction, hearing: _Hearing, notices: Sequence[Notice]) -> None:
    if not notices:
        return
    peer = hearing.peer
    known = {row.uuid: row for row in await tx.outgoing.known(peer.id, [notice.subject for notice in notices])}
    heard = [notice for notice in notices if notice.subject in known]
    for notice in notices:
        if notice.subject not in known:
            hearing.answer(notice, "refused", _NOT_YOURS)
    refusals = [
        outcomes.Refusal(transfer=known[notice.subject], code=notice.code, reason=notice.reason, seq=notice.seq)
        for notice in heard
    ]
    sent = [each for each in refusals if each.transfer.manifest_id is None]
    ended = await outcomes.record_refusals(tx, peer, sent, most=hearing.most_failures, epoch=hearing.epoch)
    carried = [each for each in refusals if each.transfer.manifest_id is not None]
    spoilt = await confirming.entries_failed(tx, peer, carried, epoch=hearing.epoch)
    for notice in heard:
        hearing.answer(notice, "applied" if notice.subject in ended | spoilt else "ignored")
    if spoilt:
        hearing.bells.add("load")
    if ended:
        hearing.bells.add("send")


# What the holder of files says: held, gone.


async def _about_files(tx: Transaction, hearing: _Hearing, notices: Sequence[Notice]) -> None:
    if not notices:
        return
    peer = hearing.peer
    files = await tx.files.named([FileName.trusted(notice.name) for notice in notices])
    offered = await tx.outgoing.offered(peer.id, [file.id for file in files.values()])
    about: dict[FileId, tuple[Notice, File]] = {}
    for notice in notices:
        file = files.get(FileName.trusted(notice.name))
        if file is None or file.id not in offered or notice.subject != notice.name:
            # A loss of what we do not know of, for example since our catalog came back from a backup, changes nothing.
            is_loss = notice.state == "gone"
            hearing.answer(notice, *(("ignored", None) if is_loss else ("refused", _NOT_YOURS)))
        elif notice.state == "held" and (file.size, file.checksum) != (notice.size, notice.checksum):
            hearing.answer(notice, "refused", await _differs(tx, peer, notice, file))
        else:
            about[file.id] = (notice, file)
    lost = [file_id for file_id, (notice, _) in about.items() if notice.state == "gone"]
    unknown = set(lost) - await tx.remote_instances.held(peer.id, lost)
    news = await tx.remote_instances.attest(
        peer.id,
        [
            Attestation(file_id=file_id, store=notice.store, is_held=notice.state == "held", seq=notice.seq)
            for file_id, (notice, _) in about.items()
        ],
        epoch=hearing.epoch,
    )
    # Written down all the same: what was said before it, and comes late, is over.
    news -= unknown
    for file_id, (notice, _) in about.items():
        hearing.answer(notice, "applied" if file_id in news else "ignored")
    heard = {file_id: about[file_id] for file_id in news}
    held = {file_id: pair for file_id, pair in heard.items() if pair[0].state == "held"}
    await _held(tx, peer, held)
    if held:
        # Its staging has room for more.
        hearing.bells.add("send")
    gone = [pair for pair in heard.values() if pair[0].state == "gone"]
    if gone:
        await _gone(tx, peer, gone, most_failures=hearing.most_failures)
        hearing.bells.add("send")


async def _differs(tx: Transaction, peer: Peer, notice: Notice, file: File) -> Problem:
    message = (
        f"{peer.name} holds {notice.name} with {notice.checksum} and {notice.size:,} bytes, "
        f"here it has {file.checksum} and {file.size:,} bytes"
    )
    await tx.alerts.raise_alert(
        outcomes.differs_cause(peer, file.name),
        message=f"{message}.",
        remedy="Find out which of the two is right. Nothing was touched at either site.",
    )
    return Problem(code="checksum_mismatch", message=message, remedy="Nothing was changed here.")


async def _held(tx: Transaction, peer: Peer, heard: dict[FileId, tuple[Notice, File]]) -> None:
    ids = list(heard)
    completed = await tx.outgoing.complete(peer.id, ids)
    # A peer that came back from a backup may have refused to hear of them: that is over, and nobody need look.
    await tx.outbox.forget(peer.id, completed)
    await tx.copies_due.paid(peer.id, ids)
    brought = [notice.transfer for notice, _ in heard.values() if notice.transfer]
    await confirming.entries_held(tx, peer, ids, completed=completed, brought=brought)
    await tx.events.tell(
        [
            Happening(
                subject=file.name,
                what=f"held at {peer.name}",
                who=peer.name,
                why=f"store {notice.store}" if notice.store else "",
            )
            for notice, file in heard.values()
        ]
    )


async def _gone(tx: Transaction, peer: Peer, heard: Sequence[tuple[Notice, File]], *, most_failures: int) -> None:
    """Copies were lost: what our rules ask for is owed again, unless the holder gave them up on purpose."""
    await tx.events.tell(
        [
            Happening(subject=file.name, what=f"gone at {peer.name}", who=peer.name, why=notice.reason)
            for notice, file in heard
        ]
    )
    lost = [(notice, file) for notice, file in heard if notice.code != replication.WITHDRAWN]
    await replication.owe_again(tx, [file for _, file in lost], peer=peer.id)
    losses = [
        outcomes.Failed(
            file_id=file.id,
            name=file.name,
            code=notice.code or replication.LOST,
            reason=notice.reason or notice.code or replication.LOST,
            is_own=False,
        )
        for notice, file in lost
    ]
    await outcomes.record_losses(tx, peer, losses, most=most_failures)
