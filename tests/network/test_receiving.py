"""Drives of a peer: received, confirmed, damaged, refused, given up, and received again."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from librarian.catalog.database import make_engine
from librarian.keys import SigningKey
from librarian.manifest import fingerprint
from librarian.ownership import mark_restored
from tests.suitcases import bad_of, changed, done, drive_of, introduce_key, pack, receive, seal, shows, waits

FILES = {f"obs/{number:03}": bytes([number]) * (1000 + number) for number in range(5)}
BOOK = {"header": b"first light", "spectra/one": b"1" * 5000, "spectra/two": b"2" * 6000}
ALL = [*FILES, "obs/book"]
MANIFEST = ".librarian-manifest"


def spoil(path) -> None:
    """Flip one byte."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def everything(root) -> dict:
    return {
        path.relative_to(root): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture
async def pair(pair):
    """They know each other's keys, as sites that were paired do."""
    sender, receiver = pair
    await introduce_key(sender, receiver)
    return sender, receiver


@pytest.fixture
async def packed(pair, tmp_path):
    """A drive of chajnantor for nersc with five files and a book."""
    sender, _ = pair
    await sender.upload(FILES)
    await sender.upload_book("obs/book", BOOK)
    return await pack(sender, ALL, tmp_path / "drive", to="nersc")


async def test_what_a_drive_carries_is_held_and_confirmed_and_the_drive_is_left_as_it_was(pair, packed):
    sender, receiver = pair
    before = everything(packed.root)

    begun = await receive(receiver, packed.root)
    found = await done(receiver, begun["uuid"])

    assert (found["held_files"], found["bad_files"], found["read_bytes"]) == (6, 0, found["bytes"])
    await shows(sender, ("confirmed", 6, 0))
    await sender.knows_copies_at(receiver, ALL)
    assert (await receiver.file("obs/book")).checksum == (await sender.file("obs/book")).checksum
    assert everything(packed.root) == before


async def test_a_drive_that_is_received_twice_at_once_and_again_later_changes_nothing_more(pair, packed):
    sender, receiver = pair

    both = await asyncio.gather(receive(receiver, packed.root), receive(receiver, packed.root))
    first = await done(receiver, both[0]["uuid"])
    again = await receive(receiver, packed.root)
    second = await done(receiver, again["uuid"])

    assert {each["uuid"] for each in (*both, again)} == {packed.head.uuid}
    assert (first["held_files"], second["held_files"], second["bad_files"]) == (6, 6, 0)
    assert len(await receiver.incoming()) == 6
    await shows(sender, ("confirmed", 6, 0))


async def test_a_drive_for_another_site_is_refused_unless_told(pair, packed):
    sender, receiver = pair
    other = changed(packed, to="keck")

    refused = await receive(receiver, other.root, status=400)
    begun = await receive(receiver, other.root, although_for="keck")
    found = await done(receiver, begun["uuid"])

    assert "is for keck" in refused["message"]
    assert (found["held_files"], found["tells"]) == (6, False)
    assert await drive_of(sender) == ("in transit", 0, 0)


async def test_a_truncated_and_a_forged_manifest_are_refused(pair, packed):
    _, receiver = pair
    whole = (packed.root / MANIFEST).read_bytes()

    (packed.root / MANIFEST).write_bytes(whole[:-400])
    truncated = await receive(receiver, packed.root, status=422)
    (packed.root / MANIFEST).write_bytes(whole.replace(b"obs/001", b"obs/111"))
    altered = await receive(receiver, packed.root, status=422)
    forged = seal(replace(packed, key=SigningKey(SigningKey.mint())))
    unsigned = await receive(receiver, forged.root, status=422)

    assert [each["code"] for each in (truncated, altered, unsigned)] == ["manifest_damaged"] * 3


async def test_a_drive_that_a_stranger_signed_needs_its_fingerprint(pair, packed):
    _, receiver = pair
    key = SigningKey(SigningKey.mint())
    strange = changed(replace(packed, key=key), key=key.public)

    refused = await receive(receiver, strange.root, status=400)
    wrong = await receive(receiver, strange.root, status=400, trust=fingerprint(packed.head.key))
    begun = await receive(receiver, strange.root, trust=fingerprint(key.public).lower())
    found = await done(receiver, begun["uuid"])

    assert fingerprint(key.public) in refused["message"]
    assert "not by" in wrong["message"]
    assert (found["held_files"], found["tells"]) == (6, False)


async def test_a_sender_that_becomes_a_peer_later_is_told_of_all_when_the_drive_is_received_again(pair, packed):
    sender, receiver = pair
    async with receiver.site.catalog.begin() as tx:
        await tx.peers.remove((await tx.peers.get("chajnantor")).id)
    begun = await receive(receiver, packed.root, trust=fingerprint(packed.head.key))
    untold = await done(receiver, begun["uuid"])

    await receiver.knows(sender)
    await introduce_key(sender, receiver)
    told = await done(receiver, (await receive(receiver, packed.root))["uuid"])

    assert (untold["held_files"], untold["tells"], told["held_files"], told["tells"]) == (6, False, 6, True)
    await shows(sender, ("confirmed", 6, 0))


async def test_a_copy_of_a_drive_and_one_that_was_used_again_are_refused(pair, packed):
    _, receiver = pair
    identity = packed.root / ".librarian-store"

    identity.write_text(identity.read_text().replace('"generation": 3', '"generation": 9'))
    used_again = await receive(receiver, packed.root, status=409)
    identity.unlink()
    copied = await receive(receiver, packed.root, status=409)

    assert "used again" in used_again["message"]
    assert "no identity" in copied["message"]


async def test_entries_that_are_bad_are_told_with_their_member_and_travel_again_on_the_next_drive(
    pair, packed, tmp_path
):
    sender, receiver = pair
    spoil(packed.root / "obs/book/spectra/two")
    spoil(packed.root / "obs/001")
    (packed.root / "obs/002").unlink()
    (packed.root / "obs/002").symlink_to("003")

    begun = await receive(receiver, packed.root)
    found = await done(receiver, begun["uuid"])
    await shows(sender, ("received", 3, 3))
    bad = await bad_of(receiver, begun["uuid"])
    second = await pack(sender, ["obs/book", "obs/001", "obs/002"], tmp_path / "second", to="nersc", drive="A08")
    await done(receiver, (await receive(receiver, second.root))["uuid"])

    assert (found["held_files"], found["bad_files"]) == (3, 3)
    assert sorted(each[:2] for each in bad) == [
        ("obs/001", "entry_differs"),
        ("obs/002", "entry_missing"),
        ("obs/book", "entry_differs"),
    ]
    assert {"spectra/two"} == {member for name, _, member in bad if name == "obs/book"}
    await shows(sender, ("confirmed", 3, 0), "A08")
    await shows(sender, ("confirmed", 3, 3))


async def test_what_was_bad_on_a_drive_is_no_copy_of_ours_any_more(pair, packed):
    sender, receiver = pair
    spoil(packed.root / "obs/001")

    await receive(receiver, packed.root)
    await shows(sender, ("received", 5, 1))

    async with sender.site.catalog.read() as tx:
        copies = await tx.instances.of_files([(await sender.file("obs/001")).id])
    assert {copy.store: copy.presence.value for copy in copies} == {"A07": "corrupt", "fast": "present"}


async def test_a_file_that_came_over_the_network_first_is_recognised_on_the_drive(pair, packed):
    sender, receiver = pair
    await sender.replicates_to(receiver, match=("obs/00*",))
    await sender.knows_copies_at(receiver, list(FILES))

    assert await drive_of(sender) == ("in transit", 5, 0)
    begun = await receive(receiver, packed.root)
    found = await done(receiver, begun["uuid"])

    assert (found["held_files"], found["known_files"]) == (6, 5)
    await shows(sender, ("confirmed", 6, 0))


async def test_a_file_that_came_on_a_drive_first_is_not_sent(pair, packed):
    sender, receiver = pair
    await done(receiver, (await receive(receiver, packed.root))["uuid"])
    await shows(sender, ("confirmed", 6, 0))

    await sender.replicates_to(receiver, match=("obs/*",))
    await sender.knows_copies_at(receiver, ALL)

    assert {transfer.batch_id for transfer in await sender.outgoing()} == {None}
    assert await sender.dues(ALL) == ()


async def test_one_file_on_two_drives_at_once_is_held_once(pair, packed, tmp_path):
    sender, receiver = pair
    second = await pack(sender, ALL, tmp_path / "second", to="nersc", drive="A08")

    begun = await asyncio.gather(receive(receiver, packed.root), receive(receiver, second.root))
    found = [await done(receiver, each["uuid"]) for each in begun]

    assert [each["held_files"] for each in found] == [6, 6]
    await shows(sender, ("confirmed", 6, 0))
    await shows(sender, ("confirmed", 6, 0), "A08")
    async with receiver.site.catalog.read() as tx:
        held = await tx.tallies.of("held")
    assert held.files == 6


async def test_a_drive_that_is_away_waits_and_goes_on_where_it_is_plugged_in_again(pair, packed):
    _, receiver = pair
    elsewhere = packed.root.with_name("elsewhere")
    async with receiver.site.catalog.begin() as tx:
        await tx.stores.set_open("fast", is_open=False)
    begun = await receive(receiver, packed.root)
    await waits(receiver, begun["uuid"], "room")
    packed.root.rename(elsewhere)
    receiver.site.bells.ring("receive")
    await waits(receiver, begun["uuid"], "cannot be read")
    async with receiver.site.catalog.begin() as tx:
        await tx.stores.set_open("fast", is_open=True)

    await receive(receiver, elsewhere)
    found = await done(receiver, begun["uuid"])

    assert (found["held_files"], found["path"], found["reason"]) == (6, str(elsewhere), None)
    assert await receiver.alerts() == ()


@pytest.mark.parametrize("is_restored", [False, True])
async def test_a_notice_that_comes_after_three_months_confirms_the_drive(pair, packed, is_restored):
    sender, receiver = pair
    async with receiver.site.catalog.begin() as tx:
        await tx.peers.enable((await tx.peers.get("chajnantor")).id, is_enabled=False)
    async with sender.site.catalog.begin() as tx:
        await tx.peers.enable((await tx.peers.get("nersc")).id, is_enabled=False)
    await done(receiver, (await receive(receiver, packed.root))["uuid"])
    for party in pair:
        await age(party, timedelta(days=92))
    if is_restored:
        async with sender.site.catalog.begin() as tx:
            await mark_restored(tx, "a test")

    assert await drive_of(sender) == ("in transit", 0, 0)
    for party, other in ((sender, "nersc"), (receiver, "chajnantor")):
        async with party.site.catalog.begin() as tx:
            await tx.peers.enable((await tx.peers.get(other)).id, is_enabled=True)
        party.site.bells.ring("reconcile")
        party.site.bells.ring("deliver")

    await shows(sender, ("confirmed", 6, 0))


async def age(party, by: timedelta) -> None:
    """Let everything that *party* remembers have happened earlier."""
    engine = make_engine(party.site.settings.database)
    micros = int(by / timedelta(microseconds=1))
    async with engine.begin() as connection:
        for table in ("outgoing_transfers", "incoming_transfers", "outbox", "receptions"):
            await connection.execute(text(f"UPDATE {table} SET created_at = created_at - {micros}"))
        for table in ("outgoing_transfers", "incoming_transfers", "receptions"):
            await connection.execute(text(f"UPDATE {table} SET progressed_at = progressed_at - {micros}"))
    await engine.dispose()


async def test_a_drive_that_is_given_up_is_read_no_further(pair, packed):
    sender, receiver = pair
    async with receiver.site.catalog.begin() as tx:
        await tx.stores.set_open("fast", is_open=False)
    begun = await receive(receiver, packed.root)
    await waits(receiver, begun["uuid"], "room")

    reply = await receiver.live.call("POST", f"/api/v1/receptions/{packed.head.drive}/cancel")

    assert (reply.json["state"], reply.json["is_done"]) == ("cancelled", True)
    assert await drive_of(sender) == ("in transit", 0, 0)


async def test_a_store_without_room_lets_the_drive_wait_and_then_go_on_by_itself(pair, packed):
    sender, receiver = pair
    async with receiver.site.catalog.begin() as tx:
        await tx.stores.set_open("fast", is_open=False)
    begun = await receive(receiver, packed.root)
    await waits(receiver, begun["uuid"], "room")
    told = [alert.message for alert in await receiver.alerts()]

    async with receiver.site.catalog.begin() as tx:
        await tx.stores.set_open("fast", is_open=True)
    await done(receiver, begun["uuid"])

    assert any("A07" in message for message in told)
    assert await receiver.alerts() == ()
    await shows(sender, ("confirmed", 6, 0))
