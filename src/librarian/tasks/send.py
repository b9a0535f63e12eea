"""Send: offers due copies to peers, and puts what they accept into batches."""

from __future__ import annotations

import logging
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from librarian import guard, outcomes, owing, preflight
from librarian.catalog.copies_due import Turn
from librarian.catalog.outgoing import Acceptance, Ending, NewOutgoing
from librarian.errors import LibrarianError, PeerUnavailable
from librarian.gates import gate_of, is_in_hours
from librarian.names import StoreName, Token
from librarian.states import DueState, TransferState
from librarian.tasks import planning
from librarian.tasks.lanes import LaneTask
from librarian.timing import retry_delay, utc_now
from librarian.wire.clones import Accepted, Busy, Held, OfferClones, OfferedClone, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from librarian.catalog.records import Peer
    from librarian.catalog.transaction import Transaction
    from librarian.catalog.waiting import Candidate
    from librarian.names import BatchId, PeerId, RuleId
    from librarian.policies import ClonePolicy, RulePolicy
    from librarian.preflight import Preflight
    from librarian.site import Site
    from librarian.wire.clones import Verdict

log = logging.getLogger(__name__)

#: How often a peer is asked whether its entry points are still those that were pinned.
CHECK_EVERY: Final = timedelta(minutes=10)
#: A peer that never answers BUSY for long is asked again within this span.
LONGEST_BUSY: Final = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class Offered:
    """One candidate under the uuid it is offered with."""

    candidate: Candidate
    uuid: str


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What one round offers to one peer."""

    peer: Peer
    policy: RulePolicy
    items: tuple[Offered, ...]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What the peer said; ``entry_points_changed``: nothing was offered, it is not the peer that was pinned."""

    verdicts: tuple[Verdict, ...]
    entry_points_changed: bool = False


