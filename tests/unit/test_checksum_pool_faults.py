"""Workers that are cancelled, killed or orphaned."""

import asyncio
import os
import select
import signal
import subprocess
import sys

import pytest

from librarian.checksum import Algorithm, measure_blocking
from librarian.checksum_pool import ChecksumPool
from librarian.checksum_worker import SMALL_BYTES
from librarian.errors import Draining, Unavailable

#: Seconds within which a process that was told to end has ended.
PATIENCE = 30


@pytest.fixture
async def pool():
    async with ChecksumPool(2) as pool:
        yield pool


@pytest.fixture
def endless(tmp_path):
    """A file that no test lives to see hashed: a hole of four tebibytes."""
    with (tmp_path / "endless").open("wb") as file:
        file.truncate(4 * 1024**4)
    return tmp_path / "endless"


@pytest.fixture
def large(tmp_path):
    (tmp_path / "large").write_bytes(os.urandom(SMALL_BYTES + 1))
    return tmp_path / "large"


@pytest.fixture
def book(tmp_path):
    """A book whose chunks keep both workers busy."""
    (tmp_path / "book").mkdir()
    for number in range(1500):
        (tmp_path / "book" / str(number)).write_bytes(b"%d" % number)
    return tmp_path / "book"


def wait_for_end(pid):
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    ended = poller.poll(PATIENCE * 1000)
    os.close(descriptor)
    assert ended, f"process {pid} goes on"


async def next_busy(pool, *, but=()):
    """The pid of a worker at a job, at the first moment that there is one."""
    async with asyncio.timeout(PATIENCE):
        while not (fresh := set(pool.busy_pids) - set(but)):
            await asyncio.sleep(0)
    return fresh.pop()


async def started(pool, path):
    """A running measurement whose worker has begun to read."""
    reading = asyncio.Event()
    task = asyncio.create_task(pool.measure(path, Algorithm.XXH3, on_progress=lambda _: reading.set()))
    async with asyncio.timeout(PATIENCE):
        await reading.wait()
    return task


async def test_cancelling_the_caller_ends_the_work_in_the_worker(pool, endless):
    task = await started(pool, endless)
    (pid,) = pool.busy_pids

    task.cancel()
    await asyncio.wait([task])

    wait_for_end(pid)
    assert task.cancelled()
    assert pool.worker_pids == ()


async def test_cancelling_many_ends_all_their_work(pool, endless):
    task = asyncio.create_task(pool.measure_many([endless, endless]))
    first = await next_busy(pool)
    second = await next_busy(pool, but=[first])

    task.cancel()
    await asyncio.wait([task])

    wait_for_end(first)
    wait_for_end(second)
    assert pool.busy_pids == ()


async def test_a_timeout_of_the_caller_leaves_the_pool_usable(pool, endless, large):
    task = await started(pool, endless)

    task.cancel()
    await asyncio.wait([task])

    assert await pool.measure(large, Algorithm.XXH3) == measure_blocking(large, Algorithm.XXH3)


async def test_cancelling_one_caller_leaves_the_others_alone(pool, endless, book):
    task = await started(pool, endless)
    other = asyncio.create_task(pool.measure(book, Algorithm.XXH3))

    task.cancel()

    assert await other == measure_blocking(book, Algorithm.XXH3)


async def test_a_chunk_whose_worker_is_killed_is_hashed_by_another(pool, large, caplog):
    task = asyncio.create_task(pool.measure(large, Algorithm.XXH3))
    pid = await next_busy(pool)

    os.kill(pid, signal.SIGKILL)

    assert await task == measure_blocking(large, Algorithm.XXH3)
    assert pid not in pool.worker_pids
    assert str(pid) in caplog.text


async def test_a_book_survives_a_killed_worker(pool, book):
    told = [0]
    task = asyncio.create_task(pool.measure(book, Algorithm.XXH3, on_progress=told.append))
    planner = await next_busy(pool)
    reader = await next_busy(pool, but=[planner])

    os.kill(reader, signal.SIGKILL)

    assert await task == measure_blocking(book, Algorithm.XXH3)
    assert told == sorted(told)


