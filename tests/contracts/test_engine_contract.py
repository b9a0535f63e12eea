"""What every engine promises, whatever carries the bytes."""

import asyncio
import filecmp
import time
from dataclasses import replace

import pytest

from librarian.transfers.base import Phase
from tests.contracts.roads import KINDS, MIB, road_of


@pytest.fixture(params=KINDS)
async def road(request, tmp_path):
    async with road_of(request.param, tmp_path) as made:
        yield made


async def test_a_file_arrives_byte_for_byte(road):
    item = road.has_file("one", bytes(range(256)) * 20_000)

    progress = await road.runs()

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})
    assert progress.bytes_done == item.size
    assert filecmp.cmp(road.payload(item), item.source, shallow=False)


async def test_a_book_arrives_with_its_empty_members_and_directories(road):
    item = road.has_book("book", {"a": b"", "deep/er/b": b"b" * (2 * MIB)}, directories=("empty/inside",))

    progress = await road.runs()

    payload = road.payload(item)
    assert progress.phase is Phase.SUCCEEDED
    assert sorted(str(path.relative_to(payload)) for path in payload.rglob("*")) == [
        "a",
        "deep",
        "deep/er",
        "deep/er/b",
        "empty",
        "empty/inside",
    ]
    assert (payload / "deep/er/b").read_bytes() == b"b" * (2 * MIB)


async def test_an_empty_book_and_an_empty_file_arrive(road):
    book, file = road.has_book("book", {}), road.has_file("file", b"")

    progress = await road.runs()

    assert progress.phase is Phase.SUCCEEDED
    assert list(road.payload(book).iterdir()) == []
    assert road.payload(file).read_bytes() == b""


async def test_many_files_of_all_sizes_arrive_in_one_job(road):
    items = [road.has_file(f"{size}", b"%d" % (size % 10) * size) for size in (0, 1, 10_000, MIB, MIB + 1, 9 * MIB)]
    items += [road.has_file(f"small-{number}", b"%d" % number) for number in range(700)]

    progress = await road.runs()

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})
    assert all(filecmp.cmp(road.payload(item), item.source, shallow=False) for item in items)


async def test_a_missing_source_fails_alone(road):
    gone, stays = road.has_file("gone", b"gone"), road.has_file("stays", b"stays")
    gone.source.unlink()
    nowhere = road.has_nothing()

    progress = await road.runs()

    assert progress.phase is Phase.SUCCEEDED
    assert set(progress.failed_items) == {gone.uuid, nowhere.uuid}
    assert road.payload(stays).read_bytes() == b"stays"


async def test_what_has_arrived_before_is_completed_and_not_begun_anew(road):
    item = road.has_file("one", bytes(range(256)) * 4 * 4096)
    road.payload(item).write_bytes(item.source.read_bytes()[: MIB + 7])

    progress = await road.runs()

    assert progress.bytes_done == item.size
    assert road.port.received in (0, item.size - MIB - 7)
    assert filecmp.cmp(road.payload(item), item.source, shallow=False)


async def test_submitting_a_key_again_starts_nothing_twice(road):
    item = road.has_file("one", b"x" * MIB)
    key = await road.engine.prepare()

    first, second = await road.engine.submit(road.job, key), await road.engine.submit(road.job, key)
    progress = await road.ends(first)

    assert (first, progress.bytes_done) == (second, item.size)


async def test_a_handle_that_the_engine_does_not_know_is_lost(road):
    progress = await road.engine.inspect(["no-such-handle"])

    assert progress["no-such-handle"].phase is Phase.LOST


async def test_a_cancelled_transfer_is_lost_and_goes_on_under_the_same_key(road):
    item = road.has_file("one", b"x" * MIB)
    key = await road.engine.prepare()
    await road.engine.cancel(await road.engine.submit(road.job, key))

    lost = (await road.engine.inspect([key]))[key]
    progress = await road.ends(await road.engine.submit(road.job, key))

    assert (lost.phase, progress.phase) == (Phase.LOST, Phase.SUCCEEDED)
    assert road.payload(item).read_bytes() == b"x" * MIB


async def test_cancelling_what_is_unknown_does_nothing(road):
    await road.engine.cancel("no-such-handle")


async def test_a_staging_that_is_away_is_waited_for(road):
    item = road.has_file("one", b"one")
    aside = road.staging.rename(road.staging.with_name("away"))
    road.port.away = 1
    handle = await road.engine.submit(road.job, await road.engine.prepare())

    stalled = await until_stalled(road, handle)
    aside.rename(road.staging)
    progress = await road.ends(handle)

    assert (stalled.phase, progress.phase) == (Phase.ACTIVE, Phase.SUCCEEDED)
    assert road.payload(item).read_bytes() == b"one"


@pytest.mark.parametrize("road", ["http", "local", "rsync"], indirect=True)
async def test_no_more_bytes_go_in_a_second_than_the_limit_says(road):
    files = [road.has_file(f"{number}", b"x" * (256 * 1024)) for number in range(4)]
    job = replace(road.job, rate_limit=2 * MIB)
    began = time.monotonic()

    progress = await road.ends(await road.engine.submit(job, "key"))

    # What may go at once after a rest is a quarter of a second's worth, and rsync counts in larger steps.
    assert time.monotonic() - began > 0.2
    assert (progress.phase, progress.bytes_done) == (Phase.SUCCEEDED, MIB)
    assert all(road.payload(file).read_bytes() == file.source.read_bytes() for file in files)


@pytest.mark.parametrize("road", ["http", "local", "rsync"], indirect=True)
async def test_another_limit_holds_at_once_for_what_is_under_way(road):
    item = road.has_file("one", b"x" * (4 * MIB))
    handle = await road.engine.submit(replace(road.job, rate_limit=50_000), "key")
    while not road.payload(item).exists():
        await asyncio.sleep(0.01)

    road.engine.keep_to(road.job.peer, None)
    progress = await road.ends(handle)

    assert (progress.phase, progress.bytes_done) == (Phase.SUCCEEDED, 4 * MIB)


async def until_stalled(road, handle):
    async with asyncio.timeout(10):
        while not (progress := (await road.engine.inspect([handle]))[handle]).reason:
            await asyncio.sleep(0.005)
    return progress
