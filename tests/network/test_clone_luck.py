"""Bad luck between two sites: whatever was lost, doubled or changed meanwhile, each file arrives once and is known."""

import pytest
from sqlalchemy import delete, insert, update

from librarian import replication
from librarian.catalog.records import EntryPoint
from librarian.catalog.schema import InstanceRow, StoreRow
from librarian.entry_points import is_changed
from librarian.names import FileName
from librarian.policies import ClonePolicy
from librarian.states import DueState, TransferState
from librarian.timing import utc_now
from tests.clone_fixtures import acquaint, party, until
from tests.fakes.tcp_proxy import tcp_proxy
from tests.holding import hold
from tests.network.test_clone_protocol import a_clone, offer, receiver, state_of

__all__ = ["receiver"]

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


async def test_a_peer_that_is_disabled_in_the_middle_gets_nothing_more_until_it_is_enabled(far_pair):
    sender, receiver, proxy = far_pair
    await sender.upload({"large": bytes(range(256)) * 4 * 10 * 1024, "small": b"s"})
    proxy.freeze_after_upload(4 * MIB)
    await sender.replicates_to(receiver)
    await proxy.frozen()

    await sender.live.call("PATCH", "/api/v1/peers/nersc", body={"is_enabled": False})
    await no_engine_runs(sender)
    proxy.thaw()
    await sender.upload({"later": b"later"})
    held_back = (await receiver.file("large"), {transfer.name for transfer in await sender.outgoing()})
    await sender.live.call("PATCH", "/api/v1/peers/nersc", body={"is_enabled": True})

    await sender.knows_copies_at(receiver, ["large", "small", "later"])
    assert held_back == (None, {"large", "small"})
    assert proxy.bytes_up < 18 * MIB


async def no_engine_runs(sender) -> None:
    async def is_idle() -> bool:
        return not sender.site.engines["http"]._running

    await until(is_idle)


async def test_a_rule_that_comes_while_a_file_is_on_its_way_sends_it_no_second_time(far_pair):
    sender, receiver, proxy = far_pair
    await sender.upload({"large": bytes(range(256)) * 4 * 8 * 1024})
    proxy.freeze_after_upload(4 * MIB)
    await sender.replicates_to(receiver, name="first")
    await proxy.frozen()

    await sender.replicates_to(receiver, name="second", match=("l*",))
    await is_walked(sender)
    states = {due.rule: due.state for due in await sender.dues(["large"])}
    proxy.thaw()

    await sender.knows_copies_at(receiver, ["large"])
    assert states == {"first": DueState.SENDING, "second": DueState.SENDING}
    assert await batches_of(sender) == 1


async def test_a_rule_that_changes_while_a_file_is_on_its_way_sends_it_no_second_time(far_pair):
    sender, receiver, proxy = far_pair
    await sender.upload({"large": bytes(range(256)) * 4 * 8 * 1024})
    proxy.freeze_after_upload(4 * MIB)
    await sender.replicates_to(receiver)
    await proxy.frozen()

    await sender.replicates_to(receiver, match=("la*",))
    await is_walked(sender)
    states = [due.state for due in await sender.dues(["large"])]
    proxy.thaw()

    await sender.knows_copies_at(receiver, ["large"])
    assert states == [DueState.SENDING]
    assert await batches_of(sender) == 1


async def batches_of(sender) -> int:
    async with sender.site.catalog.read() as tx:
        return len(await tx.batches.with_ids([1, 2, 3]))


@pytest.mark.parametrize("after", range(2))
async def test_any_answer_to_the_receiver_may_be_lost(urls, tmp_path, after):
    async with (
        party(urls[0], tmp_path / "a", "chajnantor") as sender,
        party(urls[1], tmp_path / "b", "nersc") as receiver,
        tcp_proxy(sender.live.url) as proxy,
    ):
        await acquaint(sender, receiver)
        await receiver.knows(sender, url=proxy.url)
        proxy.lose_answer(after=after)
        await sender.upload({"one": b"one"})
        await sender.replicates_to(receiver)
        await sender.knows_copies_at(receiver, ["one"])
        await sender.upload({"two": b"two"})
        await sender.knows_copies_at(receiver, ["two"])

        assert await sender.dues(["one", "two"]) == ()
        assert await receiver.alerts() == ()


async def is_walked(sender) -> None:
    async def is_over() -> bool:
        async with sender.site.catalog.read() as tx:
            return await tx.rules.next_backfill() is None

    await until(is_over)


async def test_what_no_rule_asks_for_any_more_is_not_carried_on_for_ever(far_pair):
    sender, receiver, proxy = far_pair
    await sender.upload({"large": bytes(range(256)) * 4 * 8 * 1024})
    proxy.freeze_after_upload(4 * MIB)
    await sender.replicates_to(receiver)
    await proxy.frozen()
    async with sender.site.catalog.begin() as tx:
        rule = await tx.rules.find("to-nersc")
        await tx.rules.switch_off(rule.id)
        await tx.copies_due.waive(rule.id)
    # The source is gone as well: the engine cannot deliver it, and nobody will offer it again.
    sender.site.stores.lookup("fast").path_of(FileName("large")).unlink()
    proxy.go_down()
    proxy.thaw()
    proxy.come_up()

    async def is_over() -> bool:
        sent = {transfer.state for transfer in await sender.outgoing()}
        taken = {transfer.state for transfer in await receiver.incoming() if transfer.peer_id is not None}
        return sent == {TransferState.CANCELLED} and taken == {TransferState.CANCELLED}

    await until(is_over)
    assert await sender.alerts() == ()


