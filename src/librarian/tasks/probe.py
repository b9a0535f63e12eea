"""Probe: looks whether the stores of the settings answer, and takes back those whose problem is gone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from librarian.catalog.records import Happening
from librarian.tasks.base import Cadence, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName
    from librarian.site import Site
    from librarian.timing import Budget


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a look at the stores changed."""

    #: Stores with a new problem.
    unwell: Mapping[StoreName, str]
    #: Stores without one, that had one or were never looked at before.
    well: Sequence[StoreName]
    #: Those of them that had one.
    back: Sequence[StoreName]


class Probe(Task[Change, None]):
    """Looks at every store of the settings; losing one and getting it back is told; either wakes ingest."""

    name: ClassVar[str] = "probe"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.cadence = Cadence(interval=timedelta(seconds=10))
        #: The problem of each store as it was last told; None: it was well.
        self._told: dict[StoreName, str | None] = {}

    async def run_pass(self, budget: Budget) -> int:
        """Look once; only a change costs a transaction."""
        answers = await self.site.stores.probe()
        await self.site.ownership.settle(answers)
        now = {store.name: store.problem for store in self.site.stores.fixed()}
        # A store that is looked at for the first time may have been lost by an earlier process, and told so.
        changed = {store: problem for store, problem in now.items() if self._is_news(store, problem)}
        if not changed:
            return 0
        well = [store for store, problem in changed.items() if problem is None]
        await self.carry_out(
            Change(
                unwell={store: problem for store, problem in changed.items() if problem is not None},
                well=well,
                back=[store for store in well if store in self._told],
            )
        )
        self._told |= changed
        self.site.bells.ring("ingest")
        return 1

    def _is_news(self, store: StoreName, problem: str | None) -> bool:
        return store not in self._told or (problem is None) != (self._told[store] is None)

    async def plan(self, tx: Transaction) -> Change | None:
        """Nothing is claimed: the stores themselves say what there is to tell."""
        return None

    async def act(self, plan: Change) -> None:
        """Everything was done by looking."""

    async def record(self, tx: Transaction, plan: Change, result: None) -> None:
        """Tell the story of each store, and alert people to one that is lost."""
        await tx.events.tell(
            [
                Happening(subject=_subject(store), what="unavailable", who=self.name, why=problem)
                for store, problem in plan.unwell.items()
            ]
            + [Happening(subject=_subject(store), what="available again", who=self.name) for store in plan.back]
        )
        await tx.alerts.acknowledge([_cause(store) for store in plan.well])
        for store, problem in plan.unwell.items():
            await tx.alerts.raise_alert(
                _cause(store),
                message=f"store {store} cannot be used: {problem}",
                remedy="Mount it or repair it; it is looked at every few seconds and taken back by itself.",
            )


def _subject(store: StoreName) -> str:
    return f"store:{store}"


def _cause(store: StoreName) -> str:
    return f"store-unavailable:{store}"
