"""What becomes of items that cannot be sent or are refused: they alone are tried again, and then put aside."""

from functools import partial

import pytest

from librarian import intake
from librarian.names import FileName
from librarian.openings import UploadRequest
from librarian.states import DueState, Kind, Presence
from librarian.transfers.http import HttpEngine
from tests.clone_fixtures import POLICY, acquaint, party, until
from tests.network.test_clone_luck import far_pair
from tests.network.test_clone_protocol import a_clone

__all__ = ["far_pair"]

HASTY = POLICY.model_copy(update={"quarantine_after": 2})


def hasty(settings):
    return settings.model_copy(update={"clones": HASTY})


@pytest.fixture
async def pair(urls, tmp_path):
    """chajnantor sends, nersc receives; what fails of itself is tried twice."""
    async with (
        party(urls[0], tmp_path / "chajnantor", "chajnantor", policy=HASTY, change=hasty) as sender,
        party(urls[1], tmp_path / "nersc", "nersc", policy=HASTY, change=hasty) as receiver,
    ):
        await acquaint(sender, receiver)
        yield sender, receiver


async def stops(sender, *names) -> None:
    """Wait until the copies of *names* are in quarantine."""

    async def all_stopped() -> bool:
        dues = await sender.dues(names)
        return len(dues) == len(names) and {due.state for due in dues} == {DueState.QUARANTINED}

    await until(all_stopped)


def corrupt(site, name: str, content: bytes) -> None:
    place = site.folder / "fast" / name
    place.chmod(0o644)
    place.write_bytes(content)


async def are(site, wanted) -> bool:
    """Whether the copies of files are found to be what is *wanted*, by name."""
    async with site.site.catalog.read() as tx:
        files = await tx.files.named([FileName(name) for name in wanted])
        found = {copy.file_id: copy.presence for copy in await tx.instances.of_files([f.id for f in files.values()])}
    return {name: found[file.id] for name, file in files.items()} == wanted


@pytest.mark.parametrize("urls", ["sqlite"], indirect=True)
async def test_one_corrupt_and_one_unsendable_item_hold_up_none_of_a_batch_of_1024(pair):
    sender, receiver = pair
    names = [f"{number:04}" for number in range(1024)]
    await sender.upload({name: name.encode() for name in names})
    corrupt(sender, "0500", b"9999")
    (sender.folder / "fast" / "0700").unlink()

    await sender.replicates_to(receiver)

    await sender.knows_copies_at(receiver, [name for name in names if name not in ("0500", "0700")])
    await stops(sender, "0500", "0700")
    dues = {due.code: due for due in await sender.dues(["0500", "0700"])}
    peer = (await sender.live.call("GET", "/api/v1/peers/nersc")).json
    (alert,) = [each for each in await sender.alerts() if each.cause == "peer:nersc:quarantine"]
    assert set(dues) == {"checksum_mismatch", "not_delivered"}
    assert "0500" in dues["checksum_mismatch"].reason
    assert "cannot read it at the sender" in dues["not_delivered"].reason
    assert (peer["due_files"], peer["quarantined_files"], peer["quarantined_bytes"]) == (0, 2, 8)
    assert alert.count <= 2
    assert (await receiver.file("0500"), await receiver.file("0700")) == (None, None)
    await until(partial(are, sender, {"0700": Presence.MISSING}))


class BrittleEngine(HttpEngine):
    """Gives a whole batch up, without a word, because of one item in it: the one of seven bytes."""

    async def move(self, running):
        if any(item.size == 7 for item in running.left):
            raise ZeroDivisionError
        await super().move(running)


async def test_an_item_that_breaks_every_batch_it_is_in_ends_up_alone_in_quarantine(pair):
    sender, receiver = pair
    ring = partial(sender.site.bells.ring, "poll")
    sender.site.engines["http"] = BrittleEngine(sender.site.neighbours, on_change=ring)
    names = [f"{number:02}" for number in range(8)]
    await sender.upload({**{name: name.encode() for name in names}, "poison": b"7 bytes"})

    await sender.replicates_to(receiver, batch_files=32)

    await sender.knows_copies_at(receiver, names)
    await stops(sender, "poison")
    (due,) = await sender.dues(["poison"])
    assert due.code == "not_delivered"


