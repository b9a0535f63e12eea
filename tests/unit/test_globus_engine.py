"""What the Globus engine asks of Globus, and what it makes of how tasks end."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from librarian.errors import Forbidden, PeerUnavailable
from librarian.transfers.base import Phase
from tests.contracts.roads import make_globus_engine
from tests.unit.globus_roads import busy, folders

__all__ = ["busy", "folders"]


# Submitting.


async def test_a_submission_says_all_that_makes_it_safe(busy):
    road, globus = busy
    handle = await road.starts()
    await road.ends(handle)

    (task,) = globus.tasks.values()

    wanted = {
        "label": f"chajnantor:{handle}",
        "submission_id": handle,
        "sync_level": 3,
        "verify_checksum": True,
        "preserve_timestamp": True,
        "skip_source_errors": True,
        "fail_on_quota_errors": True,
        "notify_on_succeeded": False,
        "notify_on_failed": False,
        "notify_on_inactive": False,
    }
    assert {key: task.request[key] for key in wanted} == wanted
    assert task.deadline > datetime.now(UTC)


@pytest.mark.parametrize("request_name", ["submission_id", "submit"])
@pytest.mark.parametrize("cue", ["throttled", "unavailable", "endpoint_error", "nonsense", "lost_reply"])
async def test_trouble_while_submitting_means_not_started_as_far_as_we_know(busy, cue, request_name):
    road, globus = busy
    globus.cue(cue, on=request_name, retry_after=0)

    with pytest.raises(PeerUnavailable):
        await road.starts()


async def test_a_submission_whose_answer_was_lost_gives_the_same_task(busy):
    road, globus = busy
    key = await road.engine.prepare()
    globus.cue("lost_reply", on="submit")
    with pytest.raises(PeerUnavailable):
        await road.engine.submit(road.job, key)

    progress = await road.ends(await road.engine.submit(road.job, key))

    assert (progress.phase, len(globus.tasks)) == (Phase.SUCCEEDED, 1)


async def test_a_task_with_the_same_paths_is_found_by_its_label(busy, folders):
    road, globus = busy
    globus.cue("silent")
    key = await road.starts()
    globus.submissions[key] = None
    (collection,) = [name for name, each in globus.collections.items() if each.root == folders[0]]
    again = make_globus_engine(globus, folders[0], collection)

    handle = await again.submit(road.job, key)
    globus.release()
    progress = await road.ends(handle)

    await again.close()
    assert (progress.phase, len(globus.tasks)) == (Phase.SUCCEEDED, 1)


async def test_a_task_that_followed_another_without_its_bad_items_is_found_by_its_label(busy, folders):
    road, globus = busy
    globus.cue("silent")
    key = await road.starts()
    (first,) = globus.tasks.values()
    first.cancel()
    globus.cue("silent")
    (collection,) = [name for name, each in globus.collections.items() if each.root == folders[0]]
    before, again = (make_globus_engine(globus, folders[0], collection) for _ in range(2))
    await before.submit(replace(road.job, items=tuple(road.items[1:])), key)
    await before.close()

    await again.submit(road.job, key)

    await again.close()
    assert len(globus.tasks) == 2


async def test_the_same_paths_in_a_strange_task_are_waited_for(busy):
    road, globus = busy
    globus.cue("silent")
    await road.starts()

    with pytest.raises(PeerUnavailable, match="identical paths"):
        await road.engine.submit(road.job, await road.engine.prepare())


async def test_a_rest_that_globus_asks_for_is_kept(busy):
    road, globus = busy
    globus.cue("throttled", retry_after=3600)
    with pytest.raises(PeerUnavailable):
        await road.engine.prepare()

    with pytest.raises(PeerUnavailable, match="left alone"):
        await road.engine.prepare()

    assert globus.requests["submission_id"] == 1


async def test_what_globus_does_not_permit_is_told_with_a_remedy(busy):
    road, globus = busy
    globus.cue("forbidden", on="submit")

    with pytest.raises(Forbidden) as refusal:
        await road.starts()

    assert refusal.value.remedy


# Asking.


async def test_many_transfers_are_one_question(busy):
    road, globus = busy
    handles = []
    for number in range(10):
        globus.cue("silent")
        road.items.clear()
        road.has_file(f"more-{number}", b"x")
        handles.append(await road.starts())

    before = globus.requests["task_list"]
    progress = await road.engine.inspect(handles)

    assert globus.requests["task_list"] - before == 1
    assert {each.phase for each in progress.values()} == {Phase.ACTIVE}


@pytest.mark.parametrize("cue", ["throttled", "unavailable", "endpoint_error", "nonsense", "lost_reply", "forbidden"])
async def test_unknown_is_not_failed(busy, cue):
    road, globus = busy
    handle = await road.starts()
    globus.cue(cue, on="task_list", retry_after=0)

    unknown = await road.says(handle)
    known = await road.ends(handle)

    assert (unknown.phase, known.phase) == (Phase.UNKNOWN, Phase.SUCCEEDED)
    assert unknown.reason


async def test_a_globus_that_is_away_is_unknown(busy):
    road, globus = busy
    handle = await road.starts()
    await globus.stop()

    progress = await road.says(handle)

    assert (progress.phase, progress.remedy) == (Phase.UNKNOWN, "")


async def test_a_task_that_globus_has_forgotten_is_lost_and_begins_anew(busy):
    road, globus = busy
    globus.cue("gone")
    key = await road.starts()
    await road.until(key, Phase.LOST)

    progress = await road.ends(await road.engine.submit(road.job, key))

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})


# Ends.


async def test_an_item_that_cannot_be_moved_fails_alone(busy):
    road, globus = busy
    globus.cue("item", code="INVALID_PATH_NAME", match="/one")

    progress = await road.runs()

    assert (progress.phase, set(progress.failed_items)) == (Phase.SUCCEEDED, {road.items[0].uuid})
    assert road.payload(road.items[1]).read_bytes() == b"two" * 1000
    assert progress.suspects == frozenset()


async def test_a_stop_that_does_not_get_through_is_made_good(busy):
    road, globus = busy
    globus.cue("item", code="INVALID_PATH_NAME", match="/one")
    globus.cue("endpoint_error", on="cancel")

    progress = await road.runs()

    assert (progress.phase, set(progress.failed_items)) == (Phase.SUCCEEDED, {road.items[0].uuid})


async def test_a_source_that_changed_is_suspect(busy):
    road, globus = busy
    globus.cue("item", code="FILE_SIZE_CHANGED", match="/one")

    progress = await road.runs()

    assert set(progress.failed_items) == progress.suspects == {road.items[0].uuid}


async def test_a_batch_of_bad_items_ends(busy):
    road, globus = busy
    globus.cue("item", code="INVALID_PATH_NAME")

    progress = await road.runs()

    assert set(progress.failed_items) == {item.uuid for item in road.items}


@pytest.mark.parametrize("code", ["CANCELED", "INTERNAL_ERROR", "SOMETHING_NEW"])
async def test_of_a_task_that_failed_what_has_arrived_is_kept(busy, code):
    road, globus = busy
    globus.cue("fails", code=code, match="/one")

    progress = await road.runs()

    assert (progress.phase, set(progress.failed_items)) == (Phase.SUCCEEDED, {road.items[0].uuid})
    assert code in progress.failed_items[road.items[0].uuid]
    assert progress.given_up == set(progress.failed_items)


async def test_a_task_that_failed_with_nothing_done_has_failed(busy):
    road, globus = busy
    globus.cue("fails", code="INTERNAL_ERROR")

    progress = await road.runs()

    assert progress.phase is Phase.FAILED
    assert "INTERNAL_ERROR" in progress.reason
    assert progress.given_up == set(progress.failed_items)


async def test_a_task_whose_time_is_up_is_followed_by_another(busy):
    road, globus = busy
    globus.cue("fails", code="EXPIRED", match="/one")

    progress = await road.runs()

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})
    assert len(globus.tasks) == 2


async def test_a_history_that_was_deleted_does_not_change_how_it_ended(busy):
    road, globus = busy
    globus.cue("forgotten")

    progress = await road.runs()

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})


async def test_a_failure_whose_history_was_deleted_fails_every_item(busy):
    road, globus = busy
    globus.cue("forgotten")
    globus.cue("fails", code="INTERNAL_ERROR", match="/one")

    progress = await road.runs()

    assert progress.phase is Phase.FAILED
    assert set(progress.failed_items) == {item.uuid for item in road.items}
