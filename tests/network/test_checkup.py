"""The doctor: what two sites need of each other, what of it fails, and what would help."""

import json
from datetime import timedelta

import pytest

from librarian.names import SiteName
from librarian.states import TransferState
from librarian.timing import utc_now
from tests.clone_fixtures import close_in
from tests.fakes.rude_peer import rude_peer
from tests.site_fixtures import CHEAP

NERSC = SiteName("nersc")


async def check(party, name="nersc"):
    """The findings, by subject: verdict, message and remedy."""
    reply = await party.live.call("POST", f"/api/v1/peers/{name}/check")
    assert reply.status == 200, reply.raw
    return {each["subject"]: (each["verdict"], each["message"], each["remedy"]) for each in reply.json["findings"]}


def verdicts_of(findings):
    return {subject: verdict for subject, (verdict, _, _) in findings.items()}


async def change_pins(party, change):
    async with party.site.catalog.begin() as tx:
        peer = await tx.peers.get(NERSC)
        await tx.peers.pin(peer.id, change(peer.entry_points))


async def test_between_two_sites_that_are_well_everything_is_ok(pair):
    sender, _ = pair

    findings = await check(sender)

    assert verdicts_of(findings) == dict.fromkeys(
        [
            "reach",
            "protocol",
            "clock",
            "our login",
            "its login",
            "entry points",
            "http to fast",
            "local to fast",
            "room on fast",
        ],
        "ok",
    )
    assert findings["http to fast"][1] == "a probe was brought, read and removed by nersc"


async def test_a_probe_leaves_nothing_behind_at_either_site(pair):
    sender, receiver = pair

    await check(sender)

    assert [entry.name for entry in (receiver.folder / "fast-staging").iterdir() if len(entry.name) == 32] == []
    assert {clone.state for clone in await receiver.incoming()} == {TransferState.CANCELLED}
    assert [entry.name for entry in sender.folder.iterdir() if entry.name.startswith("probe-")] == []


async def test_a_site_that_only_receives_is_checked_without_probes(pair):
    _, receiver = pair

    findings = await check(receiver, "chajnantor")

    assert list(findings) == ["reach", "protocol", "clock", "our login", "its login"]


async def test_a_peer_that_is_away_is_told_with_what_to_look_at(pair):
    sender, _ = pair
    async with sender.site.catalog.begin() as tx:
        peer = await tx.peers.get(NERSC)
        secret, _ = await tx.peers.secrets_of(peer.id)
        await tx.peers.reach_at(peer.id, url="http://127.0.0.1:9", username="chajnantor", secret=secret)
    await sender.site.neighbours.forget(NERSC)

    findings = await check(sender)

    verdict, message, remedy = findings.pop("reach")
    assert (verdict, findings) == ("failed", {})
    assert "cannot reach http://127.0.0.1:9" in message
    assert remedy


async def test_a_login_that_fails_is_told_for_each_direction(pair):
    sender, receiver = pair
    async with sender.site.catalog.begin() as tx:
        await tx.accounts.change("nersc", password_hash=CHEAP.hash("something else"))
    sender.site.doorkeeper.forget("nersc")
    theirs = (await check(sender))["its login"]
    async with receiver.site.catalog.begin() as tx:
        await tx.accounts.change("chajnantor", password_hash=CHEAP.hash("something else"))
    receiver.site.doorkeeper.forget("chajnantor")
    ours = (await check(sender))["our login"]

    assert (theirs[0], ours[0]) == ("failed", "failed")
    assert "nersc cannot call this site: the name or the password is wrong" in theirs[1]
    assert "does not let us in as 'chajnantor'" in ours[1]
    assert "Pair again" in ours[2]


async def test_an_entry_point_that_was_not_pinned_fails_until_it_is_accepted(pair):
    sender, _ = pair
    await change_pins(sender, lambda points: [point for point in points if point.engine == "http"])

    before = await check(sender)
    await sender.live.call("PATCH", "/api/v1/peers/nersc", body={"accept_entry_points": True})
    after = await check(sender)

    assert before["entry points"][0] == "failed"
    assert "store 'fast' by local: " in before["entry points"][1]
    assert "peer check nersc --accept" in before["entry points"][2]
    assert (after["entry points"][0], after["local to fast"][0]) == ("ok", "ok")


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [(timedelta(seconds=1), "ok"), (timedelta(seconds=60), "warning"), (timedelta(hours=-1), "failed")],
)
async def test_clocks_that_differ_are_told(pair, monkeypatch, difference, verdict):
    sender, _ = pair
    monkeypatch.setattr("librarian.hearing.utc_now", lambda: utc_now() + difference)

    assert (await check(sender))["clock"][0] == verdict


async def test_a_site_that_cannot_be_called_is_checked_through_its_inbox(pair):
    sender, receiver = pair
    await close_in(receiver, towards=sender)

    findings = await check(sender)

    assert findings["reach"][:2] == ("ok", "nersc cannot be called from here; it fetches, and answers")
    assert (findings["local to fast"][0], findings["http to fast"][0]) == ("ok", "warning")
    assert "cannot be called from here" in findings["http to fast"][1]


async def test_a_peer_of_another_protocol_is_told_with_both_versions(pair):
    sender, receiver = pair
    async with rude_peer(receiver.live.url) as rude:
        rude.says(
            "/site",
            json.dumps({"code": "protocol_mismatch", "message": "", "details": {"protocol": 7}}).encode(),
            status=400,
        )
        async with sender.site.catalog.begin() as tx:
            peer = await tx.peers.get(NERSC)
            secret, _ = await tx.peers.secrets_of(peer.id)
            await tx.peers.reach_at(peer.id, url=rude.url, username="chajnantor", secret=secret)
        await sender.site.neighbours.forget(NERSC)

        findings = await check(sender)

    assert findings["protocol"][:2] == ("failed", "nersc speaks protocol 7, this site protocol 1")
