"""The contract of background work: plan, act, record.

A pass of a task claims a bounded amount of work in a short transaction (``plan``), does the input and output without
any transaction (``act``), and records the outcome in a short transaction shielded from cancellation (``record``).
Acts can be repeated: killed anywhere, the next start calls ``recover`` once and goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

if TYPE_CHECKING:
    from librarian.catalog.database import Transaction
    from librarian.site import Site
    from librarian.timing import Budget

Plan = TypeVar("Plan")
Result = TypeVar("Result")


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
        """Once at start: take back claims of the process that died."""

    async def run_pass(self, budget: Budget) -> int:
        """Plan, act and record until nothing is left or *budget* is spent; returns how many rounds did work."""
        raise NotImplementedError
