"""Where each drive stands, and what a rule still takes, as the server tells it."""

from datetime import timedelta

import pytest

from librarian import journeys, replication
from librarian.catalog.records import Tally
from librarian.names import RuleName
from librarian.policies import RulePolicy
from librarian.replication import Arrived
from librarian.timing import utc_now
from tests.carrying import CONTENTS, add_peer, lay, make_drive, seal
from tests.journeys import TB, a_drive

PATH = "/api/v1/status/drives"
CARRIED = RulePolicy(peer="nersc", stores=("D*",))


async def rule_of(site, name="carried", policy=CARRIED):
    async with site.catalog.begin() as tx:
        await replication.put_rule(tx, RuleName(name), policy=policy, who="ana")
        return await tx.rules.find(name)


async def outlook_of(site, *, due=0, arrived=0, age=timedelta(days=30)):
    """What the rule takes when so many bytes are due and came within a week."""
    rule = await rule_of(site)
    async with site.catalog.read() as tx:
        drives = await tx.drives.all()
    now = rule.created_at + age
    sums = (Tally(files=1, bytes=due), Tally(files=1, bytes=arrived))
    return journeys.outlook(rule, drives, due=sums[0], quarantined=Tally(files=0, bytes=0), arrived=sums[1], now=now)


@pytest.fixture
async def with_drive(site):
    """The site, with a drive of 4 TB, of which 1 TB is in use."""
    await add_peer(site)
    async with site.catalog.begin() as tx:
        await tx.drives.add(a_drive("D01"))
        await tx.tallies.add("store:D01", files=10, bytes=TB)
    return site


async def test_a_drive_is_told_with_what_is_on_it(live_server, tmp_path):
    await make_drive(live_server.site, tmp_path / "A07", is_folder=True)
    await lay(live_server.site, tmp_path / "A07")

    (drive,) = (await live_server.call("GET", PATH, user="reader")).json["drives"]

    assert (drive["name"], drive["state"], drive["is_plugged"], drive["problem"]) == ("A07", "loading", True, None)
    assert drive["held"] == {"files": len(CONTENTS), "bytes": 11 + 1003 + 1}
    assert (drive["to"], drive["carried"], drive["confirmed"]) == (None, None, None)


async def test_a_sealed_drive_waits_with_all_that_it_carries(live_server, tmp_path):
    await add_peer(live_server.site)
    await make_drive(live_server.site, tmp_path / "A07", is_folder=True)
    await lay(live_server.site, tmp_path / "A07")
    await seal(live_server.site)

    (drive,) = (await live_server.call("GET", PATH)).json["drives"]

    nothing, everything = {"files": 0, "bytes": 0}, {"files": 3, "bytes": 1015}
    assert (drive["state"], drive["to"], drive["problem"]) == ("sealed", "nersc", None)
    (listed,) = (await live_server.call("GET", "/api/v1/drives")).json["drives"]
    assert (listed["state"], listed["problem"], listed["free_bytes"]) == ("sealed", None, None)
    assert (drive["carried"], drive["waiting"]) == (everything, everything)
    assert (drive["confirmed"], drive["failed"]) == (nothing, nothing)


async def test_rules_that_load_no_drives_have_no_outlook(live_server):
    await add_peer(live_server.site)
    await rule_of(live_server.site)
    await rule_of(live_server.site, "sent", RulePolicy(peer="nersc"))
    await rule_of(live_server.site, "here", RulePolicy(stores=("fast",)))

    told = (await live_server.call("GET", PATH)).json

    assert [rule["rule"] for rule in told["rules"]] == ["carried"]


async def test_what_is_due_takes_drives_beyond_the_room_on_those_that_are_loaded(with_drive):
    told = await outlook_of(with_drive, due=8 * TB)

    assert (told.room_bytes, told.drive_bytes, told.drives_due) == (3 * TB, 4 * TB, 2)


async def test_what_fits_takes_no_more_drives(with_drive):
    told = await outlook_of(with_drive, due=3 * TB)

    assert (told.drives_due, told.full_in_seconds) == (0, None)
    assert (await outlook_of(with_drive, arrived=10**6)).full_in_seconds is None


async def test_what_arrives_fills_drives_week_by_week(with_drive):
    told = await outlook_of(with_drive, due=TB, arrived=14 * TB)

    assert told.drives_per_week == pytest.approx(14 / 4, rel=0.2)
    assert told.bytes_per_day == pytest.approx(2 * TB, rel=0.2)
    assert told.full_in_seconds == pytest.approx(86_400, rel=0.2)


async def test_the_rate_of_a_new_rule_is_that_of_a_day_at_least(with_drive):
    told = await outlook_of(with_drive, arrived=TB, age=timedelta(hours=1))

    assert told.bytes_per_day == TB


async def test_without_a_drive_nobody_knows_how_many_it_takes(site):
    await add_peer(site)

    told = await outlook_of(site, due=TB, arrived=TB)

    assert (told.drive_bytes, told.drives_due, told.drives_per_week) == (None, None, None)


async def test_new_files_count_as_arrived_for_the_rules_that_have_them_carried(site, tmp_path):
    await add_peer(site)
    carried = await rule_of(site)
    sent = await rule_of(site, "sent", RulePolicy(peer="nersc"))
    await lay(site, site.stores.lookup("fast").root, {"one": b"12345", "two": b"123"}, store="fast")
    async with site.catalog.begin() as tx:
        files = await tx.files.named(["one", "two"])
        await replication.files_arrived(tx, [arrived(file, is_new=name == "one") for name, file in files.items()])
        week = await tx.arrivals.of_week([carried.id, sent.id], at=utc_now())

    assert week == {carried.id: Tally(files=1, bytes=5), sent.id: Tally(files=0, bytes=0)}


def arrived(file, *, is_new: bool) -> Arrived:
    return Arrived(
        file_id=file.id,
        name=file.name,
        kind=file.kind,
        size=file.size,
        checksum=file.checksum,
        store="fast",
        peer_id=None,
        is_new=is_new,
    )
