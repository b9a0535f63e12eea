"""The threads of a store."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from librarian.errors import StoreUnavailable
from librarian.names import StoreName
from librarian.stores.lane import Lane, Pace, Trip

LONG = timedelta(seconds=60)
SHORT = timedelta(milliseconds=50)

# A thread waits for ever, as in a dead mount; the process must end all the same.
HANGS_AND_ENDS = """
import asyncio, threading
from datetime import timedelta
from librarian.errors import StoreUnavailable
from librarian.stores.lane import Lane

async def main():
    try:
        await Lane("dead", timedelta(milliseconds=50)).run(lambda trip: threading.Event().wait())
    except StoreUnavailable:
        print("let go")

asyncio.run(main())
"""


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane(StoreName("fast"), LONG)
    yield lane
    lane.close()


@pytest.fixture
def hanging() -> Iterator[Callable[[Trip], None]]:
    """Work that hangs until the test is over."""
    over = threading.Event()
    yield lambda _: over.wait() and None
    over.set()


async def test_work_answers_and_raises_as_if_it_were_called(lane: Lane):
    def fail(_: Trip) -> None:
        raise FileNotFoundError("gone")

    assert await lane.run(lambda _: 7) == 7
    with pytest.raises(FileNotFoundError, match="gone"):
        await lane.run(fail)


async def test_quick_work_does_not_wait_for_long_work(lane: Lane):
    over = threading.Event()
    long = [asyncio.create_task(lane.run(lambda _: over.wait(), pace=Pace.LONG)) for _ in range(10)]

    assert await lane.run(lambda _: "quick") == "quick"

    over.set()
    assert await asyncio.gather(*long) == [True] * 10


async def test_what_is_silent_for_too_long_closes_the_lane_until_it_is_forgiven(hanging):
    lane = Lane(StoreName("fast"), SHORT)

    with pytest.raises(StoreUnavailable):
        await lane.run(hanging)
    with pytest.raises(StoreUnavailable):
        await lane.run(lambda _: 7)

    assert lane.silence == "no answer for 0.05 s"
    lane.forgive()
    assert await lane.run(lambda _: 7) == 7
    lane.close()


async def test_those_who_wait_behind_what_hangs_are_let_go_too(hanging):
    lane = Lane(StoreName("fast"), SHORT)

    answers = await asyncio.gather(*(lane.run(hanging) for _ in range(20)), return_exceptions=True)

    assert {type(answer) for answer in answers} == {StoreUnavailable}
    lane.close()


async def test_work_that_beats_may_take_its_time():
    lane = Lane(StoreName("fast"), SHORT)
    pause = threading.Event()

    def slow(trip: Trip) -> str:
        for _ in range(10):
            pause.wait(0.02)
            trip.beat()
        return "done"

    assert await lane.run(slow) == "done"
    lane.close()


async def test_a_barrier_may_take_longer():
    lane = Lane(StoreName("fast"), SHORT)
    pause = threading.Event()

    def sync(trip: Trip) -> str:
        with trip.barrier():
            pause.wait(0.15)
        return "synced"

    assert await lane.run(sync) == "synced"
    lane.close()


async def test_cancelling_waits_until_the_thread_has_let_go(lane: Lane):
    started, ended = threading.Event(), threading.Event()
    pause = threading.Event()

    def copy(trip: Trip) -> None:
        started.set()
        try:
            while True:
                pause.wait(0.001)
                trip.beat()
        finally:
            ended.set()

    task = asyncio.create_task(lane.run(copy))
    await asyncio.to_thread(started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ended.is_set()
    assert await lane.run(lambda _: 7) == 7


async def test_probes_stop_starting_threads_when_many_hang(hanging):
    lane = Lane(StoreName("fast"), timedelta(milliseconds=5))
    before = threading.active_count()

    for _ in range(30):
        with pytest.raises(StoreUnavailable):
            await lane.run_probe(hanging)

    assert threading.active_count() - before <= 16
    lane.close()


def test_a_thread_in_a_dead_mount_does_not_hold_up_the_end_of_the_process():
    done = subprocess.run(
        [sys.executable, "-c", HANGS_AND_ENDS], capture_output=True, text=True, timeout=30, check=True
    )

    assert done.stdout == "let go\n"
