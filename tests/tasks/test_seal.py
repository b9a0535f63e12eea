"""Sealing: what is on a drive is listed and signed, once, wherever it was interrupted."""

import json

import pytest

from librarian import guard, manifest, pairing, releasing, sealing
from librarian.errors import Conflict, NotFound, StoreUnavailable, WrongState
from librarian.names import FileName, SiteName
from librarian.states import DriveState, TransferState
from librarian.stores import examining
from librarian.stores.identity import Identity
from librarian.tasks.seal import Seal
from tests.carrying import (
    A07,
    CONTENTS,
    NERSC,
    add_peer,
    drive_of,
    go_on_sealing,
    lay,
    look_for_drives,
    make_drive,
    manifest_of,
    outgoing_of,
    seal,
)


@pytest.fixture
def media(tmp_path):
    """A folder in the place of a disk."""
    return tmp_path / "media"


@pytest.fixture
async def loaded(site, media):
    """The site, with a drive on which something is, and a peer."""
    await make_drive(site, media, is_folder=True)
    await lay(site, media)
    await add_peer(site)
    return site


async def test_a_sealed_drive_bears_a_signed_list_of_what_is_on_it(loaded, media):
    await seal(loaded)

    found = manifest.open_manifest(media / manifest.NAME)
    entries = {entry.name: entry for entry in found.entries()}
    assert found.head.key == (await pairing.signing_key(loaded)).public
    assert (found.head.drive, found.head.to, found.head.sender.name) == ("A07", "nersc", "chajnantor")
    assert (found.head.files, found.head.bytes) == (3, 11 + 1003 + 1)
    assert set(entries) == set(CONTENTS)
    assert [path for path, _, _ in sorted(entries["2026/11/book"].members)] == ["c", "deep/a", "deep/b"]
    assert (await drive_of(loaded)).state is DriveState.SEALED


async def test_the_manifest_names_the_drive_as_its_identity_does(loaded, media):
    await seal(loaded)

    head = manifest.open_manifest(media / manifest.NAME).head
    assert (head.store, head.generation) == (
        examining.claim_at(media).identity.uuid,
        examining.claim_at(media).identity.generation,
    )


async def test_everything_on_the_drive_is_on_its_way(loaded, media):
    await seal(loaded)

    entries = manifest.open_manifest(media / manifest.NAME).entries()
    transfers = await outgoing_of(loaded)
    assert {each.uuid for each in transfers} == {entry.uuid for entry in entries}
    assert {each.state for each in transfers} == {TransferState.ONGOING}
    assert {each.batch_id for each in transfers} == {None}


async def test_the_catalog_gives_the_same_manifest_again_and_again(loaded, media):
    await seal(loaded)
    record = await manifest_of(loaded)

    copies = [b"".join([part async for part in sealing.exported(loaded, record)]) for _ in range(2)]

    assert copies == [(media / manifest.NAME).read_bytes()] * 2
    assert (record.files, record.bytes) == (3, 1015)


async def test_sealing_again_changes_nothing(loaded, media):
    await seal(loaded)
    before = (media / manifest.NAME).read_bytes(), await manifest_of(loaded), await drive_of(loaded)

    await seal(loaded)

    assert ((media / manifest.NAME).read_bytes(), await manifest_of(loaded), await drive_of(loaded)) == before


async def test_a_long_list_is_written_in_portions_and_goes_on_after_a_crash_between_two(loaded, media, monkeypatch):
    monkeypatch.setattr("librarian.tasks.seal.FILES", 2)
    monkeypatch.setattr("librarian.sealing.PARTS", 1)
    await lay(loaded, media, {f"night/{number:02}": b"x" * number for number in range(9)})
    passed = []

    def end(step):
        passed.append(step)
        if (step, passed.count(step)) in (("portion listed", 2), ("manifest half written", 3)):
            raise SystemExit(step)

    monkeypatch.setattr(guard, "_on_step", [end])
    with pytest.raises(SystemExit):
        await seal(loaded)
    with pytest.raises(SystemExit):
        await go_on_sealing(loaded)
    await look_for_drives(loaded)
    await go_on_sealing(loaded)

    found = manifest.open_manifest(media / manifest.NAME)
    assert passed.count("portion listed") == 6
    assert len({entry.name for entry in found.entries()}) == 12
    assert sorted(entry.uuid for entry in found.entries()) == sorted(each.uuid for each in await outgoing_of(loaded))


