"""The contract of background work: plan, act, record.

A pass of a task claims a bounded amount of work in a short transaction (``plan``), does the input and output without
any transaction (``act``), and records the outcome in a short transaction shielded from cancellation (``record``).
Acts can be repeated: killed anywhere, the next start calls ``recover`` once and goes on.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

from librarian import timing
from librarian.errors import DatabaseUnavailable, Draining

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from librarian.catalog.transaction import Transaction
    from librarian.site import Site
    from librarian.timing import Budget

log = logging.getLogger(__name__)

Plan = TypeVar("Plan")
Result = TypeVar("Result")

#: While the database is away an outcome is offered to it again, at most this far apart.
RECORD_RETRY: Final = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """How often a task looks for work when no bell rings."""

    interval: timedelta
    #: A pass that takes longer is reported, not cut off.
    soft_deadline: timedelta = timedelta(minutes=10)


class Task(ABC, Generic[Plan, Result]):
    """One kind of background work. Subclasses live in modules of their own, named for the verb."""

    name: ClassVar[str]
    cadence: Cadence

    def __init__(self, site: Site) -> None:
        self.site = site

    @abstractmethod
    async def plan(self, tx: Transaction) -> Plan | None:
        """Claim a bounded amount of work, or None when there is none. The claimer is responsible for it."""

    @abstractmethod
    async def act(self, plan: Plan) -> Result:
        """Do it: input and output only, no database. May be repeated after a crash."""

    @abstractmethod
    async def record(self, tx: Transaction, plan: Plan, result: Result) -> None:
        """Write down what became of it. Shielded from cancellation."""

    async def give_up(self, tx: Transaction, plan: Plan, error: Exception) -> None:
        """Release the claim after ``act`` raised *error*; the work is planned again later."""

    async def recover(self, tx: Transaction) -> None:
        """Take back claims that nobody works on: once at start, and before the pass that follows a failed one."""

    async def run_pass(self, budget: Budget) -> int:
        """Plan, act and record until nothing is left or *budget* is spent; returns how many rounds did work.

        Raises what ``act`` or ``record`` raised, after the claim was released.
        """
        rounds = 0
        while not budget.is_spent:
            async with self.site.catalog.begin() as tx:
                plan = await self.plan(tx)
            if plan is None:
                break
            await self.carry_out(plan)
            rounds += 1
        return rounds

    async def carry_out(self, plan: Plan) -> Result:
        """Act on *plan* and record the outcome, or release the claim; nothing is left half said on any way out."""
        try:
            result = await self.act(plan)
        except asyncio.CancelledError:
            stopped = Draining("the server is going down", remedy="The work goes on at the next start.")
            await self._finish(lambda tx: self.give_up(tx, plan, stopped))
            raise
        except Exception as error:
            failed = error
            await self._finish(lambda tx: self.give_up(tx, plan, failed))
            raise
        await self._finish(lambda tx: self.record(tx, plan, result))
        return result

    async def _finish(self, write: Callable[[Transaction], Awaitable[None]]) -> None:
        finishing = asyncio.create_task(self._insist(write), name=f"{self.name}: record")
        try:
            await asyncio.shield(finishing)
        except asyncio.CancelledError:
            # We were cancelled, not the recording: see it through, then obey.
            await finishing
            raise

    async def _insist(self, write: Callable[[Transaction], Awaitable[None]]) -> None:
        attempts = 0
        while True:
            try:
                async with self.site.catalog.begin() as tx:
                    await write(tx)
            except DatabaseUnavailable as error:
                attempts += 1
                log.warning("Cannot record the outcome of %s: %s", self.name, error)
                await asyncio.sleep(timing.retry_delay(attempts, cap=RECORD_RETRY).total_seconds())
            else:
                return
