"""Doing many things a few at a time, and blocking things in threads that stop when nobody waits for them."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

Job = TypeVar("Job")
Result = TypeVar("Result")
P = ParamSpec("P")


class Halted(Exception):
    """The work's caller was cancelled; raised in the thread by ``Halt.check``."""


class Halt:
    """Tells threads that their work is not wanted any more."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Nobody wants it any more."""
        self._event.set()

    def check(self) -> None:
        """Raise Halted once the caller was cancelled; long work calls it now and then."""
        if self._event.is_set():
            raise Halted

    async def in_thread(self, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run *work* in a thread; when the caller is cancelled, ask it to stop."""
        try:
            return await asyncio.to_thread(work, *args, **kwargs)
        except asyncio.CancelledError:
            self.set()
            raise


async def in_lanes(jobs: Sequence[Job], work: Callable[[Job], Awaitable[Result]], *, lanes: int) -> list[Result]:
    """Do *work* for every job, at most *lanes* at a time; results in the order of the jobs.

    The first failure cancels the rest and is raised as it is.
    """
    results: dict[int, Result] = {}
    waiting = iter(enumerate(jobs))

    async def lane() -> None:
        for index, job in waiting:
            results[index] = await work(job)

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(min(lanes, len(jobs))):
                group.create_task(lane(), name=f"lane-{number}")
    except BaseExceptionGroup as failures:
        # One failure is enough to tell, and callers match on its type.
        raise failures.exceptions[0] from failures
    return [results[index] for index in range(len(jobs))]
