"""Remote clones between real servers on loopback, on both databases: what must arrive, and what luck may do."""

import pytest

from librarian.states import DueState, TransferState
from tests.clone_fixtures import acquaint, party, until
from tests.fakes.tcp_proxy import tcp_proxy


@pytest.mark.parametrize("engine", ["http", "local"])
async def test_files_and_books_arrive_verified_and_are_known_at_the_source(pair, engine):
    sender, receiver = pair
    await sender.replicates_to(receiver, engines=(engine,))

    await sender.upload({"a/one": b"one" * 1000, "a/empty": b"", "big": b"x" * 3_000_000})
    await sender.upload_book("book", {"x": b"1", "deep/y": b"2" * 2_000_000, "deep/er/z": b""})

    names = ["a/one", "a/empty", "big", "book"]
    await sender.knows_copies_at(receiver, names)
    for name in names:
        ours, theirs = await sender.file(name), await receiver.file(name)
        assert (ours.checksum, ours.size, ours.origin, ours.uploader, ours.created_at) == (
            theirs.checksum,
            theirs.size,
            theirs.origin,
            theirs.uploader,
            theirs.created_at,
        )
    assert await sender.dues(names) == ()
    assert (receiver.folder / "fast" / "book" / "deep" / "y").read_bytes() == b"2" * 2_000_000


async def test_a_rule_that_comes_later_finds_the_files_that_were_there_before(pair):
    sender, receiver = pair
    await sender.upload({f"2026/{number}": b"%d" % number for number in range(20)})
    await sender.upload({"other/1": b"1"})

    await sender.replicates_to(receiver, match=("2026/*",))

    await sender.knows_copies_at(receiver, [f"2026/{number}" for number in range(20)])
    assert await receiver.file("other/1") is None


async def test_totals_of_what_is_due_end_at_nothing(pair):
    sender, receiver = pair
    await sender.replicates_to(receiver)

    await sender.upload({f"{number}": b"%d" % number for number in range(50)})
    await sender.knows_copies_at(receiver, [f"{number}" for number in range(50)])

    reply = await sender.live.call("GET", f"/api/v1/peers/{receiver.name}")
    assert (reply.json["due_files"], reply.json["due_bytes"]) == (0, 0)


async def test_what_the_peer_holds_already_is_not_moved_but_known(pair):
    sender, receiver = pair
    await receiver.upload({"one": b"the same"})
    await sender.replicates_to(receiver)

    await sender.upload({"one": b"the same", "two": b"two"})

    await sender.knows_copies_at(receiver, ["one", "two"])
    assert [transfer.name for transfer in await receiver.incoming() if transfer.peer_id is not None] == ["two"]


async def test_other_content_under_the_name_raises_an_alert_and_touches_nothing(pair):
    sender, receiver = pair
    await receiver.upload({"one": b"theirs"})
    await sender.replicates_to(receiver)

    await sender.upload({"one": b"ours..", "two": b"two"})

    await sender.knows_copies_at(receiver, ["two"])
    (due,) = await sender.dues(["one"])
    assert (due.state, due.code) == (DueState.QUARANTINED, "held_differently")
    assert any("differs:one" in alert.cause for alert in await sender.alerts())
    assert (receiver.folder / "fast" / "one").read_bytes() == b"theirs"
    assert await sender.remote_instances(["one"]) == {"one": set()}


async def test_files_go_on_along_a_chain_and_never_back(urls, tmp_path):
    async with (
        party(urls[0], tmp_path / "a", "chajnantor") as first,
        party(urls[1], tmp_path / "b", "princeton") as middle,
        party(urls[2], tmp_path / "c", "nersc") as last,
    ):
        await acquaint(first, middle)
        await acquaint(middle, last)
        await middle.replicates_to(last)
        await first.replicates_to(middle)

        await first.upload({"one": b"one"})

        await first.knows_copies_at(middle, ["one"])
        await middle.knows_copies_at(last, ["one"])
        assert (await last.file("one")).origin == "chajnantor"
        assert await last.dues(["one"]) == ()


