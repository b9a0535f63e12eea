"""The end of a drive's journey: released, lost, wiped for its next round; nothing is lost that nobody gave up."""

import json

import pytest

from librarian import confirming, manifest, releasing, replication
from librarian.catalog.remote_instances import Attestation
from librarian.errors import Conflict, StoreUnavailable, WrongState
from librarian.names import FileName, SiteName, StoreName
from librarian.states import DriveState, Presence, TransferState
from librarian.stores import examining
from librarian.stores.identity import Identity
from librarian.tasks.clear import Clear
from librarian.tasks.wipe import Wipe
from librarian.timing import plenty_of_time, utc_now
from tests.carrying import (
    A07,
    CONTENTS,
    NERSC,
    add_peer,
    drive_of,
    lay,
    look_for_drives,
    make_drive,
    manifest_of,
    outgoing_of,
    seal,
)
from tests.holding import hold
from tests.loading import load, rule


@pytest.fixture
def media(tmp_path):
    """A folder in the place of a disk."""
    return tmp_path / "media"


@pytest.fixture
async def sealed(site, media):
    """The site, with a drive that is sealed for a peer."""
    await make_drive(site, media, is_folder=True)
    await lay(site, media)
    await add_peer(site)
    await seal(site)
    return site


async def confirm(site, *names, at=NERSC):
    async with site.catalog.begin() as tx:
        peer = await tx.peers.get(at)
        files = await tx.files.named([FileName(name) for name in names])
        told = [
            Attestation(file_id=file.id, store="tape", is_held=True, seq=number + 1)
            for number, file in enumerate(files.values())
        ]
        await tx.remote_instances.attest(peer.id, told, epoch=1)
        await tx.copies_due.paid(peer.id, [file.id for file in files.values()])


async def clear(site):
    await Clear(site).run_pass(plenty_of_time())


async def wipe(site):
    await Wipe(site).run_pass(plenty_of_time())


async def presences(site):
    async with site.catalog.read() as tx:
        files = await tx.files.named([FileName(name) for name in CONTENTS])
        return {copy.presence for copy in await tx.instances.of_files([file.id for file in files.values()])}


async def held(site):
    async with site.catalog.read() as tx:
        return (await tx.tallies.of("held")).files


async def test_a_drive_whose_peer_holds_everything_is_released(sealed, media):
    await confirm(sealed, *CONTENTS)

    await releasing.release(sealed, A07, lose=0, who="ana")
    await clear(sealed)

    drive = await drive_of(sealed)
    assert (drive.state, drive.who, drive.files, drive.bytes) == (DriveState.RELEASED, "ana", 0, 0)
    assert await presences(sealed) == {Presence.REMOVED}
    assert await held(sealed) == 0
    assert A07 not in sealed.stores
    assert (media / "top").exists()


@pytest.mark.parametrize(
    ("end", "code"), [("release", "withdrawn"), ("lose", "missing"), ("release beside another copy", None)]
)
async def test_who_was_told_of_a_copy_hears_when_the_last_one_was_on_a_drive_that_is_gone(sealed, end, code):
    await confirm(sealed, *CONTENTS)
    async with sealed.catalog.begin() as tx:
        peer = await tx.peers.get(NERSC)
        (file,) = (await tx.files.named([FileName("top")])).values()
        await replication.tell_held(tx, [replication.held_note(peer.id, file)])
        (held,) = await tx.outbox.waiting(peer.id, now=utc_now(), limit=10)
        await tx.outbox.acknowledge([held.id])
    if end.endswith("copy"):
        await lay(sealed, sealed.stores.lookup("fast").root, store="fast", is_known=True)

    if end == "lose":
        await releasing.lose(sealed, A07, who="ana")
    else:
        await releasing.release(sealed, A07, lose=0, who="ana")
    await clear(sealed)
    await clear(sealed)

    async with sealed.catalog.read() as tx:
        told = [note for note in await tx.outbox.waiting(peer.id, now=utc_now(), limit=10) if note.state == "gone"]
    assert [(note.subject, json.loads(note.body)["code"]) for note in told] == ([] if code is None else [("top", code)])


async def test_what_is_not_confirmed_is_named_and_keeps_the_drive(sealed):
    await confirm(sealed, "top", "2026/11/one")

    with pytest.raises(Conflict) as refused:
        await releasing.release(sealed, A07, lose=0, who="ana")

    assert "1 is not confirmed" in refused.value.message
    assert "2026/11/book" in refused.value.message
    assert "--lose 1" in refused.value.remedy
    assert (await drive_of(sealed)).state is DriveState.SEALED


async def test_what_is_not_confirmed_is_given_up_by_its_number_alone(sealed):
    await confirm(sealed, "top")
    with pytest.raises(Conflict):
        await releasing.release(sealed, A07, lose=3, who="ana")

    await releasing.release(sealed, A07, lose=2, who="ana")
    await clear(sealed)

    assert (await drive_of(sealed)).state is DriveState.RELEASED
    assert {each.state for each in await outgoing_of(sealed)} == {TransferState.FAILED}