async def test_what_is_not_good_any_more_is_not_listed(loaded, media):
    async with loaded.catalog.begin() as tx:
        found = await tx.files.named([FileName("top")])
        await tx.suspects.mark([file.id for file in found.values()], store=A07)

    await seal(loaded)

    assert {entry.name for entry in manifest.open_manifest(media / manifest.NAME).entries()} == set(CONTENTS) - {"top"}


async def test_a_drive_that_is_away_is_sealed_when_it_is_back(loaded, media):
    await sealing.begin(loaded, A07, peer=NERSC, who="ana", is_unasked=True)
    away = media.rename(media.with_name("away"))
    await look_for_drives(loaded)
    await go_on_sealing(loaded)
    assert (await drive_of(loaded)).state is DriveState.SEALING

    away.rename(media)
    await look_for_drives(loaded)
    await go_on_sealing(loaded)

    assert (await drive_of(loaded)).state is DriveState.SEALED


async def test_an_empty_mount_point_gets_no_manifest(loaded, media):
    await sealing.begin(loaded, A07, peer=NERSC, who="ana", is_unasked=True)
    away = media.rename(media.with_name("away"))
    media.mkdir()

    await go_on_sealing(loaded)

    assert (await drive_of(loaded)).state is DriveState.SEALING
    assert list(media.iterdir()) == []
    assert not (away / manifest.NAME).exists()


async def test_a_drive_that_is_stamped_meanwhile_is_sealed_once_more(loaded, media):
    await sealing.begin(loaded, A07, peer=NERSC, who="ana", is_unasked=True)
    stamped = Identity(uuid=(await drive_of(loaded)).uuid, generation=99)
    examining.found(media, stamped)

    await go_on_sealing(loaded)

    assert manifest.open_manifest(media / manifest.NAME).head.generation == 99


async def test_a_drive_goes_to_one_peer(loaded):
    await add_peer(loaded, SiteName("other"))
    await seal(loaded)

    with pytest.raises(Conflict, match="sealed for 'nersc'"):
        await sealing.begin(loaded, A07, peer=SiteName("other"), who="ana")


async def test_only_a_drive_that_is_there_and_carries_something_is_sealed_for_somebody(site, media):
    await make_drive(site, media, is_folder=True)
    with pytest.raises(WrongState, match="nothing is on"):
        await sealing.begin(site, A07, peer=NERSC, who="ana", is_unasked=True)
    await lay(site, media)
    with pytest.raises(NotFound):
        await sealing.begin(site, A07, peer=NERSC, who="ana", is_unasked=True)
    media.rename(media.with_name("away"))
    await look_for_drives(site)

    with pytest.raises(StoreUnavailable, match="not plugged in"):
        await sealing.begin(site, A07, peer=NERSC, who="ana", is_unasked=True)


async def test_the_story_of_a_drive_tells_who_sealed_it_for_whom(loaded):
    await seal(loaded)

    async with loaded.catalog.read() as tx:
        story = await tx.events.story_of("drive:A07")
    assert [(each.what, each.who) for each in story][-2:] == [("sealing", "ana"), ("sealed", "ana")]
    assert story[-1].why == "for nersc: 3 files, 1,015 bytes"


async def test_every_line_is_of_the_public_form(loaded, media):
    await seal(loaded)

    first, *_, last = [json.loads(line) for line in (media / manifest.NAME).read_text().splitlines()]
    assert first["librarian_manifest"] == 1
    assert last["blake3"]


async def test_a_drive_that_is_given_up_while_it_is_sealed_opens_no_transfer(loaded, media):
    await sealing.begin(loaded, A07, peer=NERSC, who="ana", is_unasked=True)
    portion = await Seal(loaded)._read(await drive_of(loaded))
    await releasing.lose(loaded, A07, who="ana")

    with pytest.raises(WrongState, match="given up meanwhile"):
        await Seal(loaded).carry_out(portion)
    await go_on_sealing(loaded)

    assert await outgoing_of(loaded) == ()
    assert not (media / manifest.NAME).exists()