async def test_rules_both_ways_do_not_send_a_file_back(urls, tmp_path):
    async with (
        party(urls[0], tmp_path / "a", "chajnantor") as one,
        party(urls[1], tmp_path / "b", "nersc") as other,
    ):
        await acquaint(one, other, both=True)
        await one.replicates_to(other)
        await other.replicates_to(one)

        await one.upload({"from-one": b"1"})
        await other.upload({"from-other": b"2"})

        await one.knows_copies_at(other, ["from-one"])
        await other.knows_copies_at(one, ["from-other"])
        assert [transfer.name for transfer in await one.outgoing()] == ["from-one"]
        assert [transfer.name for transfer in await other.outgoing()] == ["from-other"]


async def test_nothing_goes_to_a_disabled_peer_until_it_is_enabled(pair):
    sender, receiver = pair
    await sender.live.call("PATCH", "/api/v1/peers/nersc", body={"is_enabled": False})
    await sender.replicates_to(receiver)
    await sender.upload({"one": b"one"})
    before = (await sender.dues(["one"]), await sender.outgoing())

    await sender.live.call("PATCH", "/api/v1/peers/nersc", body={"is_enabled": True})

    await sender.knows_copies_at(receiver, ["one"])
    assert [due.state for due in before[0]] == [DueState.DUE]
    assert before[1] == ()


async def test_a_poisoned_item_does_not_hold_up_its_batch(pair):
    sender, receiver = pair
    await sender.upload(dict.fromkeys(("a", "poison", "z"), b"x" * 100))
    (sender.folder / "fast" / "poison").chmod(0o644)
    (sender.folder / "fast" / "poison").write_bytes(b"y" * 100)

    await sender.replicates_to(receiver)

    await sender.knows_copies_at(receiver, ["a", "z"])

    async def tells_why() -> bool:
        return any(due.code == "checksum_mismatch" for due in await sender.dues(["poison"]))

    await until(tells_why)
    assert await receiver.file("poison") is None


async def test_a_peer_that_is_down_is_tried_again_and_nothing_is_lost(urls, tmp_path):
    async with party(urls[0], tmp_path / "a", "chajnantor") as sender:
        async with party(urls[1], tmp_path / "b", "nersc") as receiver:
            await acquaint(sender, receiver)
            port = receiver.port
        await sender.replicates_to(receiver)
        await sender.upload({"one": b"one"})

        async def is_in_trouble() -> bool:
            reply = await sender.live.call("GET", "/api/v1/peers/nersc")
            return bool(reply.json["trouble"])

        await until(is_in_trouble)

        async with party(urls[1], tmp_path / "b", "nersc", port=port) as back:
            await sender.knows_copies_at(back, ["one"])


async def test_wrong_credentials_are_told_and_nothing_is_lost(pair):
    sender, receiver = pair
    async with receiver.site.catalog.begin() as tx:
        account = await tx.accounts.get(sender.name)
        await tx.accounts.change(sender.name, is_enabled=False)
    receiver.site.doorkeeper.forget(account.name)
    await sender.replicates_to(receiver)
    await sender.upload({"one": b"one"})

    async def is_in_trouble() -> bool:
        reply = await sender.live.call("GET", "/api/v1/peers/nersc")
        return bool(reply.json["trouble"])

    await until(is_in_trouble)
    async with receiver.site.catalog.begin() as tx:
        await tx.accounts.change(sender.name, is_enabled=True)
    receiver.site.doorkeeper.forget(account.name)

    await sender.knows_copies_at(receiver, ["one"])


