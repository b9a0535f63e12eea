"""The supervisor: loops that wake early, back off, recover, drain, and never stop each other."""

import asyncio
from datetime import timedelta

import pytest

from librarian.errors import DatabaseUnavailable
from librarian.tasks.base import Cadence, Task
from librarian.tasks.supervisor import Supervisor

A_DAY = timedelta(days=1)


class Scripted(Task[str, str]):
    """A task whose work is a list; an item that is an exception is raised by ``act``."""

    def __init__(self, site, name, work=(), *, gate=None):
        super().__init__(site)
        self.name = name
        self.cadence = Cadence(interval=A_DAY)
        self.work = list(work)
        self.gate = gate
        self.done = []
        self.given_up = []
        self.recovered = 0
        self.changed = asyncio.Event()

    async def plan(self, tx):
        return self.work.pop(0) if self.work else None

    async def act(self, plan):
        if isinstance(plan, BaseException):
            raise plan
        if self.gate is not None:
            await self.gate.wait()
        return plan

    async def record(self, tx, plan, result):
        self.done.append(result)
        self.changed.set()

    async def give_up(self, tx, plan, error):
        self.given_up.append(type(error).__name__)
        self.changed.set()

    async def recover(self, tx):
        self.recovered += 1

    async def until(self, done):
        async with asyncio.timeout(20):
            while self.done != done:
                self.changed.clear()
                await self.changed.wait()


async def test_work_is_done_until_none_is_left(site):
    task = Scripted(site, "one", ["a", "b"])

    async with Supervisor(site, [task]):
        await task.until(["a", "b"])

    assert site.pulses.of("one").failures == 0


async def test_a_bell_wakes_a_resting_task(site):
    task = Scripted(site, "one", ["a"])
    async with Supervisor(site, [task]):
        await task.until(["a"])
        task.work.append("b")

        site.bells.ring("one")

        await task.until(["a", "b"])


async def test_a_failing_task_is_tried_again_and_stops_no_other(site):
    bad = Scripted(site, "bad", [RuntimeError("broken"), "later"])
    good = Scripted(site, "good", ["a"])

    async with Supervisor(site, [bad, good]):
        await good.until(["a"])
        await bad.until(["later"])

    assert bad.given_up == ["RuntimeError"]


async def test_a_task_that_something_within_cancelled_is_tried_again(site):
    task = Scripted(site, "one", [asyncio.CancelledError(), "later"])

    async with Supervisor(site, [task]):
        await task.until(["later"])

    assert site.pulses.of("one").last_error == "something that it waited for was cancelled"


async def test_the_pulse_tells_the_last_error_and_counts_failures(site):
    task = Scripted(site, "one", [RuntimeError("broken")])

    async with Supervisor(site, [task]):
        await task.changed.wait()

    pulse = site.pulses.of("one")
    assert pulse.last_error == "broken"
    assert pulse.last_error_at is not None


async def test_recovery_comes_before_the_first_pass_and_after_a_failed_one(site):
    task = Scripted(site, "one", ["a", RuntimeError("broken"), "b"])

    async with Supervisor(site, [task]):
        await task.until(["a", "b"])

    assert task.recovered == 2


async def test_a_drain_lets_running_work_finish(site):
    gate = asyncio.Event()
    task = Scripted(site, "one", ["a"], gate=gate)
    supervisor = Supervisor(site, [task])
    supervisor.start()
    await asyncio.sleep(0.05)

    draining = asyncio.create_task(supervisor.drain())
    gate.set()
    await draining

    assert task.done == ["a"]


async def test_a_drain_releases_work_that_does_not_finish_in_time(site):
    task = Scripted(site, "one", ["a"], gate=asyncio.Event())
    supervisor = Supervisor(site, [task])
    supervisor.start()
    await asyncio.sleep(0.05)

    await supervisor.drain(grace=timedelta(seconds=0.01))

    assert (task.done, task.given_up) == ([], ["Draining"])


async def test_a_recording_is_not_cut_off_by_a_drain(site):
    entered, gate = asyncio.Event(), asyncio.Event()

    class Slow(Scripted):
        async def record(self, tx, plan, result):
            entered.set()
            await gate.wait()
            await super().record(tx, plan, result)

    task = Slow(site, "one", ["a"])
    supervisor = Supervisor(site, [task])
    supervisor.start()
    await entered.wait()

    draining = asyncio.create_task(supervisor.drain(grace=timedelta(seconds=0.01)))
    await asyncio.sleep(0.05)
    gate.set()
    await draining

    assert task.done == ["a"]


async def test_an_outcome_is_offered_again_to_a_database_that_was_away(site):
    class Unlucky(Scripted):
        refusals = 1

        async def record(self, tx, plan, result):
            if self.refusals:
                self.refusals -= 1
                raise DatabaseUnavailable("the database went away")
            await super().record(tx, plan, result)

    task = Unlucky(site, "one", ["a"])

    async with Supervisor(site, [task]):
        await task.until(["a"])

    assert task.given_up == []


async def test_every_loop_is_a_task_with_a_name(site):
    async with Supervisor(site, [Scripted(site, "one")]):
        names = {task.get_name() for task in asyncio.all_tasks()}

    assert "task: one" in names


async def test_draining_twice_does_nothing(site):
    supervisor = Supervisor(site, [Scripted(site, "one")])
    supervisor.start()

    await supervisor.drain()
    await supervisor.drain()

    assert not [task for task in asyncio.all_tasks() if task.get_name() == "task: one"]


@pytest.mark.parametrize("failures", [1, 2])
async def test_the_first_retries_come_within_seconds(site, failures):
    task = Scripted(site, "one", [*[RuntimeError("broken")] * failures, "a"])
    loop = asyncio.get_running_loop()
    began_at = loop.time()

    async with Supervisor(site, [task]):
        await task.until(["a"])

    assert loop.time() - began_at < failures * 2 + 3
