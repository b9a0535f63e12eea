"""Housekeeping: abandoned uploads end, staging that nobody needs goes, and what nobody knows is put aside."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from librarian import room
from librarian.catalog.records import Happening
from librarian.errors import LibrarianError
from librarian.names import TransferId
from librarian.policies import HousekeepingPolicy
from librarian.tasks.base import Cadence, Task
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.incoming_rows import Seen
    from librarian.catalog.records import Incoming
    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName, Token
    from librarian.site import Site
    from librarian.stores.base import Store, Stray
    from librarian.timing import Budget

log = logging.getLogger(__name__)

#: Transfers per round.
PAGE: Final = 1000
#: Reading whole staging areas is for once in a while.
SURVEY_EVERY: Final = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Chores:
    """One round; usually one of these is set."""

    #: Live transfers, whose staging is looked at: bytes seen there count as progress.
    live: Sequence[Incoming] = ()
    #: Ended transfers, whose staging is removed.
    ended: Sequence[Incoming] = ()
    #: Every token that may stand in staging; None: no survey.
    known: frozenset[Token] | None = None
    #: Whether what is in quarantine stays, however old it is.
    keeps_quarantine: bool = False


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a round came to."""

    seen: Sequence[Seen] = ()
    cleared: Sequence[Incoming] = ()
    #: Staging that could not be removed: others own parts of it.
    left: Sequence[Incoming] = ()
    #: Entries put aside, per store.
    strays: dict[StoreName, Sequence[Stray]] = field(default_factory=dict)


