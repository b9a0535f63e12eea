"""Transfers that run inside this process: one coroutine per job, and what it has said so far.

The handle is the key. After a restart the process knows no handle: ``inspect`` says LOST, the job is submitted again
under the same key, and goes on with what already stands in the receiver's staging.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple, Unpack

from librarian.errors import LibrarianError
from librarian.timing import retry_delay
from librarian.transfers.base import Phase, Progress, TransferEngine
from librarian.transfers.pace import Pace, Paces

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from datetime import timedelta

    from librarian.names import SiteName
    from librarian.transfers.base import Item, Job

log = logging.getLogger(__name__)

#: Ended jobs whose results were never asked for; more are forgotten, and their batches submitted again.
MOST_ENDED: Final = 1000
#: Threads per job: enough to keep a parallel file system busy, and one small machine usable.
THREADS: Final = 4

T = TypeVar("T")
Given = TypeVarTuple("Given")


@dataclass(kw_only=True)
class Running:
    """One job under way, as its coroutine tells it."""

    job: Job
    #: How fast bytes may go.
    pace: Pace
    bytes_done: int = 0
    reason: str = ""
    remedy: str = ""
    #: A human must act; the job goes on trying.
    is_held: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    #: Failed tries since bytes have arrived, and tries in all.
    attempts: int = 0
    tries: int = 0
    task: asyncio.Task[None] | None = None
    #: For threads: whoever started them has gone.
    is_over: threading.Event = field(default_factory=threading.Event)
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="transfer")
    )

    def in_thread(self, work: Callable[[Unpack[Given]], T], *given: *Given) -> asyncio.Future[T]:
        """Do *work* in a thread of this job's own: one that hangs in a dead mount takes none from other jobs."""
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    def release(self) -> None:
        """Let the threads go; what hangs is left behind."""
        self.is_over.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def left(self) -> list[Item]:
        """The items that have not failed."""
        return [item for item in self.job.items if item.uuid not in self.failed]

    def fail(self, item: Item, reason: str) -> None:
        """Give *item* up, for this job."""
        self.failed[item.uuid] = reason

    def moved(self, size: int) -> None:
        """*size* more bytes have arrived: whatever held us up is over."""
        self.bytes_done += size
        self.attempts = 0
        self.reason = self.remedy = ""
        self.is_held = False


class InProcessEngine(TransferEngine):
    """Runs every job as a coroutine of its own, and tries again for as long as it is not cancelled."""

    def __init__(self, *, on_change: Callable[[], None], longest_pause: timedelta) -> None:
        self._on_change = on_change
        self._longest_pause = longest_pause
        self._running: dict[str, Running] = {}
        self._paces = Paces()

    @abstractmethod
    async def move(self, running: Running) -> None:
        """Bring every item of ``running.left`` to its place; items that cannot be brought are failed.

        Raises
        ------
        LibrarianError
            Nothing is wrong with the items; try again later. Bytes that arrived are not sent again.
        """

    def keep_to(self, peer: SiteName, bytes_per_second: int | None) -> None:
        """Let no more go to *peer* from now on; None: as fast as it can."""
        if self._paces.set(peer, bytes_per_second):
            self.pace_changed(peer)

    def pace_changed(self, peer: SiteName) -> None:
        """Another limit holds for *peer*; whoever asks its pace for every part need do nothing."""

    async def prepare(self) -> str:
        """A key for a new transfer; nothing moves yet."""
        return str(uuid.uuid4())

    async def submit(self, job: Job, key: str) -> str:
        """Start *job* under *key*. A repeat while it runs, or after it has ended, starts nothing."""
        if key not in self._running:
            self._paces.set(job.peer, job.rate_limit)
            running = Running(job=job, pace=self._paces.of(job.peer))
            self._running[key] = running
            running.task = asyncio.create_task(self._insist(key, running), name=f"{self.name}: {job.peer}")
            self._forget_old()
        return key

    async def inspect(self, handles: Sequence[str]) -> dict[str, Progress]:
        """How far the transfers are; those this process does not know are LOST."""
        return {handle: self._progress(self._running.get(handle)) for handle in handles}

    async def cancel(self, handle: str) -> None:
        """Stop it, and forget it."""
        running = self._running.pop(handle, None)
        if running is not None and running.task is not None:
            running.task.cancel()
            await asyncio.wait([running.task])

    async def close(self) -> None:
        """Stop everything; a later submit with the same key resumes it."""
        for handle in list(self._running):
            await self.cancel(handle)

    def _progress(self, running: Running | None) -> Progress:
        if running is None:
            return Progress(phase=Phase.LOST)
        task = running.task
        if task is None or not task.done():
            phase, remedy = (Phase.HELD, running.remedy) if running.is_held else (Phase.ACTIVE, "")
            return Progress(phase=phase, bytes_done=running.bytes_done, reason=running.reason, remedy=remedy)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            return Progress(phase=Phase.FAILED, bytes_done=running.bytes_done, reason=f"bug: {error!r}"[:500])
        return Progress(phase=Phase.SUCCEEDED, bytes_done=running.bytes_done, failed_items=dict(running.failed))

    async def _insist(self, key: str, running: Running) -> None:
        try:
            while True:
                running.tries += 1
                try:
                    await self.move(running)
                except LibrarianError as error:
                    running.attempts += 1
                    running.reason, running.remedy = error.message, error.remedy
                    running.is_held = _needs_a_person(error)
                    pause = retry_delay(running.attempts, cap=self._longest_pause)
                    log.warning(
                        "Cannot go on with %s to %s, next try in %.1f s: %s",
                        key,
                        running.job.peer,
                        pause.total_seconds(),
                        error,
                        extra={"event": "transfer-stalled", "peer": running.job.peer, "key": key},
                    )
                    await asyncio.sleep(pause.total_seconds())
                else:
                    return
        finally:
            running.release()
            self._on_change()

    def _forget_old(self) -> None:
        ended = [key for key, running in self._running.items() if running.task is not None and running.task.done()]
        for key in ended[: max(0, len(ended) - MOST_ENDED)]:
            del self._running[key]


def _needs_a_person(error: LibrarianError) -> bool:
    """Wrong credentials, missing roles, wrong settings and full disks do not mend themselves."""
    return error.code in ("unauthenticated", "forbidden", "configuration", "no_room")


async def side_by_side(workers: Iterable[Coroutine[object, object, None]], *, name: str) -> None:
    """Run *workers* until all have ended; the first error ends the others and is raised as it is."""
    tasks = [asyncio.create_task(worker, name=name) for worker in workers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