async def test_what_was_put_aside_arrives_once_its_reason_is_gone_and_a_person_says_so(pair):
    sender, receiver = pair
    await receiver.knows(sender, accepts=["good/"])
    await sender.upload({"bad": b"1"})
    await sender.replicates_to(receiver)
    await stops(sender, "bad")
    (before,) = await sender.dues(["bad"])
    await receiver.knows(sender)

    reply = await sender.live.call("POST", "/api/v1/transfers/retry", body={"names": ["bad"]})

    await sender.knows_copies_at(receiver, ["bad"])
    assert before.code == "name_not_accepted"
    assert (reply.status, reply.json["copies"]) == (200, 1)
    assert await sender.alerts() == ()


async def test_a_copy_that_arrived_corrupt_is_read_again_and_blocked_until_a_good_one_comes(pair):
    sender, receiver = pair
    await sender.upload({"one": b"truth"})
    corrupt(sender, "one", b"liess")
    await sender.replicates_to(receiver)
    await stops(sender, "one")

    sender.site.bells.ring("reread")
    await until(lambda: is_lost(sender, "one"))
    await sender.live.call("POST", "/api/v1/transfers/retry", body={"all": True})
    await until(lambda: is_blocked(sender, "one"))
    (sender.folder / "fast" / "one").unlink()
    await sender.upload({"one": b"truth"})

    await sender.knows_copies_at(receiver, ["one"])


async def is_lost(site, name) -> bool:
    return any(alert.cause == f"copy-lost:fast:{name}" for alert in await site.alerts())


async def is_blocked(site, name) -> bool:
    (due,) = await site.dues([name])
    return due.state is DueState.BLOCKED


async def test_what_was_put_aside_leaves_no_staging_and_no_name_behind_at_the_receiver(pair):
    sender, receiver = pair
    await sender.upload({"one": b"truth"})
    (sender.folder / "fast" / "one").unlink()
    await sender.replicates_to(receiver)
    await stops(sender, "one")

    async def is_free() -> bool:
        return [each.state.value for each in await receiver.incoming()] == ["cancelled"]

    await until(is_free)
    await receiver.upload({"one": b"something else"})

    assert (await receiver.file("one")).size == 14


async def cancelled(site, *uuids, dry_run=False, peer=None):
    body = {"uuids": list(uuids), "dry_run": dry_run, "peer": peer}
    reply = await site.live.call("POST", "/api/v1/transfers/cancel", body=body)
    assert reply.status == 200, reply.raw
    return reply.json["transfers"]


@pytest.fixture
async def on_its_way(far_pair):
    """One large and one small file, of one batch, that nersc waits for; the link is frozen."""
    sender, receiver, proxy = far_pair
    await sender.upload({"large": bytes(range(256)) * 4 * 8 * 1024, "small": b"small"})
    proxy.freeze_after_upload(4 * 1024**2)
    await sender.replicates_to(receiver)
    await proxy.frozen()
    return {each.name: each.uuid for each in await sender.outgoing()}


async def test_a_cancelled_transfer_ends_at_both_sites_and_its_batch_goes_on_for_the_others(far_pair, on_its_way):
    sender, receiver, proxy = far_pair

    (told,) = await cancelled(sender, on_its_way["large"])
    proxy.thaw()

    await sender.knows_copies_at(receiver, ["small"])

    async def is_told() -> bool:
        states = {each.name: each.state.value for each in await receiver.incoming()}
        return states["large"] == "cancelled"

    await until(is_told)
    (due,) = await sender.dues(["large"])
    assert (told["way"], told["name"], told["problem"]) == ("out", "large", None)
    assert (due.state, due.code) == (DueState.QUARANTINED, "cancelled_by_operator")
    assert "admin has cancelled it" in due.reason
    assert await sender.alerts() == ()


