"""Rules over HTTP: made, changed, explained and removed, on both databases."""

import asyncio

import pytest

from librarian import replication
from librarian.catalog.copies_due import Turn
from librarian.catalog.files import NewFile
from librarian.catalog.instances import NewInstance
from librarian.catalog.records import EntryPoint
from librarian.checksum import Checksum
from librarian.names import FileName, SiteName, StoreName
from librarian.settings.models import RuleSettings
from librarian.states import DueState, Flow, Kind, Reach, VerifiedFrom
from librarian.tasks.backfill import Backfill
from librarian.timing import plenty_of_time, utc_now

NERSC = {"url": "", "username": "", "secret": b"", "reach": Reach.PUSH, "accepts": [""]}
BY_HTTP = EntryPoint(store=StoreName("tape"), engine="http", address="", staging="")


@pytest.fixture
async def live(live_server):
    """A server that knows the peer nersc, which has a store that http reaches."""
    async with live_server.site.catalog.begin() as tx:
        await tx.peers.add(SiteName("nersc"), entry_points=[BY_HTTP], **NERSC)
    return live_server


async def has_files(live, *names, size=10):
    async with live.site.catalog.begin() as tx:
        ids = await tx.files.add(
            [
                NewFile(
                    name=FileName(name),
                    kind=Kind.FILE,
                    size=size,
                    checksum=Checksum("xxh3:" + "0" * 32),
                    uploader="ana",
                    origin="a",
                    created_at=utc_now(),
                )
                for name in names
            ]
        )
        await tx.instances.add(
            [
                NewInstance(file_id=i, store=StoreName("fast"), verified_at=utc_now(), verified_from=VerifiedFrom.CACHE)
                for i in ids.values()
            ]
        )
    return [ids[FileName(name)] for name in names]


async def put(live, name="nights", **policy):
    return await live.call("PUT", f"/api/v1/rules/{name}", body={"peer": "nersc", **policy})


async def walk(live):
    await Backfill(live.site).run_pass(plenty_of_time())


async def why(live, name="nights", *, file=None):
    reply = await live.call("GET", f"/api/v1/rules/{name}/why" + (f"?file={file}" if file else ""))
    assert reply.status == 200, reply.raw
    return reply.json


async def owed_when_woken(live):
    await live.site.bells.heard("send")
    async with live.site.catalog.read() as tx:
        (peer,) = await tx.waiting.peers(utc_now())
        return (await tx.tallies.of(f"due:{peer}")).files


async def test_the_sender_is_woken_when_it_can_see_what_a_walk_found(live):
    await has_files(live, *(f"2026/{number}" for number in range(300)))
    await put(live, match=["2026/*"])
    await live.site.bells.heard("send")

    owed, _ = await asyncio.gather(owed_when_woken(live), walk(live))

    assert owed == 300


async def test_a_rule_asks_for_the_files_that_were_there_before(live):
    await has_files(live, "2026/a", "2026/b", "other")

    made = await put(live, match=["2026/*"], batch_bytes="1 TB", priority=3)
    await walk(live)

    assert (made.status, made.json["is_backfilling"], made.json["backfilled"]) == (200, True, 0.0)
    told = await why(live)
    assert told["due"] == [{"state": "due", "code": None, "files": 2, "bytes": 20, "example": None}]
    assert (told["rule"]["backfilled"], told["rule"]["policy"]["batch_bytes"]) == (1.0, 10**12)


async def test_the_same_rule_again_changes_nothing_and_another_one_replaces_it(live):
    await has_files(live, "2026/a")
    versions = [(await put(live, **policy)).json["version"] for policy in ({}, {}, {"match": ["2027/*"]})]
    await walk(live)

    assert versions == [1, 1, 2]
    assert (await why(live))["due"] == []


async def test_a_rule_that_is_removed_is_owed_nothing_and_may_come_back(live):
    await has_files(live, "2026/a", "2026/b")
    await put(live)
    await walk(live)

    dry = await live.call("DELETE", "/api/v1/rules/nights?dry_run=true")
    still = await live.call("GET", "/api/v1/rules/nights")
    removed = await live.call("DELETE", "/api/v1/rules/nights")
    gone = await live.call("GET", "/api/v1/rules/nights")
    listed = await live.call("GET", "/api/v1/rules")
    back = await put(live)

    told = {"name": "nights", "waived_files": 2, "waived_bytes": 20, "under_way_files": 0, "under_way_bytes": 0}
    assert (dry.json, still.status) == ({**told, "is_dry_run": True}, 200)
    assert (removed.json, gone.status, listed.json) == ({**told, "is_dry_run": False}, 404, {"rules": []})
    assert (back.status, back.json["version"]) == (200, 2)


async def test_what_is_on_its_way_is_told_before_a_rule_is_removed(live):
    ids = await has_files(live, "2026/a", "2026/b")
    await put(live)
    await walk(live)
    async with live.site.catalog.begin() as tx:
        nersc = await tx.peers.get("nersc")
        await tx.copies_due.turn(nersc.id, [Turn(file_id=ids[0], state=DueState.SENDING, next_try_at=utc_now())])

    dry = await live.call("DELETE", "/api/v1/rules/nights?dry_run=true")

    assert [dry.json[key] for key in ("waived_files", "under_way_files", "under_way_bytes")] == [2, 1, 10]