async def test_a_held_notice_that_was_refused_once_does_not_hide_the_copy_for_ever(pair):
    sender, receiver = pair
    await hold(receiver.site, "one", b"one")
    await tell_of(receiver, sender, "one")

    async def is_refused() -> bool:
        return any("refuses-notices" in alert.cause for alert in await receiver.alerts())

    await until(is_refused)
    await sender.replicates_to(receiver)
    await sender.upload({"one": b"one"})

    await sender.knows_copies_at(receiver, ["one"])
    assert await sender.dues(["one"]) == ()

    async def is_over() -> bool:
        return not await is_refused()

    await until(is_over)


async def test_a_copy_that_comes_anew_is_told_although_an_older_notice_was_refused(pair):
    sender, receiver = pair
    await hold(receiver.site, "two", b"two")
    await tell_of(receiver, sender, "two")

    async def is_refused() -> bool:
        return any("refuses-notices" in alert.cause for alert in await receiver.alerts())

    await until(is_refused)
    await lose(receiver, "two")
    await sender.replicates_to(receiver)
    await sender.upload({"two": b"two"})

    await sender.knows_copies_at(receiver, ["two"])


async def tell_of(receiver, sender, name) -> None:
    """A notice about a file that the sender never offered, as when its catalog was restored from a backup."""
    async with receiver.site.catalog.begin() as tx:
        peer = await tx.peers.get(sender.name)
        file = (await tx.files.named([FileName(name)]))[FileName(name)]
        await tx.outbox.put([replication.held_note(peer.id, file)])
    receiver.site.bells.ring("deliver")


async def lose(party_, name) -> None:
    async with party_.site.catalog.begin() as tx:
        await tx._connection.execute(delete(InstanceRow))
    party_.site.stores.lookup("fast").path_of(FileName(name)).unlink()


async def test_a_clone_under_way_survives_a_store_that_is_away_when_it_is_offered_again(receiver, tmp_path):
    clone = a_clone()
    (accepted,) = await offer(receiver, clone)
    root = receiver.folder / "fast"
    root.rename(tmp_path / "elsewhere")

    (meanwhile,) = await offer(receiver, clone)
    state = await state_of(receiver, clone)
    (tmp_path / "elsewhere").rename(root)
    await receiver.site.stores.probe()
    (again,) = await offer(receiver, clone)

    assert (meanwhile["verdict"], state) == ("busy", TransferState.INITIATED)
    assert again == accepted


async def test_an_arrival_keeps_its_lease_when_what_is_offered_instead_does_not_fit(receiver):
    clone = a_clone("one", size=3)
    await offer(receiver, clone, user="princeton")
    receiver.site.settings = receiver.site.settings.model_copy(update={"clones": ClonePolicy(busy_lease="0s")})

    (refused,) = await offer(receiver, a_clone("one", size=2**60))

    assert (refused["verdict"], refused["code"]) == ("refused", "no_room")
    assert await state_of(receiver, clone) is TransferState.INITIATED


async def test_an_arrival_whose_lease_lapsed_gives_way_to_what_is_offered_next(receiver):
    clone, other = a_clone("one"), a_clone("one", checksum="xxh3:" + "1" * 32)
    await offer(receiver, clone, user="princeton")
    receiver.site.settings = receiver.site.settings.model_copy(update={"clones": ClonePolicy(busy_lease="0s")})

    (accepted,) = await offer(receiver, other)

    assert accepted["verdict"] == "accepted"
    assert await state_of(receiver, clone) is TransferState.CANCELLED


async def test_a_copy_on_a_store_that_was_given_up_holds_up_no_other(pair):
    sender, receiver = pair
    await sender.upload({"lost": b"lost", "good": b"good"})
    async with sender.site.catalog.begin() as tx:
        file = await sender.file("lost")
        gone = insert(StoreRow).values(name="gone", uuid="gone", kind="local", is_open=True, created_at=utc_now())
        store = (await tx._connection.execute(gone.returning(StoreRow.id))).scalar_one()
        await tx._connection.execute(update(InstanceRow).where(InstanceRow.file_id == file.id).values(store_id=store))

    await sender.replicates_to(receiver)
    await sender.knows_copies_at(receiver, ["good"])

    async def tells_why() -> bool:
        return any(due.code == "not_delivered" for due in await sender.dues(["lost"]))

    await until(tells_why)


POINTS = (
    EntryPoint(store="fast", engine="http", address="", staging=""),
    EntryPoint(store="fast", engine="local", address="", staging="/mnt/fast"),
)


def test_a_peer_whose_store_is_away_for_a_while_has_not_changed():
    assert not is_changed(POINTS, offered=POINTS[:1])
    assert not is_changed(POINTS, offered=())


@pytest.mark.parametrize(("store", "staging"), [("slow", "/mnt/fast"), ("fast", "/mnt/elsewhere")])
def test_a_peer_that_offers_something_else_has_changed(store, staging):
    other = EntryPoint(store=store, engine="local", address="", staging=staging)

    assert is_changed(POINTS, offered=(*POINTS, other))
