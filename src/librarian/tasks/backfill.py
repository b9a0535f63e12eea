"""Back-fill: walks the files that were here before a rule, so that they owe it a copy as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from librarian import replication
from librarian.catalog.records import Happening
from librarian.policies import ClonePolicy
from librarian.tasks.base import Cadence, Task

if TYPE_CHECKING:
    from librarian.catalog.copies_due import NewDue
    from librarian.catalog.records import Rule
    from librarian.catalog.rules import Backlog
    from librarian.catalog.transaction import Transaction
    from librarian.site import Site

#: Files looked at in one step.
STEP: Final = 2000


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A stretch of the walk of one rule."""

    rule: Rule
    files: tuple[Backlog, ...]


class Backfill(Task[Stretch, "list[NewDue]"]):
    """Walks all files in the order of their ids. The place reached is in the rule: a restart goes on from there."""

    name: ClassVar[str] = "backfill"

    def __init__(self, site: Site, policy: ClonePolicy | None = None) -> None:
        super().__init__(site)
        self.cadence = Cadence(interval=(policy or ClonePolicy()).interval)

    async def plan(self, tx: Transaction) -> Stretch | None:
        """The next stretch of the first rule that has one."""
        rule = await tx.rules.next_backfill()
        if rule is None or rule.backfill_after is None:
            return None
        files = await tx.rules.backlog(after=rule.backfill_after, until=rule.backfill_until, limit=STEP)
        return Stretch(rule=rule, files=files)

    async def act(self, plan: Stretch) -> list[NewDue]:
        """What those files owe."""
        return replication.backfill_dues(plan.rule, plan.files)

    async def record(self, tx: Transaction, plan: Stretch, result: list[NewDue]) -> None:
        """Write it, with the place reached, unless the rule has changed meanwhile: then its walk starts over."""
        is_over = len(plan.files) < STEP
        if not await tx.rules.walked(plan.rule, after=None if is_over else plan.files[-1].file_id):
            return
        await tx.copies_due.owe(result)
        if is_over:
            await tx.events.tell([Happening(subject=f"rule:{plan.rule.name}", what="back-filled", who="backfill")])

    async def carry_out(self, plan: Stretch) -> list[NewDue]:
        """Wake the sender once it can see what is owed: one that looks before the commit finds nothing, and rests."""
        owed = await super().carry_out(plan)
        if owed:
            for bell in ("send", "load"):
                self.site.bells.ring(bell)
        return owed
