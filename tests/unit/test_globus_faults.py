"""What the Globus engine says and does while a task is in trouble."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from librarian.transfers.base import Phase
from tests.contracts.roads import globus_road
from tests.unit.globus_roads import another, busy, folders

__all__ = ["another", "busy", "folders"]


async def test_faults_are_noise_and_told_while_nothing_moves(busy):
    road, globus = busy
    globus.cue("faults", code="CONNECTION_RESET", times=3)
    globus.cue("silent")
    handle = await road.starts()

    stalled = await until_told(road, handle)
    globus.release()
    progress = await road.ends(handle)

    assert (stalled.phase, progress.phase) == (Phase.ACTIVE, Phase.SUCCEEDED)
    assert "CONNECTION_RESET" in stalled.reason


async def test_a_pause_is_held_with_what_the_administrator_says(busy):
    road, globus = busy
    globus.cue("paused")
    handle = await road.starts()

    held = await road.until(handle, Phase.HELD)
    globus.release()
    progress = await road.ends(handle)

    assert progress.phase is Phase.SUCCEEDED
    assert "maintenance until Monday" in held.reason
    assert "administrator" in held.remedy


async def test_missing_credentials_are_held_until_somebody_logs_in(busy):
    road, globus = busy
    globus.cue("inactive")
    handle = await road.starts()

    held = await road.until(handle, Phase.HELD)
    globus.release()
    progress = await road.ends(handle)

    assert progress.phase is Phase.SUCCEEDED
    assert "https://app.globus.org/activity/" in held.remedy


async def test_a_receiver_that_may_not_be_written_into_is_held(busy):
    road, globus = busy
    globus.cue("item", code="PERMISSION_DENIED", match="/payload")
    handle = await road.starts()

    held = await road.until(handle, Phase.HELD)
    (task,) = globus.tasks.values()
    task.cues.clear()
    progress = await road.ends(handle)

    assert (progress.phase, progress.failed_items, len(globus.tasks)) == (Phase.SUCCEEDED, {}, 1)
    assert "write into the receiver" in held.remedy


async def test_a_task_that_ended_since_it_might_not_write_is_held_and_tried_again(busy):
    road, globus = busy
    globus.cue("item", code="PERMISSION_DENIED", match="/payload")
    handle = await road.starts()
    await road.until(handle, Phase.HELD)
    (task,) = globus.tasks.values()
    task.fail("PERMISSION_DENIED")

    held = await road.until(handle, Phase.HELD)
    progress = await road.ends(handle)

    assert "gave it up" in held.reason
    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})


async def test_a_full_destination_is_held_and_goes_on_by_itself(busy):
    road, globus = busy
    globus.cue("full")
    handle = await road.starts()

    held = await road.until(handle, Phase.HELD)
    globus.release()
    progress = await road.ends(handle)

    assert (progress.phase, len(globus.tasks)) == (Phase.SUCCEEDED, 1)
    assert "NO_SPACE_LEFT" in held.reason
    assert "room" in held.remedy


async def test_a_task_that_ended_for_want_of_quota_is_held_and_tried_again(busy):
    road, globus = busy
    globus.cue("fails", code="QUOTA_EXCEEDED")
    handle = await road.starts()

    held = await road.until(handle, Phase.HELD)
    progress = await road.ends(handle)

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})
    assert "QUOTA_EXCEEDED" in held.reason
    assert len({task.request["label"] for task in globus.tasks.values()}) == 1


async def test_silence_is_held_and_ends_when_something_moves(folders):
    async with globus_road(*folders, asyncio.Event(), patience=timedelta(0)) as (road, globus):
        road.has_file("one", b"one")
        globus.cue("silent")
        handle = await road.starts()

        held = await road.until(handle, Phase.HELD)
        globus.release()
        progress = await road.ends(handle)

    assert progress.phase is Phase.SUCCEEDED
    assert "nothing got done" in held.reason


async def test_a_task_that_was_silent_before_a_restart_is_held_at_once(busy, another):
    road, globus = busy
    globus.cue("silent")
    key = await road.starts()
    known = await road.says(key)
    long_ago = datetime.now(UTC) - timedelta(hours=7)

    await another.submit(replace(road.job, silent_since=long_ago), key)
    held = (await another.inspect([key]))[key]

    assert (known.phase, datetime.now(UTC) - known.silent_since < timedelta(minutes=1)) == (Phase.ACTIVE, True)
    assert (held.phase, held.silent_since) == (Phase.HELD, long_ago)
    assert "nothing got done" in held.reason


async def test_a_task_that_got_something_done_while_we_were_away_is_not_silent(busy, another):
    road, globus = busy
    globus.cue("silent")
    key = await road.starts()
    (task,) = globus.tasks.values()
    task.bytes_moved = 1

    await another.submit(replace(road.job, silent_since=datetime.now(UTC) - timedelta(hours=7)), key)

    assert (await another.inspect([key]))[key].phase is Phase.ACTIVE


async def test_a_task_that_gets_on_gets_more_time(busy):
    road, globus = busy
    globus.cue("silent")
    handle = await road.starts()
    (task,) = globus.tasks.values()
    task.deadline = datetime.now(UTC) + timedelta(minutes=5)

    await road.says(handle)
    before = task.deadline
    task.bytes_moved = 1
    await road.says(handle)

    assert before < datetime.now(UTC) + timedelta(hours=1) < task.deadline


@pytest.mark.parametrize("cue", ["paused", "inactive"])
async def test_a_task_that_waits_for_a_person_does_not_expire(busy, cue):
    road, globus = busy
    globus.cue(cue)
    handle = await road.starts()
    (task,) = globus.tasks.values()
    task.deadline = datetime.now(UTC) + timedelta(minutes=5)

    await road.until(handle, Phase.HELD)

    assert task.deadline > datetime.now(UTC) + timedelta(hours=1)


async def test_a_task_that_waits_for_its_turn_does_not_expire(busy):
    road, globus = busy
    for number in range(3):
        globus.cue("silent")
        road.items.clear()
        road.has_file(f"before-{number}", b"x")
        await road.starts()
    road.items.clear()
    road.has_file("last", b"x")
    handle = await road.starts()
    task = list(globus.tasks.values())[-1]
    task.deadline = datetime.now(UTC) + timedelta(minutes=5)

    progress = await road.says(handle)

    assert "queued" in progress.reason
    assert task.deadline > datetime.now(UTC) + timedelta(hours=1)


async def test_a_pause_is_told_even_of_a_task_that_was_held_before(folders):
    async with globus_road(*folders, asyncio.Event(), patience=timedelta(0)) as (road, globus):
        road.has_file("one", b"one")
        globus.cue("silent")
        handle = await road.starts()
        await road.until(handle, Phase.HELD)
        (task,) = globus.tasks.values()
        task.is_paused = True

        progress = await road.says(handle)

    assert "maintenance until Monday" in progress.reason


async def until_told(road, handle):
    async with asyncio.timeout(5):
        while not (progress := await road.says(handle)).reason.startswith("CONNECTION"):
            await asyncio.sleep(0.01)
    return progress