async def test_a_chunk_that_kills_two_workers_is_given_up(pool, large):
    task = asyncio.create_task(pool.measure(large, Algorithm.XXH3))
    first = await next_busy(pool)
    os.kill(first, signal.SIGKILL)
    os.kill(await next_busy(pool, but=[first]), signal.SIGKILL)

    with pytest.raises(Unavailable) as refusal:
        await task

    assert refusal.value.remedy


async def test_a_group_that_kills_two_workers_is_given_up_for_each_of_its_files(pool, large, tmp_path):
    (tmp_path / "small").write_bytes(b"small")
    task = asyncio.create_task(pool.measure_many([large, tmp_path / "small", large]))
    first = await next_busy(pool)
    os.kill(first, signal.SIGKILL)
    os.kill(await next_busy(pool, but=[first]), signal.SIGKILL)

    answers = await task

    assert isinstance(answers[0], Unavailable)
    assert answers[1] == measure_blocking(tmp_path / "small", Algorithm.XXH3)
    assert isinstance(answers[2], Unavailable)


async def test_progress_does_not_fall_when_a_worker_is_killed_midway(pool, endless):
    told = []
    reading = asyncio.Event()

    def tell(done):
        told.append(done)
        reading.set()

    task = asyncio.create_task(pool.measure(endless, Algorithm.XXH3, on_progress=tell))
    await reading.wait()
    reading.clear()
    os.kill(pool.busy_pids[0], signal.SIGKILL)
    await reading.wait()
    task.cancel()
    await asyncio.wait([task])

    assert told == sorted(told)


async def test_workers_that_died_while_idle_are_replaced(pool, book):
    await pool.measure(book, Algorithm.XXH3)
    before = pool.worker_pids
    for pid in before:
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)

    measured = await pool.measure(book, Algorithm.XXH3)

    assert len(before) == 2
    assert measured == measure_blocking(book, Algorithm.XXH3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_to_the_whole_group_does_not_end_the_workers(pool, large, number):
    await pool.measure(large, Algorithm.XXH3)
    (pid,) = pool.worker_pids
    os.kill(pid, number)

    await pool.measure(large, Algorithm.XXH3)

    assert pool.worker_pids == (pid,)


async def test_a_worker_that_cannot_start_is_an_answer(pool, large, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")

    with pytest.raises(Unavailable, match="Cannot start"):
        await pool.measure(large, Algorithm.XXH3)


async def test_closing_the_pool_ends_its_workers_and_tells_whoever_waits(endless):
    async with ChecksumPool(2) as pool:
        task = await started(pool, endless)
        (pid,) = pool.busy_pids

    wait_for_end(pid)
    with pytest.raises(Draining):
        await task


PARENT = """
import asyncio, pathlib, sys
from librarian.checksum import Algorithm
from librarian.checksum_pool import ChecksumPool

async def main():
    async with ChecksumPool(1) as pool:
        await pool.measure(pathlib.Path(sys.argv[1]), Algorithm.XXH3)
        print(*pool.worker_pids, flush=True)
        tell = lambda _: print("reading", flush=True)
        await pool.measure(pathlib.Path(sys.argv[2]), Algorithm.XXH3, on_progress=tell)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def orphaned_worker(idle, busy):
    """The pid of a worker whose server was killed, when the server's last word was that it reads *busy*."""
    command = [sys.executable, "-c", PARENT, str(idle), str(busy)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        parent.stdout.readline()
        parent.kill()
    return pid


def test_a_busy_worker_ends_with_a_server_that_is_killed(large, endless):
    wait_for_end(orphaned_worker(large, endless))


def test_an_idle_worker_ends_with_a_server_that_is_killed(large):
    wait_for_end(orphaned_worker(large, large))