async def test_a_copy_elsewhere_is_not_the_last_one(sealed):
    async with sealed.catalog.read() as tx:
        before = await releasing.stakes_of(tx, await tx.drives.get(A07))
    await lay(sealed, sealed.stores.lookup("fast").root, store="fast", is_known=True)

    async with sealed.catalog.read() as tx:
        after = await releasing.stakes_of(tx, await tx.drives.get(A07))

    assert (before.unconfirmed_files, before.last_files, after.last_files) == (3, 3, 0)


async def test_what_was_loaded_and_came_another_way_to_all_that_it_was_for_is_no_loss(site, media):
    berkeley = SiteName("berkeley")
    for name in ("a", "b", "c"):
        await hold(site, name, b"truth")
    for peer in (NERSC, berkeley):
        await add_peer(site, peer)
        await rule(site, "A*", name=peer, peer=peer)
    await make_drive(site, media, is_folder=True)
    await load(site)

    await confirm(site, "a", "b")
    await confirm(site, "a", at=berkeley)

    async with site.catalog.read() as tx:
        stakes = await releasing.stakes_of(tx, await tx.drives.get(A07))
    assert (stakes.files, stakes.unconfirmed_files, stakes.last_files) == (3, 2, 0)


async def test_the_copies_of_a_lost_drive_are_missing(sealed, media):
    await releasing.lose(sealed, A07, who="ana")
    await clear(sealed)

    assert (await drive_of(sealed)).state is DriveState.LOST
    assert await presences(sealed) == {Presence.MISSING}
    assert {each.code for each in await outgoing_of(sealed)} == {"drive_lost"}
    assert A07 not in sealed.stores


async def test_a_lost_drive_that_is_found_is_released_once_nothing_is_on_it_alone(sealed, media):
    await confirm(sealed, "top")
    await releasing.lose(sealed, A07, who="ana")
    await clear(sealed)
    await look_for_drives(sealed)
    with pytest.raises(Conflict) as refused:
        await releasing.release(sealed, A07, lose=0, who="ana")
    await lay(sealed, sealed.stores.lookup("fast").root, store="fast", is_known=True)

    await releasing.release(sealed, A07, lose=0, who="ana")

    assert "of 2 of them no other copy is known (2026/11/one, 2026/11/book)" in refused.value.message
    assert (await drive_of(sealed)).state is DriveState.RELEASED


async def test_two_drives_that_are_given_up_do_not_answer_for_each_other(sealed, tmp_path):
    other = StoreName("A08")
    await make_drive(sealed, tmp_path / "other", other, is_folder=True)
    await lay(sealed, tmp_path / "other", store=other, is_known=True)
    await releasing.lose(sealed, A07, who="ana")
    await releasing.lose(sealed, other, who="ana")

    with pytest.raises(Conflict, match="of 3 of them no other copy is known"):
        await releasing.release(sealed, A07, lose=0, who="ana")
    await releasing.release(sealed, A07, lose=3, who="ana")
    with pytest.raises(Conflict, match="of 3 of them no other copy is known"):
        await releasing.release(sealed, other, lose=0, who="ana")


async def test_a_lost_drive_that_arrives_after_all_is_confirmed_with_all_that_it_carries(sealed):
    await releasing.lose(sealed, A07, who="ana")
    await clear(sealed)

    await confirm(sealed, *CONTENTS)
    async with sealed.catalog.begin() as tx:
        files = await tx.files.named([FileName(name) for name in CONTENTS])
        peer = await tx.peers.get(NERSC)
        await confirming.drives_confirmed(tx, peer.id, [file.id for file in files.values()], who=NERSC)

    carried = await manifest_of(sealed)
    assert (await drive_of(sealed)).state is DriveState.CONFIRMED
    assert (carried.confirmed_files, carried.confirmed_bytes) == (3, carried.bytes)


async def test_a_released_drive_begins_its_next_round_empty(sealed, media):
    before = await drive_of(sealed)
    await confirm(sealed, *CONTENTS)
    await releasing.release(sealed, A07, lose=0, who="ana")
    await clear(sealed)
    (media / "lost+found").mkdir()

    await releasing.reuse(sealed, A07, lose=0, who="ana")
    await wipe(sealed)
    await look_for_drives(sealed)

    after = await drive_of(sealed)
    assert (after.state, after.round, after.uuid) == (DriveState.LOADING, 2, before.uuid)
    assert after.generation > before.generation
    assert sealed.stores.lookup(A07).problem is None
    assert {each.name for each in media.iterdir()} == {".librarian-store", ".librarian-staging", "lost+found"}


