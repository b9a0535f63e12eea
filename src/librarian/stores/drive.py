"""DriveStore: a store that is carried by hand, and looking for where it is plugged in."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Final, TypeVar

from librarian import guard, mounts
from librarian.errors import StoreUnavailable
from librarian.states import VerifiedFrom
from librarian.stores import examining, faults
from librarian.stores.base import ANSWER_TIMEOUT, StoreSpec
from librarian.stores.lane import Lane
from librarian.stores.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from datetime import timedelta
    from pathlib import Path

    from librarian.names import StoreName
    from librarian.stores.examining import Claim

T = TypeVar("T")

#: Below a drive's top.
STAGING: Final = ".librarian-staging"
#: A drive that has much to write answers late.
_PATIENCE: Final = 10 * ANSWER_TIMEOUT
ABSENT: Final = "it is not plugged in"


def spec_of(name: StoreName, root: Path) -> StoreSpec:
    """The drive *name* whose top is at *root*."""
    return StoreSpec(name=name, root=root, staging=root / STAGING, verify_from=VerifiedFrom.MEDIUM)


class DriveStore(LocalStore):
    """A drive. One that rests (is absent, or sealed) is never touched, and has what it was told as its problem."""

    def __init__(self, spec: StoreSpec, *, rests_because: str | None = None) -> None:
        super().__init__(spec)
        self._rests_because = rests_because

    @property
    def problem(self) -> str | None:
        """See ``Store.problem``."""
        return self._rests_because or super().problem

    async def open(self, *, expected_uuid: str | None, generation: int) -> str:
        """See ``Store.open``."""
        self._refuse_rest()
        return await super().open(expected_uuid=expected_uuid, generation=generation)

    async def probe(self) -> str | None:
        """See ``Store.probe``; whether a drive is back, ``Seeker`` finds out."""
        if self.problem is None:
            await super().probe()
        return self.problem

    def _refuse_rest(self) -> None:
        if self._rests_because is not None:
            raise StoreUnavailable(
                f"drive '{self.name}' cannot be used: {self._rests_because}", remedy="Plug it in, or use another."
            )


class Seeker:
    """Looks where drives are plugged in. A mount that does not answer holds up nobody, and is left until it does.

    What rests is looked at once after anything was mounted: whoever unmounts it never finds it busy.
    """

    def __init__(self, patience: timedelta) -> None:
        self._patience = patience
        self._looks: dict[Path, asyncio.Future[Claim | None]] = {}
        self._watch = mounts.Watch()
        self._resting: dict[Path, Claim] = {}

    async def look(self, hints: Iterable[Path], *, in_use: Collection[Path] | None = None) -> list[Claim]:
        """Who stands at *hints* and at the top of every mounted block device; nothing else is touched.

        *in_use*: places of drives that may have changed since the last look; any may, where that is not told.
        """
        guard.forbid_io_in_transaction("look for drives")
        if self._watch.has_changed() or in_use is None:
            self._resting.clear()
        mounted = {mount.path: mount for mount in mounts.all_mounts() if mount.is_on_a_block_device}
        resting = {
            path: claim
            for path, claim in self._resting.items()
            if path in mounted.keys() - (in_use or ()) and mounted[path].has_device
        }
        looked_at = sorted((mounted.keys() | set(hints)) - resting.keys())
        found = [claim for claim in await asyncio.gather(*map(self._look_at, looked_at)) if claim is not None]
        self._resting = resting | {
            claim.path: claim for claim in found if claim.path in mounted.keys() - (in_use or ())
        }
        return sorted([*resting.values(), *found], key=lambda claim: claim.path)

    async def _look_at(self, path: Path) -> Claim | None:
        if path not in self._looks:
            self._looks[path] = _ask(path)
        looking = self._looks[path]
        await asyncio.wait((looking,), timeout=self._patience.total_seconds())
        if not looking.done():
            return None
        del self._looks[path]
        return looking.result()


def _ask(path: Path) -> asyncio.Future[Claim | None]:
    """Who stands at *path*, asked in a thread that nobody waits for at the end of the process."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Claim | None] = loop.create_future()

    def look() -> None:
        known = examining.claim_at(path)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(lambda: None if answer.done() else answer.set_result(known))

    threading.Thread(target=look, name=f"look at {path}", daemon=True).start()
    return answer


async def at_place(name: StoreName, work: Callable[[], T], *, what: str) -> T:
    """As ``beating``, for *work* that is soon done."""
    return await beating(name, lambda _: work(), what=what)


async def beating(name: StoreName, work: Callable[[Callable[[], None]], T], *, what: str) -> T:
    """Do *work*, which blocks on the disk of the drive *name*, in a thread of its own that may hang.

    *work* is given what it calls whenever it gets on.

    Raises
    ------
    StoreUnavailable
        It does not answer.
    LibrarianError
        What *work* raised, an OSError as what it means.
    """
    guard.forbid_io_in_transaction(what)
    lane = Lane(name, _PATIENCE)
    try:
        return await lane.run_probe(lambda trip: work(trip.beat))
    except OSError as error:
        raise faults.refusal_of(error, store=name, what=what) from error
    finally:
        lane.close()