async def test_a_transfer_that_was_cut_off_by_a_restart_is_completed_after_it(urls, tmp_path):
    async with party(urls[1], tmp_path / "b", "nersc") as receiver:
        async with party(urls[0], tmp_path / "a", "chajnantor") as sender:
            await acquaint(sender, receiver)
            port = sender.port
            await sender.upload({f"{number}": b"%d" % number * 1000 for number in range(64)})
            await sender.replicates_to(receiver, batch_files=8)

            async def has_begun() -> bool:
                return bool(await receiver.incoming())

            await until(has_begun)

        async with party(urls[0], tmp_path / "a", "chajnantor", port=port) as again:
            await again.knows_copies_at(receiver, [f"{number}" for number in range(64)])
            states = {transfer.state for transfer in await again.outgoing()}

    assert states <= {TransferState.COMPLETED, TransferState.FAILED}


async def test_names_that_the_receiver_does_not_accept_are_refused_alone(pair):
    sender, receiver = pair
    await receiver.knows(sender, accepts=["good/"])
    await sender.replicates_to(receiver)

    await sender.upload({"good/one": b"1", "bad/one": b"1"})

    await sender.knows_copies_at(receiver, ["good/one"])

    async def is_refused() -> bool:
        return any(due.code == "name_not_accepted" for due in await sender.dues(["bad/one"]))

    await until(is_refused)
    assert await receiver.file("bad/one") is None


async def test_a_frozen_peer_starves_nobody(urls, tmp_path):
    async with (
        party(urls[0], tmp_path / "a", "chajnantor") as sender,
        party(urls[1], tmp_path / "b", "princeton") as slow,
        party(urls[2], tmp_path / "c", "nersc") as quick,
        tcp_proxy(slow.live.url) as proxy,
    ):
        await acquaint(sender, slow, url=proxy.url)
        await acquaint(sender, quick)
        proxy.freeze()
        await sender.replicates_to(slow)
        await sender.replicates_to(quick)

        await sender.upload({"one": b"one"})
        await sender.knows_copies_at(quick, ["one"])
        await sender.upload({"two": b"two"})
        await sender.knows_copies_at(quick, ["two"])
        known = await sender.remote_instances(["one", "two"])
        proxy.thaw()
        await sender.knows_copies_at(slow, ["one", "two"])

    assert known == {"one": {"nersc"}, "two": {"nersc"}}


async def test_a_connection_that_drops_within_a_member_goes_on_from_there(urls, tmp_path):
    async with (
        party(urls[0], tmp_path / "a", "chajnantor") as sender,
        party(urls[1], tmp_path / "b", "nersc") as receiver,
        tcp_proxy(receiver.live.url) as proxy,
    ):
        await acquaint(sender, receiver, url=proxy.url)
        await sender.upload_book("book", {"large": bytes(range(256)) * 4 * 8192, "small": b"s"})
        proxy.cut_after_upload(5_000_000)

        await sender.replicates_to(receiver)
        await sender.knows_copies_at(receiver, ["book"])

        # Lost is what the kernel still held for the receiver, whose size is its own affair; not the five millions.
        assert proxy.bytes_up < 8 * 1024**2 + 4_500_000
        assert len(await receiver.incoming()) == 1


@pytest.mark.parametrize("after", range(8))
async def test_any_answer_may_be_lost(urls, tmp_path, after):
    async with (
        party(urls[0], tmp_path / "a", "chajnantor") as sender,
        party(urls[1], tmp_path / "b", "nersc") as receiver,
        tcp_proxy(receiver.live.url) as proxy,
    ):
        await acquaint(sender, receiver, url=proxy.url)
        proxy.lose_answer(after=after)
        await sender.upload({"one": b"one", "two": b"two"})

        await sender.replicates_to(receiver)
        await sender.knows_copies_at(receiver, ["one", "two"])

        assert await sender.dues(["one", "two"]) == ()
        assert len(await receiver.incoming()) == 2


async def test_two_rules_for_one_peer_move_a_file_once(pair):
    sender, receiver = pair
    await sender.replicates_to(receiver, name="first")
    await sender.replicates_to(receiver, name="second", match=("o*",))

    await sender.upload({"one": b"one"})

    await sender.knows_copies_at(receiver, ["one"])
    assert len(await sender.outgoing()) == 1
    assert await sender.dues(["one"]) == ()
