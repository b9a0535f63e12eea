"""The supervisor: runs every task in a loop of its own, so that one failing task never stops another."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from librarian import timing
from librarian.errors import LibrarianError, Unavailable
from librarian.timing import Budget, utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from librarian.site import Site
    from librarian.tasks.base import Task

log = logging.getLogger(__name__)

#: What a task plans and finds is its own affair.
AnyTask: TypeAlias = "Task[Any, Any]"

#: A failing task is tried again at least this often, deaf to its bell meanwhile.
LONGEST_BACKOFF: Final = timedelta(seconds=30)
#: How far from the interval a pause may be, so that loops do not march in step.
JITTER: Final = 0.1
#: Passes that are running when the drain begins may finish for this long; then they are cancelled and released.
GRACE: Final = timedelta(seconds=20)
#: Cancelled passes may record for this long; threads stuck in a dead mount do not hold up the exit.
LAST_WORDS: Final = timedelta(seconds=5)


@dataclass(frozen=True, kw_only=True)
class _PassBudget(Budget):
    """A budget that is also spent as soon as the server drains."""

    stopping: asyncio.Event

    @property
    def is_spent(self) -> bool:
        return self.stopping.is_set() or super().is_spent


class Supervisor:
    """Runs tasks from ``async with`` until the block ends, then drains them."""

    def __init__(self, site: Site, tasks: Sequence[AnyTask]) -> None:
        self._site = site
        self._tasks = tuple(tasks)
        self._stopping = asyncio.Event()
        self._loops: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.drain()

    def start(self) -> None:
        """Start a named loop per task. Each recovers before its first pass."""
        for task in self._tasks:
            self._site.pulses.note(task.name)
            self._loops.add(asyncio.create_task(self._tend(task), name=f"task: {task.name}"))

    async def drain(self, *, grace: timedelta = GRACE) -> None:
        """Take no new work, let what runs finish for *grace*, then cancel and release it. A repeat does nothing."""
        self._stopping.set()
        for task in self._tasks:
            self._site.bells.ring(task.name)
        loops, self._loops = self._loops, set()
        if not loops:
            return
        self._site.neighbours.mailboxes.take_back()
        _, running = await asyncio.wait(loops, timeout=grace.total_seconds())
        if not running:
            return
        log.warning("Stopping %s, which did not finish in %s", ", ".join(sorted(t.get_name() for t in running)), grace)
        for loop in running:
            loop.cancel()
        await asyncio.wait(running, timeout=LAST_WORDS.total_seconds())

    async def _tend(self, task: AnyTask) -> None:
        is_sound = False
        while not self._stopping.is_set():
            failures = self._site.pulses.of(task.name).failures
            is_sound, has_more = await self._pass(task, recover=not is_sound)
            if has_more:
                continue
            if is_sound:
                await self._rest(task, task.cadence.interval * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311
            else:
                await self._back_off(task, timing.retry_delay(failures + 1, cap=LONGEST_BACKOFF))

    async def _pass(self, task: AnyTask, *, recover: bool) -> tuple[bool, bool]:
        """Run one pass; whether it was sound, and whether its budget ended before its work."""
        pulses = self._site.pulses
        pulses.note(task.name, is_running=True, next_pass_at=None)
        span = task.cadence.soft_deadline
        budget = _PassBudget(ends_at=Budget.of(span).ends_at, stopping=self._stopping)
        reminder = asyncio.get_running_loop().call_later(span.total_seconds() * 1.5, self._report_slow, task.name, span)
        try:
            if recover:
                async with self._site.catalog.begin() as tx:
                    await task.recover(tx)
            rounds = await task.run_pass(budget)
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            # Not us, but something that the pass waited for: its loop goes on.
            self._report_failure(task.name, Unavailable("something that it waited for was cancelled"))
            return False, False
        except Exception as error:  # noqa: BLE001 - the one place: whatever a task does, its loop goes on
            self._report_failure(task.name, error)
            return False, False
        finally:
            reminder.cancel()
            pulses.note(task.name, is_running=False, is_slow=False, last_pass_at=utc_now())
        pulses.note(task.name, failures=0, rounds=pulses.of(task.name).rounds + rounds)
        return True, rounds > 0 and budget.is_spent

    def _report_slow(self, name: str, span: timedelta) -> None:
        self._site.pulses.note(name, is_slow=True)
        log.warning("A pass of %s takes longer than %s", name, span, extra={"event": "task-slow", "task": name})

    def _report_failure(self, name: str, error: Exception) -> None:
        pulses = self._site.pulses
        said = str(error) or type(error).__name__
        pulses.note(name, failures=pulses.of(name).failures + 1, last_error=said, last_error_at=utc_now())
        extra = {"event": "task-failed", "task": name}
        if isinstance(error, LibrarianError):
            log.warning("A pass of %s failed, and will be tried again: %s", name, said, extra=extra)
        else:
            log.error("A pass of %s failed unexpectedly, and will be tried again", name, exc_info=error, extra=extra)

    async def _rest(self, task: AnyTask, span: timedelta) -> None:
        self._site.pulses.note(task.name, next_pass_at=utc_now() + span)
        with suppress(TimeoutError):
            async with asyncio.timeout(span.total_seconds()):
                await self._site.bells.heard(task.name)

    async def _back_off(self, task: AnyTask, span: timedelta) -> None:
        # Deaf to the bell: a task that fails whenever it is asked would otherwise fail at full speed.
        self._site.pulses.note(task.name, next_pass_at=utc_now() + span)
        with suppress(TimeoutError):
            async with asyncio.timeout(span.total_seconds()):
                await self._stopping.wait()


def _is_cancelled() -> bool:
    """Whether somebody asked the task that is running to end."""
    running = asyncio.current_task()
    return running is not None and running.cancelling() > 0
