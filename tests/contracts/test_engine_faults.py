"""What engines do about sources that cannot be read, and books that are strange but sound."""

import signal
from dataclasses import replace

import pytest

from librarian.transfers.base import Phase
from tests.contracts.roads import MIB, Road
from tests.contracts.test_engine_contract import road

__all__ = ["road"]

#: Small enough to be read at once, and large enough to be read in parts.
SIZES = [10, 3 * MIB]


@pytest.fixture
def bad_disk(mounts, road: Road, tmp_path):
    """The sources stand on a disk where whatever is called "unreadable" has a bad block."""
    mounts.fuse(tmp_path / "disk", road.sources)
    return road


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_on_a_bad_block_fails_alone(bad_disk, size):
    bad, good = bad_disk.has_file("unreadable", b"x" * size), bad_disk.has_file("good", b"y" * size)

    progress = await bad_disk.runs()

    assert progress.phase is Phase.SUCCEEDED
    assert set(progress.failed_items) == {bad.uuid}
    assert "sender" in progress.failed_items[bad.uuid]
    assert bad_disk.payload(good).read_bytes() == b"y" * size


@pytest.mark.parametrize("size", SIZES)
async def test_a_book_with_a_bad_block_fails_alone(bad_disk, size):
    bad = bad_disk.has_book("bad", {"a": b"a", "unreadable": b"x" * size, "z": b"z"})
    good = bad_disk.has_file("good", b"y" * size)

    progress = await bad_disk.runs()

    assert set(progress.failed_items) == {bad.uuid}
    assert bad_disk.payload(good).read_bytes() == b"y" * size


async def test_a_book_of_thousands_of_empty_directories_arrives(road):
    directories = tuple(f"{number:04}-{'x' * 60}" for number in range(2000))
    book = road.has_book("book", {"a": b"a"}, directories=directories)

    progress = await road.runs()

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})
    assert sorted(path.name for path in road.payload(book).iterdir()) == [*directories, "a"]


async def test_a_book_with_the_longest_names_arrives(road):
    deep = "/".join(['"' * 255] * 8)[:2040].rstrip("/")
    book = road.has_book("book", {deep: b"deep", "ü" * 127: b"wide"}, directories=("\\" * 255,))

    progress = await road.runs()

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})
    assert (road.payload(book) / deep).read_bytes() == b"deep"
    assert (road.payload(book) / ("\\" * 255)).is_dir()


async def test_sources_on_a_hung_disk_hold_up_no_other_transfer(mounts, road, tmp_path):
    disk = tmp_path / "hung"
    server = mounts.fuse(tmp_path / "disk", disk)
    hung = [replace(road.has_file(f"{number}", b"x"), source=disk / f"{number}") for number in range(12)]
    for item in hung:
        item.source.write_bytes(b"x")
    server.send_signal(signal.SIGSTOP)
    road.items = []
    for item in hung:
        await road.engine.submit(replace(road.job, items=(item,)), await road.engine.prepare())

    good = road.has_file("good", b"good")
    progress = await road.runs()

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})
    assert road.payload(good).read_bytes() == b"good"


@pytest.mark.parametrize("road", ["local", "rsync"], indirect=True)
async def test_a_full_disk_is_held_until_there_is_room(mounts, road):
    ballast = mounts.tmpfs(road.staging, "size=4m") / "ballast"
    ballast.write_bytes(b"x" * (3 * MIB))
    item = road.has_file("one", b"1" * (2 * MIB))

    handle = await road.starts()
    held = await road.until(handle, Phase.HELD)
    ballast.unlink()
    progress = await road.ends(handle)

    assert "Free space" in held.remedy
    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})
    assert road.payload(item).read_bytes() == b"1" * (2 * MIB)
