"""What the Globus engine stops, and what it may not start: tasks nobody heard of, and accounts that have enough."""

import asyncio
from datetime import timedelta

import pytest

from librarian.errors import EngineFull, PeerUnavailable
from librarian.transfers.base import Phase
from tests.contracts.roads import globus_road
from tests.unit.globus_roads import another, busy, folders

__all__ = ["another", "busy", "folders"]


async def test_cancelling_stops_the_task_at_globus(busy):
    road, globus = busy
    globus.cue("silent")
    handle = await road.starts()

    await road.engine.cancel(handle)

    (task,) = globus.tasks.values()
    assert (task.status, (await road.says(handle)).phase) == ("FAILED", Phase.LOST)


async def test_what_was_submitted_before_a_restart_can_be_cancelled(busy, another):
    road, globus = busy
    globus.cue("silent")
    handle = await road.starts()

    await another.cancel(handle)

    assert [task.status for task in globus.tasks.values()] == ["FAILED"]


async def test_a_cancel_that_does_not_get_through_is_told_and_can_be_repeated(busy):
    road, globus = busy
    globus.cue("silent")
    handle = await road.starts()
    globus.cue("endpoint_error", on="cancel")
    with pytest.raises(PeerUnavailable):
        await road.engine.cancel(handle)

    await road.engine.cancel(handle)

    assert [task.status for task in globus.tasks.values()] == ["FAILED"]


async def test_a_task_whose_acceptance_was_never_heard_is_stopped(busy):
    road, globus = busy
    globus.cue("silent")
    key = await road.engine.prepare()
    globus.cue("lost_reply", on="submit")
    with pytest.raises(PeerUnavailable):
        await road.engine.submit(road.job, key)

    await road.engine.cancel(key)

    assert [task.status for task in globus.tasks.values()] == ["FAILED"]


async def test_a_task_whose_acceptance_was_never_heard_is_stopped_after_a_restart(busy, another):
    road, globus = busy
    globus.cue("silent")
    key = await road.engine.prepare()
    globus.cue("lost_reply", on="submit")
    with pytest.raises(PeerUnavailable):
        await road.engine.submit(road.job, key)

    await another.cancel(key)

    assert [task.status for task in globus.tasks.values()] == ["FAILED"]


async def test_a_task_that_follows_another_and_was_never_heard_of_is_stopped(busy):
    road, globus = busy
    globus.cue("item", code="INVALID_PATH_NAME", match="/one")
    handle = await road.starts()
    globus.cue("silent")
    globus.cue("lost_reply", on="submit")
    lost = await road.until(handle, Phase.UNKNOWN)

    await road.engine.cancel(handle)

    assert "does not answer" in lost.reason
    assert [task.status for task in globus.tasks.values()] == ["FAILED", "FAILED"]


async def test_a_submission_that_may_still_be_on_its_way_is_waited_for_before_it_counts_as_stopped(busy):
    road, globus = busy
    key = await road.engine.prepare()
    globus.cue("lost_request", on="submit")
    with pytest.raises(PeerUnavailable):
        await road.engine.submit(road.job, key)

    with pytest.raises(PeerUnavailable, match="may yet start"):
        await road.engine.cancel(key)


async def test_a_submission_that_never_came_counts_as_stopped_in_the_end(folders):
    async with globus_road(*folders, asyncio.Event(), settling=timedelta(0)) as (road, globus):
        road.has_file("one", b"one")
        key = await road.engine.prepare()
        globus.cue("lost_request", on="submit")
        with pytest.raises(PeerUnavailable):
            await road.engine.submit(road.job, key)

        await road.engine.cancel(key)

        assert globus.tasks == {}


async def test_an_account_that_another_has_filled_is_full_and_not_in_trouble(busy, another):
    road, globus = busy
    globus.most_pending = 1
    globus.cue("silent")
    await road.starts()
    road.items.clear()
    road.has_file("three", b"three")

    with pytest.raises(EngineFull) as refusal:
        await another.submit(road.job, await another.prepare())

    assert "as many tasks of this account as it takes" in refusal.value.message
    assert len(globus.tasks) == 1


async def test_an_account_that_is_full_is_left_alone_for_a_while(busy, another):
    road, globus = busy
    globus.most_pending = 0
    key = await another.prepare()
    with pytest.raises(EngineFull):
        await another.submit(road.job, key)

    with pytest.raises(EngineFull):
        await another.submit(road.job, key)

    assert globus.requests["submit"] == 1