class Send(LaneTask[Offer, Answered]):
    """Offers due copies to peers, and puts what they accept into batches."""

    name: ClassVar[str] = "send"

    def __init__(self, site: Site, policy: ClonePolicy | None = None) -> None:
        super().__init__(site, policy)
        #: Offers made to each peer since the start.
        self._offers: Counter[PeerId] = Counter()

    async def peers_with_work(self, tx: Transaction, *, now: datetime) -> Sequence[PeerId]:
        """Peers to which copies are due."""
        return await tx.waiting.peers(now)

    def admits(self, peer: Peer) -> bool:
        """Whether copies may be offered to *peer* now."""
        return gate_of(peer, now=utc_now()).may_offer

    async def plan_for(self, tx: Transaction, peer: Peer) -> Offer | None:
        """Claim due copies of one rule, up to its batch bounds, each under a uuid that is already written down."""
        now = utc_now()
        if await tx.batches.count_under_way(peer.id) >= self.policy.batches_per_peer:
            return None
        rule = await self._next_rule(tx, peer, now=now)
        if rule is None:
            return None
        rule_id, policy = rule
        staged = 0 if peer.staged_budget is None else await tx.outgoing.staged_bytes(peer.id)
        room = planning.room_of(policy, budget=peer.staged_budget, staged=staged)
        found = await tx.waiting.candidates(rule_id, now=now, limit=policy.batch_files) if room > 0 else ()
        blocked = [candidate for candidate in found if candidate.store is None]
        await tx.copies_due.turn(peer.id, [_blocked(candidate, now) for candidate in blocked])
        # What is larger than a batch or the whole budget goes alone.
        takes_one = staged == 0 or room == policy.batch_bytes
        usable = planning.apart([c for c in found if c.store is not None], most=policy.batch_files)
        chosen = planning.within(usable, room, takes_one=takes_one)
        if not chosen:
            return None
        self._offers[peer.id] += 1
        items = tuple(Offered(candidate=c, uuid=c.uuid or str(uuid.uuid4())) for c in chosen)
        await tx.outgoing.open(
            peer.id,
            [
                NewOutgoing(uuid=item.uuid, file_id=item.candidate.file_id, size=item.candidate.size)
                for item in items
                if item.candidate.uuid is None
            ],
        )
        await tx.copies_due.turn(
            peer.id, [Turn(file_id=c.file_id, state=DueState.SENDING, next_try_at=now) for c in chosen]
        )
        return Offer(peer=peer, policy=policy, items=items)

    async def act(self, plan: Offer) -> Answered:
        """Offer the claimed copies; the same offer again gets the same verdicts."""
        neighbours = self.site.neighbours
        if await neighbours.has_changed(plan.peer, every=CHECK_EVERY):
            return Answered(verdicts=(), entry_points_changed=True)
        verdicts = await neighbours.offer(plan.peer.name, OfferClones(clones=[_clone(item) for item in plan.items]))
        guard.step("offer sent")
        return Answered(verdicts=tuple(verdicts.verdicts))

    async def record(self, tx: Transaction, plan: Offer, result: Answered) -> None:
        """Write the verdicts: batches for what is accepted, a reason for everything else."""
        guard.step("verdict unrecorded")
        if result.entry_points_changed:
            await self._hold(tx, plan)
            return
        verdicts = {verdict.uuid: verdict for verdict in result.verdicts}
        accepted: list[tuple[Offered, Accepted]] = []
        turns: list[Turn] = []
        refused: list[tuple[Offered, Refused]] = []
        for item in plan.items:
            verdict = verdicts[item.uuid]
            match verdict:
                case Accepted():
                    accepted.append((item, verdict))
                case Held() if (verdict.checksum, verdict.size) == (item.candidate.checksum, item.candidate.size):
                    turns.append(_held(item))
                case Held():
                    await self._differs(tx, plan.peer, item, verdict)
                case Busy():
                    turns.append(_later(item, code="busy", reason=verdict.reason, cap=LONGEST_BUSY))
                case Refused():
                    refused.append((item, verdict))
        turns += await self._batch(tx, plan, accepted)
        await tx.copies_due.turn(plan.peer.id, turns)
        self._look_again([turn.next_try_at for turn in turns if turn.state is DueState.DUE])
        await self._refused(tx, plan.peer, refused)

    async def give_up(self, tx: Transaction, plan: Offer, error: Exception) -> None:
        """Nothing was heard: the same copies are offered again under the same uuids."""
        now = utc_now()
        reason = error.message if isinstance(error, LibrarianError) else type(error).__name__
        code = error.code if isinstance(error, LibrarianError) else "bug"
        await tx.copies_due.turn(
            plan.peer.id,
            [
                Turn(file_id=i.candidate.file_id, state=DueState.DUE, next_try_at=now, code=code, reason=reason)
                for i in plan.items
            ],
        )

    async def recover(self, tx: Transaction) -> None:
        """Copies that were being offered when the process died are due again."""
        await tx.copies_due.reclaim()

    def done(self, plan: Offer) -> None:
        """There may be batches to submit."""
        self.site.bells.ring("submit")

    async def _next_rule(self, tx: Transaction, peer: Peer, *, now: datetime) -> tuple[RuleId, RulePolicy] | None:
        """The rule whose turn it is, unless all would wait for more files to fill a batch."""
        found = await tx.waiting.rules(peer.id, now=now)
        policies = {each.rule.id: (each.since, owing.policy_of(each.rule)) for each in found}
        waiting = {rule: pair for rule, pair in policies.items() if is_in_hours(pair[1], now=now)}
        pauses: list[timedelta] = []
        for rule in planning.in_turn(waiting, offers=self._offers[peer.id]):
            since, policy = waiting[rule]
            if now - since >= policy.batch_age:
                return rule, policy
            sample = await tx.waiting.sample(rule, now=now, limit=policy.batch_files)
            fills_at = planning.fills_at(policy, since=since, sample=sample)
            if fills_at <= now:
                return rule, policy
            pauses.append(fills_at - now)
        if pauses:
            self.site.bells.ring_in(min(pauses), self.name)
        return None

    async def _hold(self, tx: Transaction, plan: Offer) -> None:
        why = "its entry points are not those that were pinned"
        await tx.peers.hold(plan.peer.id, why)
        await tx.alerts.raise_alert(
            f"peer:{plan.peer.name}:entry-points",
            message=f"Nothing is sent to {plan.peer.name}: {why}.",
            remedy=f"Make sure that the peer was really changed, then run: peer check {plan.peer.name} --accept",
        )
        await self.give_up(tx, plan, PeerUnavailable(why))

    async def _refused(self, tx: Transaction, peer: Peer, refused: Sequence[tuple[Offered, Refused]]) -> None:
        # A refusal is final for this uuid: the next try is a new one.
        await tx.outgoing.end(peer.id, [_ended(item, verdict) for item, verdict in refused])
        soonest = await outcomes.record_failures(
            tx,
            peer,
            [_failed(item, code=v.code, reason=v.reason, is_own=outcomes.is_own(v.code)) for item, v in refused],
            most=self.policy.quarantine_after,
        )
        self._look_again([] if soonest is None else [soonest])

    async def _differs(self, tx: Transaction, peer: Peer, item: Offered, verdict: Held) -> None:
        candidate = item.candidate
        reason = f"{peer.name} holds other content under this name: {verdict.checksum}, {verdict.size:,} bytes"
        await tx.alerts.raise_alert(
            outcomes.differs_cause(peer, candidate.name),
            message=f"{candidate.name} is {candidate.checksum} here; {reason}.",
            remedy="Find out which of the two is right; nothing was touched at either site. When the other has gone: "
            f"'transfer retry --peer {peer.name} {candidate.name}'.",
        )
        await outcomes.quarantine(tx, peer, [_failed(item, code=outcomes.HELD_DIFFERENTLY, reason=reason, is_own=True)])

    async def _batch(self, tx: Transaction, plan: Offer, accepted: Sequence[tuple[Offered, Accepted]]) -> list[Turn]:
        ways: defaultdict[tuple[StoreName, str | None], list[tuple[Offered, Accepted]]] = defaultdict(list)
        pairs: defaultdict[tuple[StoreName, StoreName | None], list[tuple[Offered, Accepted]]] = defaultdict(list)
        for item, verdict in accepted:
            pairs[StoreName(verdict.store), item.candidate.store].append((item, verdict))
        turns: list[Turn] = []
        for (store, source), items in pairs.items():
            found = self._preflight(plan, store, source)
            ways[store, found.engine] += items
            if found.engine is None:
                reason = f"nothing brings it to the store {store} of {plan.peer.name}: {found.why_not}"
                turns += [_later(item, code="no_engine", reason=reason) for item, _ in items]
                await tx.alerts.raise_alert(
                    f"peer:{plan.peer.name}:no-engine",
                    message=f"Files that a rule sends to {plan.peer.name} stay here: {reason}.",
                    remedy=f"'rule why' and 'peer check {plan.peer.name}' tell what each engine needs.",
                )
        acceptances: list[Acceptance] = []
        for (store, engine), items in ways.items():
            batch: BatchId | None = None
            if engine is not None:
                size = sum(item.candidate.size for item, _ in items)
                batch = await tx.batches.queue(plan.peer.id, engine=engine, store=store, files=len(items), size=size)
            acceptances += [
                Acceptance(uuid=item.uuid, token=Token(verdict.token), store=store, batch_id=batch)
                for item, verdict in items
            ]
        await tx.outgoing.accept(acceptances)
        return turns

    def _preflight(self, plan: Offer, store: StoreName, source: StoreName | None) -> Preflight:
        engines, wanted = self.site.engines, plan.policy.engines
        return preflight.preflight(plan.peer, engines, source=source, destination=store, wanted=wanted)

    def _look_again(self, instants: Sequence[datetime]) -> None:
        if instants:
            self.site.bells.ring_in(min(instants) - utc_now(), self.name)


