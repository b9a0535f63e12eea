"""How the local engine copies: without bytes passing through the process where the system can do it."""

import asyncio
import errno
import fcntl
import os

import pytest

from librarian.transfers.base import Phase
from librarian.transfers.local import FICLONE
from tests.contracts.roads import MIB, road_of

CONTENT = bytes(range(256)) * 4096 * 3


@pytest.fixture
async def road(tmp_path):
    async with road_of("local", tmp_path) as made:
        yield made


@pytest.fixture
def clones(monkeypatch):
    """Have the file system share blocks, as XFS and Btrfs do; the requests that it got."""
    asked = []

    def share(target, request, source):
        asked.append(request)
        os.pwrite(target, os.pread(source, 2**30, 0), 0)

    monkeypatch.setattr(fcntl, "ioctl", share)
    return asked


def refuse(*_):
    raise OSError(errno.EOPNOTSUPP, "not supported")


def never(*_):
    raise AssertionError("bytes passed through the process")


async def test_where_blocks_can_be_shared_nothing_is_copied(road, clones, monkeypatch):
    item = road.has_file("one", CONTENT)
    monkeypatch.setattr(os, "copy_file_range", never)

    progress = await road.runs()

    assert (clones, progress.bytes_done) == ([FICLONE], len(CONTENT))
    assert road.payload(item).read_bytes() == CONTENT


async def test_what_has_arrived_in_part_is_not_cloned_but_completed(road, clones):
    item = road.has_file("one", CONTENT)
    road.payload(item).write_bytes(CONTENT[:MIB])

    await road.runs()

    assert clones == []
    assert road.payload(item).read_bytes() == CONTENT


async def test_where_blocks_cannot_be_shared_the_kernel_copies(road, monkeypatch):
    item = road.has_file("one", CONTENT)
    monkeypatch.setattr(fcntl, "ioctl", refuse)
    monkeypatch.setattr(os, "pread", never)

    progress = await road.runs()

    assert progress.phase is Phase.SUCCEEDED
    assert road.payload(item).read_bytes() == CONTENT


async def test_where_the_kernel_cannot_copy_either_the_bytes_are_read_and_written(road, monkeypatch):
    item = road.has_file("one", CONTENT)
    monkeypatch.setattr(fcntl, "ioctl", refuse)
    monkeypatch.setattr(os, "copy_file_range", refuse)

    await road.runs()

    assert road.payload(item).read_bytes() == CONTENT


async def test_a_copy_that_was_stopped_does_not_go_on_in_its_thread(road):
    item = road.has_file("one", CONTENT)
    handle = await road.engine.submit(road.job, "key")
    road.engine.keep_to(road.job.peer, 1000)
    while not road.payload(item).exists():
        await asyncio.sleep(0.01)

    await road.engine.cancel(handle)
    size = road.payload(item).stat().st_size
    progress = await road.ends(await road.engine.submit(road.job, "key"))

    assert (size < len(CONTENT), progress.bytes_done) == (True, len(CONTENT))
