"""What a site learns by asking, while the notice that would tell it is late."""

import pytest

from tests.model.engine import Luck
from tests.model.world import ROUND, Plan, World, make_template

PAIR = Plan(("a", "b"), (("a", "b"),))


@pytest.fixture
async def world(sqlite_url, tmp_path):
    world = World(PAIR, await make_template(PAIR, tmp_path / "catalog.sqlite", tmp_path / "template"))
    await world.open()
    yield world
    await world.close()


async def test_what_has_no_source_any_more_is_not_taken_up_again_and_again(world):
    sender, receiver = world.places.values()
    sender.engine.luck.append(Luck.FAILS_ONE)
    await world.upload("a", "name", b"truth")
    for task, lane in (("ingest", ""), ("send", "b"), ("submit", "b"), ("submit", "b")):
        await sender.work(task, lane)
    await sender.work("poll", "")
    await world.damage(0, spoils=False)
    await sender.work("reread", "")
    world.move_clock(ROUND)
    await sender.work("send", "b")

    await sender.work("reconcile", "b")

    (due,) = sender.ledger().dues
    assert due["state"] == "blocked"
    assert receiver.ledger().ask("SELECT state FROM incoming_transfers") == [{"state": "initiated"}]


async def test_what_failed_there_counts_with_its_reason_although_the_notice_is_late(world):
    sender, receiver = world.places.values()
    sender.engine.luck.append(Luck.SPOILS)
    await world.upload("a", "name", b"truth")
    for task, lane in (("ingest", ""), ("send", "b"), ("submit", "b"), ("submit", "b")):
        await sender.work(task, lane)
    world.move_clock(ROUND)
    for task, lane in (("poll", ""), ("deliver", "b"), ("deliver", "b")):
        await sender.work(task, lane)
    await receiver.work("ingest", "")
    world.move_clock(ROUND)

    await sender.work("reconcile", "b")

    (due,) = sender.ledger().ask("SELECT state, code, failures FROM copies_due")
    assert due == {"state": "due", "code": "checksum_mismatch", "failures": 1}
