"""The site says who it is, and how it is."""

import uuid

import pytest

from librarian.settings import CollectionSettings
from librarian.states import Role
from tests.site_fixtures import create_account, opened_site, served


async def test_the_site_says_who_it_is_and_who_you_are(live_server):
    reply = await live_server.call("GET", "/api/v1/site", user="reader")

    assert reply.status == 200
    assert reply.json["name"] == "chajnantor"
    assert reply.json["protocol"] == 1
    assert (reply.json["account"], reply.json["roles"]) == ("reader", ["reader"])
    assert {point["engine"] for point in reply.json["entry_points"]} == {"http", "local"}


async def test_a_peer_that_only_receives_learns_nothing_about_our_staging(live_server):
    reply = await live_server.call("GET", "/api/v1/site", user="callback")

    assert reply.json["entry_points"] == []
    assert str(live_server.site.stores.all()[0].staging) not in reply.raw.decode()


async def test_asking_for_the_site_again_costs_no_statement(live_server):
    await live_server.call("GET", "/api/v1/site")
    before = live_server.site.catalog.statements

    await live_server.call("GET", "/api/v1/site")

    assert live_server.site.catalog.statements == before


async def test_healthz_needs_nobody(live_server):
    reply = await live_server.call("GET", "/healthz", user=None)

    assert (reply.status, reply.json) == (200, {"status": "ok"})


async def test_readyz_needs_nobody_but_the_database(live_server):
    reply = await live_server.call("GET", "/readyz", user=None)

    assert (reply.status, reply.json) == (200, {"status": "ready"})


async def test_a_draining_server_is_alive_but_not_ready_and_takes_no_work(live_server):
    live_server.site.health.drain()

    alive = await live_server.call("GET", "/healthz", user=None)
    ready = await live_server.call("GET", "/readyz", user=None)
    work = await live_server.call("GET", "/api/v1/site")

    assert (alive.status, ready.status, work.status) == (200, 503, 503)
    assert work.json["code"] == "draining"
    assert int(work.headers["Retry-After"]) > 0
    assert work.headers["Connection"] == "close"


async def test_the_status_shows_stores_tasks_totals_and_alerts(live_server):
    site = live_server.site
    site.pulses.note("ingest", rounds=3)
    async with site.catalog.begin() as tx:
        await tx.tallies.add("held", files=2, bytes=20)
        await tx.alerts.raise_alert("disk", message="the disk is odd", remedy="Look at it.")

    status = (await live_server.call("GET", "/api/v1/status", user="reader")).json

    assert status["held"] == {"files": 2, "bytes": 20}
    assert [store["name"] for store in status["stores"]] == ["fast"]
    assert [(task["name"], task["rounds"]) for task in status["tasks"]] == [("ingest", 3)]
    assert [alert["cause"] for alert in status["alerts"]] == ["disk"]
    assert status["restored"] is None


async def test_a_restored_catalog_is_acknowledged_once_and_the_story_tells_who(live_server):
    async with live_server.site.catalog.begin() as tx:
        await tx.site.mark_restored("the store is ahead")

    first = await live_server.call("POST", "/api/v1/site/restored")
    second = await live_server.call("POST", "/api/v1/site/restored")

    assert (first.status, second.status) == (200, 409)
    async with live_server.site.catalog.read() as tx:
        story = await tx.events.story_of("site")
    assert [event.what for event in story if event.who == "admin"] == ["restored acknowledged"]


async def test_stores_are_listed_with_capacity_and_identity(live_server):
    reply = await live_server.call("GET", "/api/v1/stores", user="reader")

    (store,) = reply.json["stores"]
    assert store["name"] == "fast"
    assert store["is_open"] is True
    assert store["problem"] is None
    assert 0 < store["free_bytes"] <= store["total_bytes"]


@pytest.mark.parametrize("way", ["open", "close"])
async def test_a_store_is_opened_and_closed_and_a_repeat_changes_nothing(live_server, way):
    replies = [await live_server.call("POST", f"/api/v1/stores/fast/{way}") for _ in range(2)]

    assert [reply.status for reply in replies] == [200, 200]
    assert [reply.json["is_open"] for reply in replies] == [way == "open"] * 2


async def test_switching_a_store_is_told_once(live_server):
    for way in ("close", "close", "open"):
        await live_server.call("POST", f"/api/v1/stores/fast/{way}")

    async with live_server.site.catalog.read() as tx:
        story = await tx.events.story_of("store:fast")
    assert [event.what for event in story if event.who == "admin"] == ["closed", "opened"]


async def test_an_unknown_store_is_not_found(live_server):
    reply = await live_server.call("POST", "/api/v1/stores/nowhere/open")

    assert (reply.status, reply.json["code"]) == (404, "not_found")


async def test_a_store_that_is_gone_is_reported_and_the_service_lives(live_server, tmp_path):
    (tmp_path / "chajnantor" / "fast").rename(tmp_path / "elsewhere")
    await live_server.site.stores.probe()

    reply = await live_server.call("GET", "/api/v1/stores")

    assert reply.status == 200
    assert reply.json["stores"][0]["problem"]


def test_every_role_is_served_by_the_fixture():
    assert {role.value for role in Role} == {"admin", "uploader", "reader", "upstream", "callback"}


async def test_a_store_in_a_collection_can_be_filled_through_globus(database_url, tmp_path):
    collection = CollectionSettings(collection=uuid.UUID(int=1), root="/store", staging="/staging")

    def change(settings):
        (store,) = settings.stores
        return settings.model_copy(update={"stores": (store.model_copy(update={"globus": collection}),)})

    async with opened_site(database_url, tmp_path / "nersc", change=change) as site:
        await create_account(site, "upstream", Role.UPSTREAM)
        async with served(site) as live:
            reply = await live.call("GET", "/api/v1/site", user="upstream")

    (point,) = [point for point in reply.json["entry_points"] if point["engine"] == "globus"]
    assert (point["address"], point["staging"]) == (str(uuid.UUID(int=1)), "/staging")
