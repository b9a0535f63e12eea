"""What is read of tasks that have ended: page after page, so many at a time, each once."""

import pytest

from librarian.transfers.base import Phase
from librarian.transfers.globus import MOST_PAGES
from tests.unit.globus_roads import busy, folders

__all__ = ["busy", "folders"]


@pytest.fixture
async def long_lists(busy):
    """A road with more files than pages are read at a time, over a Globus that tells of one file on each page."""
    road, globus = busy
    globus.longest_page = 1
    road.items.clear()
    for number in range(MOST_PAGES + 5):
        road.has_file(f"file-{number:02}", b"x")
    return road, globus


async def test_a_long_list_of_what_has_arrived_is_read_in_portions(long_lists):
    road, globus = long_lists
    globus.cue("fails", code="INTERNAL_ERROR", match="/file-00")
    handle = await road.starts()
    reading = await until_reading(road, handle)
    read = globus.requests["successful_transfers"]

    progress = await road.ends(handle)

    assert (reading.phase, read) == (Phase.ACTIVE, MOST_PAGES)
    assert globus.requests["successful_transfers"] == len(road.items) - 1
    assert set(progress.failed_items) == {road.items[0].uuid}


async def test_a_long_list_of_what_was_left_out_is_read_in_portions(long_lists):
    road, globus = long_lists
    for item in road.items:
        item.source.unlink()
    handle = await road.starts()
    reading = await until_reading(road, handle)
    read = globus.requests["skipped_errors"]

    progress = await road.ends(handle)

    assert (reading.phase, read) == (Phase.ACTIVE, MOST_PAGES)
    assert globus.requests["skipped_errors"] == len(road.items)
    assert set(progress.failed_items) == {item.uuid for item in road.items}


@pytest.mark.parametrize("cue", ["endpoint_error", "lost_reply", "unavailable", "nonsense"])
async def test_a_page_that_cannot_be_read_is_read_later(long_lists, cue):
    road, globus = long_lists
    globus.cue("fails", code="INTERNAL_ERROR", match="/file-00")
    handle = await road.starts()
    await until_reading(road, handle)
    globus.cue(cue, on="successful_transfers", retry_after=0)

    unknown = await road.says(handle)
    progress = await road.ends(handle)

    assert unknown.phase is Phase.UNKNOWN
    assert set(progress.failed_items) == {road.items[0].uuid}


async def test_members_of_books_are_not_kept_while_a_list_is_read(busy):
    road, globus = busy
    globus.longest_page = 1
    book = road.has_book("book", {f"member-{number:02}": b"x" for number in range(MOST_PAGES)})
    globus.cue("fails", code="INTERNAL_ERROR", match="/one")
    handle = await road.starts()
    await until_reading(road, handle)
    (haul,) = road.engine._orders[handle].hauls
    kept = set(haul.reading.delivered)

    progress = await road.ends(handle)

    assert not any("member" in path for path in kept)
    assert set(progress.failed_items) == {road.items[0].uuid, book.uuid}


async def until_reading(road, handle):
    progress = await road.says(handle)
    while "is being read" not in progress.reason:
        progress = await road.says(handle)
    return progress
