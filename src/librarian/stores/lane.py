"""Lane: the threads of one store, so that a hung mount stops one store only."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

from librarian.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from librarian.names import StoreName

T = TypeVar("T")

#: Threads at most, for work that is soon done and for work that moves bytes.
_SLOTS: Final = 4
#: A durability barrier may be silent for this many answer timeouts: a disk with much to write answers late.
_BARRIER_PATIENCE: Final = 10
#: Threads that may be stuck in a dead mount at once; no probe starts another one beyond.
_LOST_AT_MOST: Final = 16


class Pace(StrEnum):
    """Which of the two queues a trip stands in: many quick ones never wait for a long copy."""

    QUICK = "quick"
    LONG = "long"


class Stopped(Exception):
    """The trip's caller was cancelled; raised by ``Trip.beat`` in the thread."""


class Trip:
    """One piece of blocking work in a thread; it beats whenever it gets on, so that its caller knows it lives."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._beat_at = time.monotonic()
        self._is_stopped = False
        #: It is at another store's mount now.
        self.is_abroad = False

    def beat(self) -> None:
        """Say that the work gets on; raises Stopped when nobody waits for it any more."""
        self._beat_at = time.monotonic()
        if self._is_stopped:
            raise Stopped

    @contextmanager
    def barrier(self) -> Iterator[None]:
        """Be patient within: one call may take long without a beat."""
        before = self._patience
        self._patience = before * _BARRIER_PATIENCE
        self.beat()
        try:
            yield
        finally:
            self._beat_at = time.monotonic()
            self._patience = before

    @contextmanager
    def abroad(self) -> Iterator[None]:
        """What hangs within is not this store."""
        self.is_abroad = True
        try:
            yield
        finally:
            self.is_abroad = False

    def stop(self) -> None:
        """Ask the work to end at its next beat."""
        self._is_stopped = True

    @property
    def seconds_left(self) -> float:
        """Until the trip counts as hung, unless it beats before."""
        return self._beat_at + self._patience - time.monotonic()


class _Worker(Generic[T]):
    """A daemon thread: one that hangs in a dead mount does not hold up the end of the process."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def give(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)

    def retire(self) -> None:
        self._jobs.put(None)


class _Delivery(Generic[T]):
    """Carries the outcome of work in a thread, whatever it is, to the one who waits for it in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> None:
        self._loop = loop
        self._future = future
        self.result: T

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None, trace: object) -> bool:
        if isinstance(raised, StopIteration):  # a future cannot carry it
            raised = RuntimeError(f"a trip raised {raised!r}")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._settle, raised)
        return True

    def _settle(self, raised: BaseException | None) -> None:
        if raised is not None:
            self._future.set_exception(raised)
        else:
            self._future.set_result(self.result)


class Lane:
    """Runs a store's blocking work in its own threads, and tells when the store does not answer.

    ``silence`` is the reason once a trip went without a beat for too long; from then on every trip fails at once,
    until ``forgive``.
    """

    def __init__(self, store: StoreName, answer_timeout: timedelta) -> None:
        self._store = store
        self._patience = answer_timeout.total_seconds()
        self._slots = {pace: asyncio.Semaphore(_SLOTS) for pace in Pace}
        self._idle: list[_Worker[object]] = []
        self._lost = 0
        self.silence: str | None = None

    def forgive(self) -> None:
        """Take trips again: the store has answered."""
        self.silence = None

    def new_trip(self) -> Trip:
        """A trip that starts now."""
        return Trip(self._patience)

    def close(self) -> None:
        """Let the idle threads end."""
        while self._idle:
            self._idle.pop().retire()

    async def run(self, work: Callable[[Trip], T], *, pace: Pace = Pace.QUICK) -> T:
        """Do *work* in a thread of this lane. Cancelling the caller stops the work at its next beat.

        Raises
        ------
        StoreUnavailable
            The store does not answer, or the one that the trip is at.
        """
        self._refuse_silence()
        async with self._slots[pace]:
            self._refuse_silence()
            return await self._ride(work)

    async def run_probe(self, work: Callable[[Trip], T]) -> T:
        """Do *work* although the store may be silent, in a thread of its own; one that hangs is left behind.

        Raises
        ------
        StoreUnavailable
            No answer, or too many threads hang already.
        """
        if self._lost >= _LOST_AT_MOST:
            raise self._no_answer()
        return await self._ride(work)

    def _refuse_silence(self) -> None:
        if self.silence is not None:
            raise self._no_answer()

    def _no_answer(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"store '{self._store}' gave {self.silence or 'no answer'}",
            remedy="Look at its mount and at the machine behind it; the store is taken back when it answers.",
            details={"store": str(self._store)},
        )

    async def _ride(self, work: Callable[[Trip], T]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        trip = self.new_trip()

        def job() -> None:
            with _Delivery(loop, future) as delivery:
                delivery.result = work(trip)

        worker: _Worker[object] = self._idle.pop() if self._idle else _Worker(f"store-{self._store}")
        worker.give(job)
        try:
            await self._watch(future, trip)
        except asyncio.CancelledError:
            # The thread still uses its descriptors and its staging: whoever comes next must not meet it there.
            trip.stop()
            with contextlib.suppress(StoreUnavailable):
                await self._watch(future, trip)
            raise
        finally:
            self._put_back(worker, future)
        return future.result()

    async def _watch(self, future: asyncio.Future[T], trip: Trip) -> None:
        while not future.done():
            await asyncio.wait((future,), timeout=max(trip.seconds_left, 0.001))
            if not future.done() and trip.seconds_left <= 0:
                trip.stop()
                silence = f"no answer for {self._patience:g} s"
                if trip.is_abroad:
                    raise StoreUnavailable(
                        f"what is read from another store for '{self._store}' gave {silence}",
                        remedy="Look at its mount and at the machine behind it.",
                    )
                self.silence = silence
                raise self._no_answer()

    def _put_back(self, worker: _Worker[object], future: asyncio.Future[T]) -> None:
        if future.done():
            self._idle.append(worker)
            # Looked at, so that asyncio does not report what a cancelled caller never fetched.
            future.exception()
            return
        self._lost += 1
        worker.retire()
        future.add_done_callback(self._found)

    def _found(self, future: asyncio.Future[T]) -> None:
        self._lost -= 1
        future.exception()