def _clone(item: Offered) -> OfferedClone:
    candidate = item.candidate
    return OfferedClone(
        uuid=item.uuid,
        name=candidate.name,
        kind=candidate.kind.value,
        size=candidate.size,
        checksum=candidate.checksum,
        uploader=candidate.uploader,
        origin=candidate.origin,
        created_at=candidate.created_at,
    )


def _blocked(candidate: Candidate, now: datetime) -> Turn:
    return Turn(
        file_id=candidate.file_id,
        state=DueState.BLOCKED,
        next_try_at=now,
        code="no_source",
        reason="no healthy copy of it is here",
    )


def _later(item: Offered, *, code: str, reason: str, cap: timedelta = timedelta(minutes=15)) -> Turn:
    delay = retry_delay(item.candidate.attempts + 1, cap=cap)
    return Turn(
        file_id=item.candidate.file_id,
        state=DueState.DUE,
        next_try_at=utc_now() + delay,
        code=code,
        reason=reason,
        failed=True,
    )


def _held(item: Offered) -> Turn:
    # The peer's own notice makes the remote instance; until it comes there is nothing to send.
    return Turn(
        file_id=item.candidate.file_id,
        state=DueState.AWAITING,
        next_try_at=utc_now(),
        code="held",
        reason="the peer says that it holds it; its notice has not come yet",
    )


def _failed(item: Offered, *, code: str, reason: str, is_own: bool) -> outcomes.Failed:
    candidate = item.candidate
    return outcomes.Failed(file_id=candidate.file_id, name=candidate.name, code=code, reason=reason, is_own=is_own)


def _ended(item: Offered, verdict: Refused) -> Ending:
    return Ending(uuid=item.uuid, state=TransferState.FAILED, code=verdict.code, reason=verdict.reason)
