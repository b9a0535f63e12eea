"""Probe: looks whether the stores answer, and takes back those whose problem is gone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from librarian.catalog.records import Happening
from librarian.tasks.base import Cadence, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName
    from librarian.site import Site
    from librarian.timing import Budget


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a look at the stores changed: the problem of each store that lost or got one."""

    problems: Mapping[StoreName, str | None]


class Probe(Task[Change, None]):
    """Looks at every store; losing one and getting it back is told, and wakes ingest."""

    name: ClassVar[str] = "probe"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.cadence = Cadence(interval=timedelta(seconds=10))
        #: As last told; None: nothing was told yet.
        self._told: dict[StoreName, str | None] = {}

    async def run_pass(self, budget: Budget) -> int:
        """Look once; only a change costs a transaction."""
        answers = await self.site.stores.probe()
        await self.site.ownership.settle(answers)
        now = {store.name: store.problem for store in self.site.stores}
        changed = {store: problem for store, problem in now.items() if (problem is None) != self._was_well(store)}
        if not changed:
            return 0
        await self.carry_out(Change(problems=changed))
        self._told |= changed
        self.site.bells.ring("ingest")
        return 1

    def _was_well(self, store: StoreName) -> bool:
        return self._told.get(store) is None

    async def plan(self, tx: Transaction) -> Change | None:
        """Nothing is claimed: the stores themselves say what there is to tell."""
        return None

    async def act(self, plan: Change) -> None:
        """Everything was done by looking."""

    async def record(self, tx: Transaction, plan: Change, result: None) -> None:
        """Tell the story of each store, and alert people to one that is lost."""
        for store, problem in plan.problems.items():
            what = "available again" if problem is None else "unavailable"
            await tx.events.tell([Happening(subject=f"store:{store}", what=what, who="probe", why=problem or "")])
            if problem is None:
                await tx.alerts.acknowledge([f"store-unavailable:{store}"])
            else:
                await tx.alerts.raise_alert(
                    f"store-unavailable:{store}",
                    message=f"store {store} cannot be used: {problem}",
                    remedy="Mount it or repair it; it is looked at every few seconds and taken back by itself.",
                )
