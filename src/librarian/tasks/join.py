"""Join: finishes the use of invitations that was cut off, and clears away those that have expired."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from librarian import joining
from librarian.errors import CallerError
from librarian.tasks.base import Cadence, Task
from librarian.timing import utc_now

if TYPE_CHECKING:
    from librarian.catalog.pairings import Pairing
    from librarian.catalog.transaction import Transaction
    from librarian.site import Site

#: An invitation is remembered for this long after it has expired, so that its end can be explained.
REMEMBERED: Final = timedelta(days=30)


class FinishJoins(Task["Pairing", None]):
    """Confirms again what was written down: the other site may have made its half already."""

    name: ClassVar[str] = "join"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.cadence = Cadence(interval=timedelta(minutes=1))

    async def plan(self, tx: Transaction) -> Pairing | None:
        """The oldest invitation that we began to use."""
        now = utc_now()
        await tx.pairings.clear(expired_before=now - REMEMBERED)
        return await tx.pairings.unfinished(now)

    async def act(self, plan: Pairing) -> None:
        """Confirm it, and make account and peer; a command that does the same meanwhile does no harm."""
        await joining.finish(self.site, plan, who=self.name)

    async def record(self, tx: Transaction, plan: Pairing, result: None) -> None:
        """Nothing is left: the pairing was marked with what it made."""

    async def give_up(self, tx: Transaction, plan: Pairing, error: Exception) -> None:
        """A site that is away is asked again until the invitation expires; one that refuses is not."""
        if isinstance(error, CallerError):
            await tx.pairings.drop(plan.id)
