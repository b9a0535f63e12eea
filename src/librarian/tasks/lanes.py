"""Lanes: one peer's share of a task, so that a slow or dead peer holds up nobody else."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic

from librarian.errors import DatabaseUnavailable, LibrarianError, OwnedElsewhere
from librarian.policies import ClonePolicy
from librarian.tasks.base import Cadence, Plan, Result, Task
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from librarian.catalog.records import Peer
    from librarian.catalog.transaction import Transaction
    from librarian.names import PeerId
    from librarian.site import Site
    from librarian.timing import Budget

log = logging.getLogger(__name__)


class LaneTask(Task[Plan, Result], Generic[Plan, Result]):
    """A task whose work is planned, done and recorded peer by peer, side by side.

    A lane runs rounds for one peer until nothing is left. A failed call to a peer ends its lane and lets it rest;
    the other lanes go on, and new ones are started while a slow one still runs.
    """

    #: Its lanes mostly wait, and may be cut off anywhere: a spent budget ends them.
    may_be_cut_off: ClassVar[bool] = False

    def __init__(self, site: Site, policy: ClonePolicy | None = None) -> None:
        super().__init__(site)
        self.policy = policy or ClonePolicy()
        self.cadence = Cadence(interval=self.policy.interval)

    @abstractmethod
    async def peers_with_work(self, tx: Transaction, *, now: datetime) -> Sequence[PeerId]:
        """The enabled peers that have work now; must cost little when there is none."""

    @abstractmethod
    async def plan_for(self, tx: Transaction, peer: Peer) -> Plan | None:
        """Claim a bounded amount of work for *peer*, or None when there is none."""

    def admits(self, peer: Peer) -> bool:
        """Whether anything may be done for *peer* now, whatever there is to do."""
        return peer.is_enabled

    async def plan(self, tx: Transaction) -> Plan | None:
        """Claim work for the first peer that has some."""
        for peer in await self._ready(tx):
            plan = await self.plan_for(tx, peer)
            if plan is not None:
                return plan
        return None

    async def run_pass(self, budget: Budget) -> int:
        """Run lanes until no peer has work that can be done now, or *budget* is spent; returns the rounds done."""
        lanes: dict[PeerId, asyncio.Task[int]] = {}
        #: Peers whose lane found nothing that can be done now, whatever is due: a full queue, an order to be kept.
        idle: set[PeerId] = set()
        #: Peers whose lane may have looked before the latest news.
        restless: set[PeerId] = set()
        rounds = 0
        failure: BaseException | None = None
        try:
            while True:
                if not budget.is_spent and failure is None:
                    await self._start_lanes(lanes, budget, idle)
                if not lanes:
                    break
                # Rung, or the interval has passed.
                if await self.site.bells.heard_beside(self.name, lanes.values(), within=self.cadence.interval):
                    idle.clear()
                    restless = set(lanes)
                if budget.is_spent and self.may_be_cut_off:
                    break
                for peer in [peer for peer, lane in lanes.items() if lane.done()]:
                    lane = lanes.pop(peer)
                    (restless.discard if peer in restless else idle.add)(peer)
                    failure = failure or lane.exception()
                    rounds += 0 if lane.exception() else lane.result()
        finally:
            await cancel_all(lanes.values())
        if failure is not None:
            raise failure
        return rounds

    async def _start_lanes(self, lanes: dict[PeerId, asyncio.Task[int]], budget: Budget, idle: set[PeerId]) -> None:
        async with self.site.catalog.read() as tx:
            ready = await self._ready(tx)
        for peer in ready:
            if peer.id not in lanes and peer.id not in idle:
                lanes[peer.id] = asyncio.create_task(
                    self._run_lane(peer, budget), name=f"lane: {self.name} {peer.name}"
                )

    async def _ready(self, tx: Transaction) -> list[Peer]:
        wanted = await self.peers_with_work(tx, now=utc_now())
        if not wanted:
            return []
        peers = await tx.peers.with_ids(wanted)
        neighbours = self.site.neighbours
        return [
            peer for peer in peers.values() if self.admits(peer) and not neighbours.is_resting(peer.name, self.name)
        ]

    async def _run_lane(self, peer: Peer, budget: Budget) -> int:
        rounds = 0
        while not budget.is_spent:
            async with self.site.catalog.begin() as tx:
                # Read anew in each round: a peer that was disabled or paused meanwhile gets nothing more, at once.
                known = (await tx.peers.with_ids([peer.id])).get(peer.id)
                plan = await self.plan_for(tx, known) if known is not None and self.admits(known) else None
            if plan is None:
                break
            try:
                await self.carry_out(plan)
            except (DatabaseUnavailable, OwnedElsewhere):
                raise
            except LibrarianError as error:
                self._rest(peer, error)
                break
            self.done(plan)
            self.site.neighbours.worked(peer.name, self.name)
            rounds += 1
        return rounds

    def _rest(self, peer: Peer, error: LibrarianError) -> None:
        delay = self.site.neighbours.failed(peer.name, self.name, error)
        log.warning(
            "Cannot %s to %s, next try in %.1f s: %s",
            self.name,
            peer.name,
            delay.total_seconds(),
            error,
            extra={"event": "peer-failed", "peer": peer.name, "task": self.name},
        )
        self.site.bells.ring_in(delay, self.name)

    def done(self, plan: Plan) -> None:
        """The outcome of *plan* is durable: wake whoever goes on with it."""


async def cancel_all(lanes: Collection[asyncio.Task[Result]]) -> None:
    """Cancel *lanes*, and wait until they have ended."""
    for lane in lanes:
        lane.cancel()
    if lanes:
        await asyncio.wait(lanes)