class Housekeeping(Task[Chores, Done]):
    """Looks at live staging, ends abandoned uploads, clears ended ones, and surveys staging for strangers."""

    name: ClassVar[str] = "housekeeping"

    def __init__(self, site: Site, policy: HousekeepingPolicy | None = None) -> None:
        super().__init__(site)
        self.policy = policy or HousekeepingPolicy()
        self.cadence = Cadence(interval=self.policy.interval)
        self._looked_up_to: TransferId | None = TransferId(0)
        self._cleared_up_to: TransferId | None = TransferId(0)
        self._surveyed_at: float | None = None
        #: Whom to wake when the pass is over: who looks before the commit finds nothing.
        self._bells: tuple[str, ...] = ()
        #: What cannot be removed is told once, not every minute.
        self._told: set[Token] = set()

    async def run_pass(self, budget: Budget) -> int:
        """Begin at the first transfer again, and go through all."""
        self._looked_up_to = TransferId(0)
        self._cleared_up_to = TransferId(0)
        try:
            return await super().run_pass(budget)
        finally:
            bells, self._bells = self._bells, ()
            for bell in bells:
                self.site.bells.ring(bell)

    async def plan(self, tx: Transaction) -> Chores | None:
        """Look first, page by page; then end what is abandoned, wake what was blocked, clear what has ended; survey."""
        if self._looked_up_to is not None:
            live = await tx.claims.live(after=self._looked_up_to, limit=PAGE)
            self._looked_up_to = live[-1].id if live else None
            if live:
                return Chores(live=live)
            await self._expire(tx)
            if await tx.stopped.unblock_all():
                self._bells = ("send", "load")
        if self._cleared_up_to is not None:
            ended = await tx.claims.to_clear(after=self._cleared_up_to, limit=PAGE)
            self._cleared_up_to = ended[-1].id if ended else None
            if ended:
                return Chores(ended=ended)
        if self._surveyed_at is None or time.monotonic() - self._surveyed_at > SURVEY_EVERY.total_seconds():
            self._surveyed_at = time.monotonic()
            await tx.arrivals.forget(at=utc_now())
            known = await tx.claims.staged_tokens()
            return Chores(known=known, keeps_quarantine=await _is_restored(tx))
        return None

    async def _expire(self, tx: Transaction) -> None:
        if await _is_restored(tx):
            return
        span = self.policy.abandoned_after
        unwell = [store.name for store in self.site.stores if store.problem is not None]
        reason = f"nothing came for {span}; the upload was given up"
        while gone := await tx.claims.expire(
            idle_since=utc_now() - span, reason=reason, limit=PAGE, except_stores=unwell
        ):
            await tx.events.tell(
                [Happening(subject=each.name, what="upload abandoned", who=each.account, why=reason) for each in gone]
            )
            log.info("Gave up %d abandoned uploads", len(gone), extra={"event": "uploads-abandoned"})

    async def act(self, plan: Chores) -> Done:
        """Look, clear and survey; a store that does not answer is left for the next pass."""
        seen = await room.look_at(self.site, plan.live) if plan.live else ()
        cleared, left = await self._clear(plan.ended)
        strays: dict[StoreName, Sequence[Stray]] = {}
        if plan.known is not None:
            for store in self.site.stores.writable():
                strays[store.name] = await self._survey(store, plan.known, keeps=plan.keeps_quarantine)
        return Done(seen=seen, cleared=cleared, left=left, strays=strays)

    async def _clear(self, ended: Sequence[Incoming]) -> tuple[list[Incoming], list[Incoming]]:
        by_store: defaultdict[StoreName, list[Incoming]] = defaultdict(list)
        for each in ended:
            by_store[each.store].append(each)
        cleared: list[Incoming] = []
        left: list[Incoming] = []
        for store in self.site.stores.writable():
            transfers = by_store[store.name]
            if not transfers:
                continue
            try:
                stuck = set(await store.clear([each.token for each in transfers]))
            except LibrarianError as error:
                log.warning("Cannot clear staging of store %s: %s", store.name, error)
                continue
            cleared += [each for each in transfers if each.token not in stuck]
            left += [each for each in transfers if each.token in stuck]
        return cleared, left

    async def _survey(self, store: Store, known: frozenset[Token], *, keeps: bool) -> Sequence[Stray]:
        try:
            strays = await store.survey(known, older_than=self.policy.stranger_after)
            stuck = {stray.place for stray in await store.quarantine(strays)}
            if not keeps:
                await store.expire_quarantine(self.policy.quarantine_for)
        except LibrarianError as error:
            log.warning("Cannot survey staging of store %s: %s", store.name, error)
            return ()
        return [stray for stray in strays if stray.place not in stuck]

    async def record(self, tx: Transaction, plan: Chores, result: Done) -> None:
        """Write down progress, what is clear now, and what a person should look at."""
        await tx.claims.saw(result.seen)
        await tx.claims.staging_cleared([each.id for each in result.cleared])
        for store, strays in result.strays.items():
            if strays:
                await self._tell_strays(tx, store, strays)
        news = [each for each in result.left if each.token not in self._told]
        for store_name in {each.store for each in news}:
            tokens = [each.token for each in news if each.store == store_name]
            some = ", ".join(tokens[:5])
            await tx.alerts.raise_alert(
                f"staging-left:{store_name}",
                message=f"{len(tokens)} staging folders of store {store_name} cannot be removed: {some}",
                remedy="Others own parts of them: have their owners remove them. Their bytes count as used.",
            )
        self._told |= {each.token for each in news}

    async def _tell_strays(self, tx: Transaction, store: StoreName, strays: Sequence[Stray]) -> None:
        places = ", ".join(stray.place for stray in strays[:5])
        await tx.events.tell(
            [Happening(subject=f"store:{store}", what="strangers put aside", who="housekeeping", why=places)]
        )
        await tx.alerts.raise_alert(
            f"strangers:{store}",
            message=f"{len(strays)} entries in staging of store {store} belong to no upload: {places}",
            remedy=f"They are in quarantine for {self.policy.quarantine_for}; take them out if you need them.",
        )


async def _is_restored(tx: Transaction) -> bool:
    """Whether the catalog was restored and nobody has said that this is meant.

    It may not know what it should: what looks abandoned or unknown may be neither, and is not removed.
    """
    return (await tx.site.get()).restored_at is not None
