"""What the http engine does about connections that drop and receivers that refuse."""

import asyncio
from datetime import timedelta

import pytest

from librarian.transfers.base import Phase
from librarian.transfers.http import HttpEngine
from tests.contracts.roads import MIB, Road
from tests.fakes.folder_port import FolderPort


@pytest.fixture
async def road(tmp_path):
    sources, staging = tmp_path / "sources", tmp_path / "staging"
    sources.mkdir()
    staging.mkdir()
    port, changed = FolderPort(staging), asyncio.Event()
    engine = HttpEngine(port, on_change=changed.set, longest_pause=timedelta(milliseconds=50))
    yield Road(engine, port, sources, staging, changed)
    await engine.close()


async def test_a_dropped_connection_resumes_in_the_middle_of_a_member(road):
    content = bytes(range(256)) * 4 * 8192
    item = road.has_book("book", {"large": content})
    road.port.drops = [3 * MIB + 11]

    progress = await road.runs()

    assert progress.phase is Phase.SUCCEEDED
    assert (road.payload(item) / "large").read_bytes() == content
    assert road.port.received < len(content) + MIB


async def test_a_link_that_drops_again_and_again_still_gets_everything_across(road):
    items = [road.has_file(f"{number}", b"%d" % number * MIB) for number in range(8)]
    road.port.drops = [MIB, 100, 2 * MIB, 0, MIB // 2]

    progress = await road.runs()

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})
    assert all(road.payload(item).read_bytes() == item.source.read_bytes() for item in items)


async def test_an_item_that_is_refused_for_good_fails_alone(road):
    bad, good = road.has_file("bad", b"bad"), road.has_file("good", b"good")
    road.port.refuses[bad.token] = "wrong_state"

    progress = await road.runs()

    assert set(progress.failed_items) == {bad.uuid}
    assert road.payload(good).read_bytes() == b"good"


async def test_a_receiver_without_room_is_asked_again_until_it_has_some(road):
    item = road.has_file("one", b"one")
    road.port.refuses[item.token] = "no_room"
    handle = await road.engine.submit(road.job, await road.engine.prepare())

    while road.port.streams < 2:
        await asyncio.sleep(0.005)
    road.port.refuses.clear()
    progress = await road.ends(handle)

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})


async def test_an_item_whose_token_the_receiver_forgot_fails_and_the_others_arrive(road):
    lost, good = road.has_file("lost", b"lost"), road.has_file("good", b"good")
    road.port.forgotten.add(lost.token)

    progress = await road.runs()

    assert set(progress.failed_items) == {lost.uuid}
    assert road.payload(good).read_bytes() == b"good"


async def test_small_files_share_requests(road):
    for number in range(1000):
        road.has_file(f"{number}", b"x" * 1000)

    await road.runs()

    assert road.port.streams <= 3


async def test_a_source_that_is_shorter_than_promised_fails_alone(road):
    short, good = road.has_file("short", b"x" * (3 * MIB)), road.has_file("good", b"y" * (3 * MIB))
    short.source.write_bytes(b"x" * (2 * MIB))

    progress = await road.runs()

    assert set(progress.failed_items) == {short.uuid}
    assert road.payload(good).read_bytes() == b"y" * (3 * MIB)
