"""Deliver: tells peers what they must learn, in order, until they know. One writer per peer gives the numbers."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import TypeAdapter

from librarian import outcomes
from librarian.checksum import Checksum
from librarian.errors import PeerUnavailable
from librarian.names import FileName
from librarian.ownership import mark_restored
from librarian.tasks.lanes import LaneTask
from librarian.timing import retry_delay, utc_now
from librarian.wire.clones import Notice, NoticeAnswers, Notices, NoticeState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from librarian.catalog.outbox import Waiting
    from librarian.catalog.records import Peer
    from librarian.catalog.transaction import Transaction
    from librarian.names import PeerId
    from librarian.policies import ClonePolicy
    from librarian.site import Site
    from librarian.wire.clones import NoticeAnswer

log = logging.getLogger(__name__)

_STATES: Final[TypeAdapter[NoticeState]] = TypeAdapter(NoticeState)
#: Notices in one request.
MOST_NOTICES: Final = 2048


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Numbered notices for one peer."""

    peer: Peer
    epoch: int
    #: The highest number ever given to a notice for this peer.
    last_said: int
    #: With their numbers, in the order of these.
    notes: tuple[tuple[int, Waiting], ...]


class Deliver(LaneTask[Delivery, NoticeAnswers]):
    """Delivers the outbox. At least once; idempotent on arrival, since every notice carries its place."""

    name: ClassVar[str] = "deliver"

    def __init__(self, site: Site, policy: ClonePolicy | None = None) -> None:
        super().__init__(site, policy)
        #: Peers whose last answer made us begin an epoch, and the epoch that we left.
        self._left: dict[PeerId, int] = {}
        #: Peers that have answered us since we started, and the epoch in which.
        self._greeted: dict[PeerId, int] = {}

    async def peers_with_work(self, tx: Transaction, *, now: datetime) -> Sequence[PeerId]:
        """Peers that have something to learn, and those that were not greeted yet."""
        waiting = await tx.outbox.peers_waiting(now)
        epoch = (await tx.site.get()).epoch
        strangers = [peer for peer in await tx.peers.enabled() if self._greeted.get(peer) != epoch]
        return sorted({*waiting, *strangers})

    async def plan_for(self, tx: Transaction, peer: Peer) -> Delivery | None:
        """The oldest notes for *peer*, numbered. This lane is the only writer of numbers for this peer.

        Numbers are given here and not where a note is written, since transactions commit out of order. Before any
        is given after a start or in a new epoch, the peer is greeted: told nothing but the epoch. Its answer shows
        whether our catalog is older than what we once said, which numbers given twice would hide.
        """
        epoch = (await tx.site.get()).epoch
        if self._greeted.get(peer.id) != epoch:
            return Delivery(peer=peer, epoch=epoch, last_said=peer.sent_seq, notes=())
        waiting = await tx.outbox.waiting(peer.id, now=utc_now(), limit=MOST_NOTICES)
        if not waiting:
            return None
        unnumbered = [note for note in waiting if note.seq is None or note.epoch != epoch]
        numbers = {note.id: note.seq or 0 for note in waiting}
        first = await tx.peers.take_seqs(peer.id, len(unnumbered))
        given = [(note.id, first + place) for place, note in enumerate(unnumbered)]
        await tx.outbox.number(given, epoch=epoch)
        numbers.update(given)
        notes = sorted(((numbers[note.id], note) for note in waiting), key=lambda pair: pair[0])
        last_said = first + len(unnumbered) - 1
        return Delivery(peer=peer, epoch=epoch, last_said=last_said, notes=tuple(notes))

    async def act(self, plan: Delivery) -> NoticeAnswers:
        """Tell them; the same notices again are answered alike."""
        notices = Notices(
            site=self.site.name, epoch=plan.epoch, notices=[_notice(seq, note) for seq, note in plan.notes]
        )
        return await self.site.neighbours.notify(plan.peer.name, notices)

    async def record(self, tx: Transaction, plan: Delivery, result: NoticeAnswers) -> None:
        """What is known goes; what was refused for good is set aside and blocks nothing but its own subject."""
        known: list[int] = []
        later: list[Waiting] = []
        refused: list[tuple[Waiting, NoticeAnswer]] = []
        for (_, note), answer in zip(plan.notes, result.answers, strict=True):
            match answer.answer:
                case "applied" | "ignored":
                    known.append(note.id)
                case "later":
                    later.append(note)
                case "refused":
                    refused.append((note, answer))
        if await self._is_restored(tx, plan, result):
            # Everything is said again under the new epoch.
            return
        self._greeted[plan.peer.id] = plan.epoch
        await tx.outbox.acknowledge(known)
        await self._postpone(tx, later)
        await self._set_aside(tx, plan.peer, refused)

    async def _postpone(self, tx: Transaction, notes: Sequence[Waiting]) -> None:
        if not notes:
            return
        delay = retry_delay(min(note.attempts for note in notes) + 1)
        await tx.outbox.postpone([note.id for note in notes], until=utc_now() + delay)
        self.site.bells.ring_in(delay, self.name)

    async def _set_aside(self, tx: Transaction, peer: Peer, refused: Sequence[tuple[Waiting, NoticeAnswer]]) -> None:
        if not refused:
            await outcomes.notices_heard(tx, [peer])
            return
        reasons = [(note.id, _why(answer)) for note, answer in refused]
        await tx.outbox.set_aside(reasons)
        first, answer = refused[0]
        await tx.alerts.raise_alert(
            outcomes.refusing_cause(peer),
            message=f"{peer.name} refuses {len(refused)} of our notices for good; the first is "
            f"'{first.state}' about {first.subject}: {_why(answer)}.",
            remedy="Compare the two sites' stories of that file, then run 'notice retry' or 'notice drop'; nothing "
            "else is held up.",
        )

    async def _is_restored(self, tx: Transaction, plan: Delivery, result: NoticeAnswers) -> bool:
        """A peer that has heard more from us than we have said: our catalog was restored from a backup."""
        if (result.seen_epoch, result.seen_seq) <= (plan.epoch, plan.last_said):
            self._left.pop(plan.peer.id, None)
            return False
        if self._left.setdefault(plan.peer.id, plan.epoch) < plan.epoch:
            raise PeerUnavailable(
                f"{plan.peer.name} claims again that it has heard more of us than we have said",
                remedy="Look at that site; a catalog is not restored twice between two words to a peer.",
            )
        await mark_restored(
            tx,
            f"{plan.peer.name} has heard notice {result.seen_epoch}/{result.seen_seq} of us, "
            f"we have only said {plan.epoch}/{plan.last_said}",
            beyond_epoch=result.seen_epoch,
        )
        return True


def _why(answer: NoticeAnswer) -> str:
    if answer.problem is None:
        return "no reason given"
    return f"{answer.problem.code}: {answer.problem.message}"


def _notice(seq: int, note: Waiting) -> Notice:
    rest = json.loads(note.body)
    state: NoticeState = _STATES.validate_python(note.state)
    return Notice.model_construct(
        seq=seq,
        subject=note.subject,
        state=state,
        name=FileName.trusted(rest["name"]),
        size=rest["size"],
        checksum=None if rest["checksum"] is None else Checksum.trusted(rest["checksum"]),
        store=rest["store"],
        transfer=rest["transfer"],
        code=rest["code"],
        reason=rest["reason"],
    )