async def test_what_is_known_nowhere_else_is_named_before_a_drive_is_wiped(sealed, media):
    await releasing.release(sealed, A07, lose=3, who="ana")
    await clear(sealed)
    for name in ("2026/11/extra", "2026/10/notes", b"2026/11/\xff".decode(errors="surrogateescape")):
        (media / name).parent.mkdir(exist_ok=True)
        (media / name).write_bytes(b"only here")
    with pytest.raises(Conflict, match=r"of 3 files .*\\xff") as refused:
        await releasing.reuse(sealed, A07, lose=0, who="ana")
    await lay(sealed, sealed.stores.lookup("fast").root, {"2026/11/extra": b"here as well"}, store="fast")

    with pytest.raises(Conflict, match="2 files"):
        await releasing.reuse(sealed, A07, lose=3, who="ana", dry_run=True)
    await releasing.reuse(sealed, A07, lose=2, who="ana", dry_run=True)
    kept = (await drive_of(sealed)).state
    await releasing.reuse(sealed, A07, lose=2, who="ana")
    await wipe(sealed)

    assert "--lose 3" in refused.value.remedy
    assert kept is DriveState.RELEASED
    assert [path.name for path in media.iterdir()] == [".librarian-store"]


async def test_what_its_peer_has_lost_since_is_named_before_a_released_drive_is_wiped(sealed, media):
    await confirm(sealed, *CONTENTS)
    await releasing.release(sealed, A07, lose=0, who="ana")
    await clear(sealed)
    async with sealed.catalog.begin() as tx:
        peer = await tx.peers.get(NERSC)
        file = (await tx.files.named([FileName("top")]))[FileName("top")]
        await tx.remote_instances.attest(
            peer.id, [Attestation(file_id=file.id, store="tape", is_held=False, seq=9)], epoch=1
        )

    with pytest.raises(Conflict, match=r"of 1 file .* no other copy is known \(top\)"):
        await releasing.reuse(sealed, A07, lose=0, who="ana")
    await releasing.reuse(sealed, A07, lose=1, who="ana", dry_run=True)


async def test_what_was_missing_on_a_drive_is_removed_once_it_is_wiped(sealed, media):
    await releasing.lose(sealed, A07, who="ana")
    await clear(sealed)
    await look_for_drives(sealed)
    await releasing.release(sealed, A07, lose=3, who="ana")
    assert await presences(sealed) == {Presence.MISSING}

    await releasing.reuse(sealed, A07, lose=0, who="ana")
    await wipe(sealed)

    assert await presences(sealed) == {Presence.REMOVED}


async def test_the_second_round_has_a_manifest_of_its_own(sealed, media):
    first = manifest.open_manifest(media / manifest.NAME).head
    await confirm(sealed, *CONTENTS)
    await releasing.release(sealed, A07, lose=0, who="ana")
    await clear(sealed)
    await releasing.reuse(sealed, A07, lose=0, who="ana")
    await wipe(sealed)
    await look_for_drives(sealed)
    await lay(sealed, media, {"second": b"round"})

    await seal(sealed)

    second = manifest.open_manifest(media / manifest.NAME).head
    assert (second.round, second.files, second.store) == (2, 1, first.store)
    assert second.generation > first.generation
    assert second.uuid != first.uuid


async def test_a_drive_that_was_not_released_is_never_wiped(sealed, media):
    with pytest.raises(WrongState, match="is not wiped"):
        await releasing.reuse(sealed, A07, lose=0, who="ana")
    await wipe(sealed)

    assert (media / "top").exists()


async def test_a_drive_that_is_still_mounted_read_only_is_not_begun_to_be_wiped(site, disks, media):
    disk = disks.new("A07")
    await make_drive(site, disk.plug(media))
    await releasing.release(site, A07, lose=0, who="ana")
    disk.unplug()
    disk.plug(media, read_only=True)
    await look_for_drives(site)

    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await releasing.reuse(site, A07, lose=0, who="ana")

    assert (await drive_of(site)).state is DriveState.RELEASED


async def test_a_copy_of_a_released_drive_is_never_wiped(sealed, media):
    await confirm(sealed, *CONTENTS)
    await releasing.release(sealed, A07, lose=0, who="ana")
    await clear(sealed)
    other = Identity(uuid=(await drive_of(sealed)).uuid, generation=99)
    examining.found(media, other)

    with pytest.raises(StoreUnavailable, match="is not the drive"):
        await releasing.reuse(sealed, A07, lose=0, who="ana")

    assert (media / "top").exists()


async def test_another_drive_that_took_its_place_meanwhile_is_not_wiped(sealed, media):
    await confirm(sealed, *CONTENTS)
    await releasing.release(sealed, A07, lose=0, who="ana")
    await clear(sealed)
    await releasing.reuse(sealed, A07, lose=0, who="ana")
    examining.found(media, Identity.mint(1))

    await wipe(sealed)

    assert (media / "top").exists()
    assert (await drive_of(sealed)).state is DriveState.WIPING


async def test_releasing_and_losing_may_be_repeated(sealed):
    await releasing.lose(sealed, A07, who="ana")
    await releasing.lose(sealed, A07, who="ben")
    assert (await drive_of(sealed)).who == "ana"
    await clear(sealed)
    await releasing.release(sealed, A07, lose=3, who="ana")

    await releasing.release(sealed, A07, lose=0, who="ben")

    assert (await drive_of(sealed)).who == "ana"