async def test_both_sites_tell_why_a_file_has_not_arrived_yet(far_pair, on_its_way):
    sender, receiver, _ = far_pair

    here = (await sender.live.call("GET", "/api/v1/why/large")).json["copies"]
    there = (await receiver.live.call("GET", "/api/v1/why/large")).json["copies"]

    assert [(each["place"], each["state"]) for each in here] == [("fast", "present"), ("nersc", "sending")]
    assert "moves in batch 1 of the http engine (2 files" in here[1]["sentence"]
    assert "The clone from chajnantor (8,388,608 bytes) is under way to fast" in there[0]["sentence"]


async def test_a_cancelled_transfer_arrives_after_a_retry(far_pair, on_its_way):
    sender, receiver, proxy = far_pair
    await cancelled(sender, *on_its_way.values())
    proxy.thaw()

    await sender.live.call("POST", "/api/v1/transfers/retry", body={"all": True})

    await sender.knows_copies_at(receiver, ["large", "small"])
    assert on_its_way["large"] not in {e.uuid for e in await sender.outgoing() if e.state.value == "completed"}


async def test_an_engine_stops_when_nothing_is_left_for_it_to_move(far_pair, on_its_way):
    sender, *_ = far_pair

    await cancelled(sender, *on_its_way.values())

    async def is_over() -> bool:
        async with sender.site.catalog.read() as tx:
            (batch,) = (await tx.batches.with_ids([1])).values()
        return batch.state.value == "cancelled"

    await until(is_over)
    assert sender.site.engines["http"]._running == {}


async def test_a_dry_run_cancels_nothing(far_pair, on_its_way):
    sender, *_ = far_pair

    told = await cancelled(sender, on_its_way["large"], "0" * 8 + "-0000-0000-0000-" + "0" * 12, dry_run=True)

    assert [each["problem"] and each["problem"]["code"] for each in told] == [None, "not_found"]
    assert {each.state.value for each in await sender.outgoing()} == {"ongoing"}


async def test_a_clone_whose_peer_is_gone_can_be_cancelled_and_frees_its_name(far_pair, on_its_way):
    _, receiver, proxy = far_pair
    arriving = {each.name: each for each in await receiver.incoming()}
    proxy.go_down()

    (told,) = await cancelled(receiver, arriving["large"].uuid)
    await receiver.upload({"large": b"ours now"})

    staging = receiver.site.stores.lookup("fast").staging_path(arriving["large"].token)
    assert (told["way"], told["problem"]) == ("in", None)
    assert (await receiver.file("large")).size == 8
    assert not staging.parent.exists()


async def test_a_clone_that_the_receiver_cancels_is_not_offered_again_until_a_person_says_so(far_pair, on_its_way):
    sender, receiver, proxy = far_pair
    (arriving,) = [each for each in await receiver.incoming() if each.name == "large"]
    await cancelled(receiver, arriving.uuid)
    proxy.thaw()

    await stops(sender, "large")

    (due,) = await sender.dues(["large"])
    assert (due.code, "has cancelled it at nersc" in due.reason) == ("cancelled_by_operator", True)
    await sender.knows_copies_at(receiver, ["small"])


async def test_what_has_ended_cannot_be_cancelled(pair):
    sender, receiver = pair
    await sender.replicates_to(receiver)
    await sender.upload({"one": b"one"})
    await sender.knows_copies_at(receiver, ["one"])
    (leaving,), (arriving,) = await sender.outgoing(), await receiver.incoming()

    told = [*await cancelled(sender, leaving.uuid), *await cancelled(receiver, arriving.uuid)]

    assert [each["problem"]["code"] for each in told] == ["wrong_state", "wrong_state"]


async def test_a_peer_that_chooses_the_id_of_an_upload_is_not_cancelled_in_its_stead(pair):
    sender, receiver = pair
    admin = await receiver.account()
    (upload,) = await intake.open_uploads(
        receiver.site, admin, [UploadRequest(name=FileName("ours"), size=3, kind=Kind.FILE)]
    )
    clone = a_clone("theirs") | {"uuid": upload.uuid}
    await receiver.live.call("POST", "/api/v1/clones", user=sender.name, body={"clones": [clone]})

    (ours,) = await cancelled(receiver, upload.uuid)
    (theirs,) = await cancelled(receiver, upload.uuid, peer=sender.name)

    assert [(each["name"], each["problem"]) for each in (ours, theirs)] == [("ours", None), ("theirs", None)]