@pytest.mark.parametrize(
    ("name", "policy", "status", "words"),
    [
        ("nights", {"peer": "atlantis"}, 404, "no peer is called 'atlantis'"),
        ("nights", {"from_store": "cellar"}, 400, "there is no store 'cellar'"),
        ("nights", {"match": [""]}, 400, "a pattern has 1 to 1,024 characters"),
        ("nights", {"match": []}, 400, "match"),
        ("nights", {"engines": ["pigeon"]}, 400, "engines"),
        ("nights", {"windows": ["at night"]}, 400, "'at night' is not a window"),
        ("nights", {"batch_age": "P99999D"}, 400, "batch_age"),
        ("nights", {"colour": "blue"}, 400, "colour"),
        ("Two%20Words", {}, 400, "cannot be a rule's name"),
    ],
)
async def test_a_rule_that_cannot_work_is_refused(live, name, policy, status, words):
    refused = await put(live, name, **policy)

    assert (refused.status, words in refused.raw.decode()) == (status, True)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_rule_of_the_settings_is_changed_there_alone(live, method):
    async with live.site.catalog.begin() as tx:
        await replication.sync_rules(tx, [RuleSettings(name="nights", peer="nersc")])

    refused = await live.call(method, "/api/v1/rules/nights", body={"peer": "nersc"} if method == "PUT" else None)

    assert (refused.status, refused.json["code"]) == (409, "conflict")
    assert "made in the settings" in refused.json["message"]


async def test_the_engine_is_told_and_why_not_the_others(live):
    await put(live)

    (way,) = (await why(live))["ways"]

    assert (way["from_store"], way["to_store"], way["engine"]) == ("fast", "tape", "http")
    assert {look["engine"]: bool(look["why_not"] and look["remedy"]) for look in way["looks"]} == {
        "globus": True,
        "rsync": True,
        "local": True,
        "http": False,
    }


async def test_what_keeps_a_rule_back_is_told(live):
    await put(live)
    async with live.site.catalog.begin() as tx:
        nersc = await tx.peers.get("nersc")
        await tx.peers.let_flow(nersc.id, Flow.PAUSED)
        for _ in range(live.site.settings.clones.batches_per_peer):
            await tx.batches.queue(nersc.id, engine="http", store=StoreName("tape"), files=1, size=1)

    told = await why(live)

    assert told["traffic"]["is_moving"] is False
    assert told["obstacles"][0] == "it is paused"
    assert told["obstacles"][-1] == "4 batches to nersc are under way, as many as may be"


async def test_what_a_rule_means_for_a_file_is_told(live):
    ids = await has_files(live, "2026/a", "2026/b")
    await put(live, match=["2026/a"])
    early = (await why(live, file="2026/a"))["file"]
    await walk(live)
    due = (await why(live, file="2026/a"))["file"]
    async with live.site.catalog.begin() as tx:
        nersc = await tx.peers.get("nersc")
        await tx.copies_due.turn(
            nersc.id,
            [Turn(file_id=ids[0], state=DueState.DUE, next_try_at=utc_now(), code="busy", reason="busy", failed=True)],
        )
    tried = (await why(live, file="2026/a"))["file"]
    other = (await why(live, file="2026/b"))["file"]

    assert (early["is_asked"], early["told"]) == (True, "the back-fill of the rule has not come to it yet")
    assert (due["state"], due["told"]) == ("due", "its copy is due")
    assert (tried["attempts"], tried["told"]) == (1, "busy")
    assert (other["is_asked"], other["told"]) == (False, "its name matches none of 2026/a")


async def test_a_file_that_is_not_here_is_not_explained(live):
    await put(live)

    missing = await live.call("GET", "/api/v1/rules/nights/why?file=2026/none")

    assert (missing.status, missing.json["message"]) == (404, "no file is called '2026/none'")


async def test_a_rule_onto_stores_of_ours_is_made_explained_and_removed(live):
    await has_files(live, "a")
    made = await live.call("PUT", "/api/v1/rules/second", body={"stores": ["s*"]})
    await walk(live)

    why = await live.call("GET", "/api/v1/rules/second/why?file=a")
    story = await live.call("GET", "/api/v1/why/a")
    removed = await live.call("DELETE", "/api/v1/rules/second")

    assert (made.json["applies"], made.json["policy"]["stores"], made.json["policy"]["peer"]) == (True, ["s*"], None)
    assert (why.json["obstacles"], why.json["ways"]) == ([], [])
    assert [(group["state"], group["files"]) for group in why.json["due"]] == [("due", 1)]
    (due,) = [copy for copy in story.json["copies"] if copy["state"] == "due"]
    assert due["sentence"].startswith("The copy on a store of ours that the rule second asks for waits since ")
    assert removed.json["waived_files"] == 1


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"stores": ["A*"], "copies": "each"},
        {"peer": "nersc", "stores": ["A07"], "copies": "each"},
        {"stores": ["A07"], "engines": ["http"]},
    ],
    ids=["nowhere", "each of a pattern", "each for a peer", "by an engine"],
)
async def test_a_rule_that_means_nothing_is_refused(live, policy):
    refused = await live.call("PUT", "/api/v1/rules/odd", body=policy)

    assert refused.status == 400


async def test_a_copy_on_each_store_is_not_asked_of_a_store_that_nobody_knows(live):
    refused = await live.call("PUT", "/api/v1/rules/odd", body={"stores": ["A07"], "copies": "each"})

    assert (refused.status, refused.json["code"]) == (404, "not_found")
