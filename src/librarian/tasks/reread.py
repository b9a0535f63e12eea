"""Reread: reads copies again that may be bad, and decides: good after all, corrupt, or gone."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from anyio import to_thread

from librarian import replication
from librarian.catalog.records import Happening, Tally
from librarian.catalog.suspects import Finding
from librarian.checksum import Measured
from librarian.errors import LibrarianError, NotFound, Unavailable
from librarian.names import FileId, StoreId
from librarian.outcomes import lost_cause, suspect_cause
from librarian.replication import Assertion
from librarian.states import Presence
from librarian.stores.forgetting import forget
from librarian.tasks.base import Cadence, Task
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from librarian.catalog.suspects import Suspect
    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName
    from librarian.site import Site
    from librarian.timing import Budget

log = logging.getLogger(__name__)

#: Copies read in one round.
MOST_READ: Final = 16
_START: Final = (FileId(0), StoreId(0))


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What the copies of a round were found to be; one whose store does not answer stays a suspect."""

    findings: tuple[Finding, ...]


class Reread(Task[tuple["Suspect", ...], Readings]):
    """Reads suspects again. A mismatch counts when a second reading, past the page cache, finds it too."""

    name: ClassVar[str] = "reread"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.cadence = Cadence(interval=timedelta(minutes=1))
        self._after = _START

    async def run_pass(self, budget: Budget) -> int:
        """Go through all suspects once: one that cannot be read now has its turn in the next pass."""
        self._after = _START
        return await super().run_pass(budget)

    async def plan(self, tx: Transaction) -> tuple[Suspect, ...] | None:
        """The next suspects on stores that are well."""
        stores = [store.name for store in self.site.stores.writable()]
        found = await tx.suspects.page(after=self._after, stores=stores, limit=MOST_READ)
        if not found:
            return None
        self._after = (found[-1].file_id, found[-1].store_id)
        return found

    async def act(self, plan: tuple[Suspect, ...]) -> Readings:
        """Measure each; what differs is measured again, and counts where its store is still there after that."""
        first = await self._read(plan)
        doubted = [suspect for suspect in plan if not _is_good(suspect, first[suspect])]
        for suspect in doubted:
            await to_thread.run_sync(forget, self._path(suspect))
        found = {**first, **await self._read(doubted)}
        findings = [_finding(suspect, measured) for suspect, measured in found.items()]
        away = await self._away({suspect.store for suspect in doubted})
        return Readings(findings=tuple(f for f in findings if f is not None and f.suspect.store not in away))

    async def _away(self, stores: Collection[StoreName]) -> frozenset[StoreName]:
        """Those of *stores* that are not what they were: under the mount point of one that is gone nothing is found."""
        troubles = {}
        for store in stores:
            try:
                troubles[store] = await self.site.stores.lookup(store).probe()
            except LibrarianError as error:
                troubles[store] = error.message
        return frozenset(store for store, trouble in troubles.items() if trouble is not None)

    async def _read(self, suspects: Sequence[Suspect]) -> dict[Suspect, Measured | LibrarianError]:
        items = [(self._path(suspect), suspect.checksum.algorithm) for suspect in suspects]
        return dict(zip(suspects, await self.site.pool.measure_many(items), strict=True))

    def _path(self, suspect: Suspect) -> Path:
        return self.site.stores.lookup(suspect.store).path_of(suspect.name)

    async def record(self, tx: Transaction, plan: tuple[Suspect, ...], result: Readings) -> None:
        """Write what each is; good ones are sources again, bad ones a person is told of."""
        decided = await tx.suspects.decide(result.findings)
        news = [f for f in result.findings if (f.suspect.file_id, f.suspect.store_id) in decided]
        good = [f.suspect for f in news if f.presence is Presence.PRESENT]
        bad = [f for f in news if f.presence is not Presence.PRESENT]
        await tx.stopped.unblock([suspect.file_id for suspect in good])
        await tx.alerts.acknowledge([suspect_cause(f.suspect.name) for f in bad])
        await tx.events.tell(
            [
                Happening(subject=f.suspect.name, what=f"found {f.presence} on {f.suspect.store}", who=self.name)
                for f in news
            ]
        )
        await tx.told.lock([f.suspect.file_id for f in bad])
        left = await tx.instances.left_of([f.suspect.file_id for f in bad])
        await tx.tallies.add_many(_losses([f.suspect for f in bad], left))
        await replication.tell_gone(tx, {f.suspect.file_id: _loss(f) for f in bad if f.suspect.file_id not in left})
        by_store: defaultdict[StoreName, list[Suspect]] = defaultdict(list)
        for finding in bad:
            by_store[finding.suspect.store].append(finding.suspect)
        for store, suspects in by_store.items():
            await replication.copies_lost(tx, store, suspects)
        for finding in bad:
            await self._alert(tx, finding, is_last=finding.suspect.file_id not in left)

    async def carry_out(self, plan: tuple[Suspect, ...]) -> Readings:
        """Wake the sender and the messenger once they can see what was decided."""
        readings = await super().carry_out(plan)
        for bell in ("send", "deliver", "load"):
            self.site.bells.ring(bell)
        return readings

    async def _alert(self, tx: Transaction, finding: Finding, *, is_last: bool) -> None:
        suspect = finding.suspect
        last = " No other good copy is here." if is_last else ""
        log.error("The copy of %s on %s is %s", suspect.name, suspect.store, finding.presence)
        await tx.alerts.raise_alert(
            lost_cause(suspect.store, suspect.name),
            message=f"The copy of {suspect.name} on {suspect.store} was read again, and is {finding.presence}.{last}",
            remedy=f"Look at the disk behind {suspect.store}. A good copy that is brought again, by a peer or by an "
            "upload, takes its place; what stands there now is then kept in the store's quarantine.",
        )


def _is_good(suspect: Suspect, measured: Measured | LibrarianError) -> bool:
    if not isinstance(measured, Measured):
        return False
    return (measured.size, measured.checksum) == (suspect.size, suspect.checksum)


def _finding(suspect: Suspect, measured: Measured | LibrarianError) -> Finding | None:
    if isinstance(measured, Unavailable):
        return None
    if _is_good(suspect, measured):
        presence = Presence.PRESENT
    else:
        presence = Presence.MISSING if isinstance(measured, NotFound) else Presence.CORRUPT
    return Finding(suspect=suspect, presence=presence, at=utc_now())


def _loss(finding: Finding) -> Assertion:
    suspect = finding.suspect
    return Assertion(
        name=suspect.name,
        size=suspect.size,
        checksum=suspect.checksum,
        store=suspect.store,
        code=finding.presence,
        reason=f"the last copy here was read again, and is {finding.presence}",
    )


def _losses(suspects: Sequence[Suspect], left: Collection[FileId]) -> dict[str, Tally]:
    """What goes from the totals of each store, and of the files that the site holds: those of which none is *left*."""
    files: defaultdict[str, int] = defaultdict(int)
    size: defaultdict[str, int] = defaultdict(int)
    lost = {suspect.file_id: suspect.size for suspect in suspects if suspect.file_id not in left}
    parts = [(f"store:{suspect.store}", suspect.size) for suspect in suspects]
    for subject, each in [*parts, *(("held", each) for each in lost.values())]:
        files[subject] -= 1
        size[subject] -= each
    return {subject: Tally(files=files[subject], bytes=size[subject]) for subject in files}
