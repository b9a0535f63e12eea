"""What an operator lets flow to a peer, changed while files are on their way: it works at once and loses nothing."""

from datetime import timedelta

import pytest

from librarian.timing import utc_now
from tests.clone_fixtures import acquaint, party, until
from tests.fakes.tcp_proxy import tcp_proxy

MIB = 1024**2


@pytest.fixture
async def far_pair(urls, tmp_path):
    """chajnantor sends to nersc through a proxy that can do anything to the connection."""
    async with (
        party(urls[0], tmp_path / "a", "chajnantor") as sender,
        party(urls[1], tmp_path / "b", "nersc") as receiver,
        tcp_proxy(receiver.live.url) as proxy,
    ):
        await acquaint(sender, receiver, url=proxy.url)
        yield sender, receiver, proxy


def a_window_hence(hours):
    """One hour, that begins so many *hours* from now."""
    start = utc_now() + timedelta(hours=hours)
    return f"{start:%H:%M}-{start + timedelta(hours=1):%H:%M} UTC"


async def change(sender, **body):
    reply = await sender.live.call("PATCH", "/api/v1/peers/nersc", body=body)
    assert reply.status == 200, reply.raw
    return reply.json


async def no_engine_runs(sender):
    async def is_idle():
        return not sender.site.engines["http"]._running

    await until(is_idle)


async def is_told(sender, why):
    """Wait until every transfer to the peer says why it does not go on."""

    async def is_said():
        page = (await sender.live.call("GET", "/api/v1/transfers")).json["transfers"]
        return {transfer["reason"] for transfer in page} == {why}

    await until(is_said)


@pytest.mark.parametrize(
    ("stop", "go"),
    [
        ({"flow": "paused"}, {"flow": "open"}),
        ({"windows": [a_window_hence(6)]}, {"windows": [a_window_hence(6), a_window_hence(0)]}),
    ],
    ids=["paused", "outside of its windows"],
)
async def test_what_is_on_its_way_stops_at_once_and_goes_on_from_there(far_pair, stop, go):
    sender, receiver, proxy = far_pair
    await sender.upload({"large": bytes(range(256)) * 4 * 10 * 1024, "small": b"s"})
    proxy.freeze_after_upload(4 * MIB)
    await sender.replicates_to(receiver)
    await proxy.frozen()

    stopped = await change(sender, **stop)
    await no_engine_runs(sender)
    await is_told(sender, stopped["why_not"])
    proxy.thaw()
    await sender.upload({"later": b"later"})
    held_back = (await receiver.file("large"), {transfer.name for transfer in await sender.outgoing()})
    await change(sender, **go)

    await sender.knows_copies_at(receiver, ["large", "small", "later"])
    assert (stopped["is_moving"], held_back) == (False, (None, {"large", "small"}))
    assert proxy.bytes_up < 18 * MIB


async def test_a_peer_that_is_drained_gets_what_is_on_its_way_and_nothing_new(far_pair):
    sender, receiver, proxy = far_pair
    await sender.upload({"large": bytes(range(256)) * 4 * 10 * 1024})
    proxy.freeze_after_upload(4 * MIB)
    await sender.replicates_to(receiver)
    await proxy.frozen()

    await change(sender, flow="draining")
    await sender.upload({"later": b"later"})
    proxy.thaw()
    await sender.knows_copies_at(receiver, ["large"])
    drained = {transfer.name for transfer in await sender.outgoing()}
    await change(sender, flow="open")

    await sender.knows_copies_at(receiver, ["later"])
    assert drained == {"large"}


async def test_what_is_not_given_stays_as_it_is(pair):
    sender, _ = pair
    await change(sender, rate_limit=50_000_000, windows=["20:00-06:00 America/Santiago"], staged_budget=10**12)

    kept = await change(sender, flow="draining")
    lifted = await change(sender, rate_limit=0, windows=[], staged_budget=0)

    limits = ("rate_limit", "windows", "staged_budget", "flow")
    assert [kept[key] for key in limits] == [50_000_000, ["20:00-06:00 America/Santiago"], 10**12, "draining"]
    assert [lifted[key] for key in limits] == [None, [], None, "draining"]


async def test_how_fast_bytes_move_and_what_is_left_is_told(pair):
    sender, receiver = pair
    await sender.replicates_to(receiver)
    await sender.upload({"large": bytes(range(256)) * 4 * 1024})
    await sender.knows_copies_at(receiver, ["large"])

    reply = await sender.live.call("GET", "/api/v1/status")

    (told,) = reply.json["peers"]
    assert (told["name"], told["state"], told["due_files"], told["seconds_left"]) == ("nersc", "open", 0, 0)
    assert told["bytes_per_second"] > 0


async def test_nothing_is_left_of_nothing_however_long_the_windows_stay_closed(pair):
    sender, receiver = pair
    await sender.replicates_to(receiver)
    await sender.upload({"large": bytes(range(256)) * 4 * 1024})
    await sender.knows_copies_at(receiver, ["large"])

    told = await change(sender, windows=[a_window_hence(6)])

    assert (told["state"], told["seconds_left"]) == ("closed", 0)
    assert told["bytes_per_second"] > 0
