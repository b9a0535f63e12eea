"""What befalls links, disks and accounts while files are on their way: in the end all are there, and known to be."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from librarian import intake
from librarian.catalog.incoming_rows import Commit
from tests.clone_fixtures import acquaint, party, until
from tests.fakes.tcp_proxy import tcp_proxy
from tests.site_fixtures import CHEAP
from tests.uploading import ANA, asking, checksum_of, payload_of

MIB = 1024**2
LARGE = bytes(range(256)) * 4 * 1024 * 6


@pytest.fixture
def sqlites(databases, tmp_path):
    """Fresh catalogs for three sites; made here since that cannot be done in a loop."""
    return [databases.new_sqlite(tmp_path / f"catalog-{number}.sqlite") for number in range(3)]


@pytest.fixture
async def far_pair(sqlites, tmp_path):
    """chajnantor sends to nersc through a proxy that can do anything to the connection."""
    async with (
        party(sqlites[0], tmp_path / "a", "chajnantor") as sender,
        party(sqlites[1], tmp_path / "b", "nersc") as receiver,
        tcp_proxy(receiver.live.url) as proxy,
    ):
        await acquaint(sender, receiver, url=proxy.url)
        yield sender, receiver, proxy


async def test_a_link_that_was_cut_for_a_week_drains_what_was_uploaded_meanwhile(far_pair):
    sender, receiver, proxy = far_pair
    days = [f"2026/11/{day:02}" for day in range(8, 15)]
    await sender.replicates_to(receiver)
    await sender.upload({"before": LARGE})
    await sender.knows_copies_at(receiver, ["before"])
    proxy.go_down()
    with time_machine.travel(datetime.now(UTC), tick=True) as clock:
        for day in days:
            await sender.upload({day: day.encode()})
            clock.shift(timedelta(days=1))
        owed = await sender.dues(days)

        proxy.come_up()

        await sender.knows_copies_at(receiver, days)
    assert len(owed) == len(days)
    assert await sender.dues(days) == ()


async def test_a_link_that_drops_every_few_seconds_brings_everything_without_starting_over(far_pair):
    sender, receiver, proxy = far_pair
    await sender.upload_book("book", {"large": LARGE, "small": b"s"})
    proxy.cut_every_upload(2 * MIB)

    await sender.replicates_to(receiver)
    await sender.knows_copies_at(receiver, ["book"])

    assert proxy.connections > 3
    assert proxy.bytes_up < len(LARGE) * 2
    assert len(await receiver.incoming()) == 1


async def test_a_destination_that_is_full_goes_on_by_itself_once_an_operator_made_room(sqlites, tmp_path, mounts):
    disk = mounts.tmpfs(tmp_path / "b", "size=16m")
    async with (
        party(sqlites[0], tmp_path / "a", "chajnantor") as sender,
        party(sqlites[1], disk, "nersc") as receiver,
        tcp_proxy(receiver.live.url) as proxy,
    ):
        await acquaint(sender, receiver, url=proxy.url)
        await sender.upload({"large": LARGE})
        proxy.freeze_after_upload(2 * MIB)
        await sender.replicates_to(receiver)
        await proxy.frozen()
        with (disk / "ballast").open("wb") as ballast, pytest.raises(OSError, match="No space left"):
            ballast.write(bytes(16 * MIB))
        proxy.thaw()

        async def says_why() -> bool:
            async with sender.site.catalog.read() as tx:
                return any(batch.reason for batch in await tx.batches.begun(limit=10))

        await until(says_why)
        (disk / "ballast").unlink()

        await sender.knows_copies_at(receiver, ["large"])
        assert len(await receiver.incoming()) == 1


async def test_a_password_that_ends_in_the_middle_of_a_transfer_holds_it_up_until_the_new_one_is_told(far_pair):
    sender, receiver, proxy = far_pair
    await sender.upload({"large": LARGE})
    proxy.freeze_after_upload(2 * MIB)
    await sender.replicates_to(receiver)
    await proxy.frozen()
    async with receiver.site.catalog.begin() as tx:
        await tx.accounts.change(sender.name, password_hash=CHEAP.hash("another"))
    receiver.site.doorkeeper.forget(sender.name)
    proxy.reset_all()
    proxy.thaw()

    async def says_why() -> bool:
        async with sender.site.catalog.read() as tx:
            return any("password" in (batch.reason or "") for batch in await tx.batches.begun(limit=10))

    await until(says_why)
    body = {"url": proxy.url, "username": sender.name, "password": "another"}
    reply = await sender.live.call("PUT", f"/api/v1/peers/{receiver.name}", body=body)

    assert reply.status == 200, reply.raw
    await sender.knows_copies_at(receiver, ["large"])
    assert len(await receiver.incoming()) == 1


async def test_notices_that_come_again_late_and_in_another_order_change_nothing(far_pair):
    sender, receiver, _ = far_pair
    names = [str(number) for number in range(5)]
    await sender.replicates_to(receiver)
    await sender.upload({name: name.encode() for name in names})
    await sender.knows_copies_at(receiver, names)
    before = await _everything(sender, receiver, names)
    staged = [_notice(transfer, "staged", transfer.uuid) for transfer in await sender.outgoing()]
    held = [_notice(transfer, "held", transfer.name) for transfer in await sender.outgoing()]

    said = await receiver.live.call(
        "POST", "/api/v1/clones/notices", user=sender.name, body=_words(sender, staged[::-1])
    )
    heard = await sender.live.call(
        "POST", "/api/v1/clones/notices", user=receiver.name, body=_words(receiver, held[::-1])
    )

    assert {answer["answer"] for reply in (said, heard) for answer in reply.json["answers"]} == {"ignored"}
    assert await _everything(sender, receiver, names) == before


def _notice(transfer, state: str, subject: str) -> dict:
    return {
        "subject": subject,
        "state": state,
        "name": transfer.name,
        "size": transfer.size,
        "checksum": transfer.checksum,
    }


def _words(site, notices: list[dict]) -> dict:
    return {"site": site.name, "epoch": 1, "notices": [{**each, "seq": 1 + n} for n, each in enumerate(notices)]}


async def _everything(sender, receiver, names):
    states = [(transfer.uuid, transfer.state) for transfer in (*await sender.outgoing(), *await receiver.incoming())]
    return states, await sender.remote_instances(names), await sender.dues(names)


async def test_one_corrupt_file_among_a_thousand_is_refused_alone(far_pair):
    sender, receiver, _ = far_pair
    names = [f"{number:04}" for number in range(1024)]
    await sender.upload({name: name.encode() for name in names})
    spoiled = sender.folder / "fast" / names[512]
    spoiled.chmod(0o644)
    spoiled.write_bytes(b"5l2!")

    await sender.replicates_to(receiver)
    await sender.knows_copies_at(receiver, names[:512] + names[513:])

    assert await receiver.file(names[512]) is None
    (due,) = await sender.dues(names)
    assert due.code == "checksum_mismatch"


@pytest.fixture
async def three(sqlites, tmp_path):
    """Three sites that do not know each other yet."""
    async with (
        party(sqlites[0], tmp_path / "a", "chajnantor") as first,
        party(sqlites[1], tmp_path / "b", "nersc") as second,
        party(sqlites[2], tmp_path / "c", "princeton") as third,
    ):
        yield first, second, third


async def test_files_fan_out_to_every_peer_that_a_rule_names(three):
    source, second, third = three
    await acquaint(source, second)
    await acquaint(source, third)
    await source.replicates_to(second)
    await source.replicates_to(third)

    await source.upload({"one": b"one"})

    await source.knows_copies_at(second, ["one"])
    await source.knows_copies_at(third, ["one"])
    assert await source.dues(["one"]) == ()


async def test_two_peers_that_offer_the_same_file_are_both_told_of_the_one_that_is_held(three):
    first, second, target = three
    await acquaint(first, target)
    await acquaint(second, target)
    await first.upload({"one": b"one"})
    await second.upload({"one": b"one"})

    await first.replicates_to(target)
    await second.replicates_to(target)

    await first.knows_copies_at(target, ["one"])
    await second.knows_copies_at(target, ["one"])
    assert (target.folder / "fast" / "one").read_bytes() == b"one"
    assert await target.alerts() == ()


async def test_a_clone_waits_for_an_upload_of_the_same_name_and_settles_for_what_that_brought(far_pair):
    sender, receiver, _ = far_pair
    await sender.upload({"one": b"one"})
    (upload,) = await intake.open_uploads(receiver.site, ANA, [asking("one", b"one")])
    await sender.replicates_to(receiver)

    async def is_busy() -> bool:
        return any(due.code == "busy" for due in await sender.dues(["one"]))

    await until(is_busy)
    payload_of(receiver.site, upload).write_bytes(b"one")
    await intake.commit_uploads(receiver.site, ANA, [Commit(uuid=upload.uuid, checksum=checksum_of(b"one"))])

    await sender.knows_copies_at(receiver, ["one"])
    assert [(transfer.arrival.value, transfer.state.value) for transfer in await receiver.incoming()] == [
        ("upload", "completed")
    ]
