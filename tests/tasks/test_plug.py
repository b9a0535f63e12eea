"""Drives come and go: real disks, found wherever they are mounted, told from their copies, never in anybody's way."""

import pytest

from librarian import drives, mounts
from librarian.errors import BadRequest, Conflict, StoreUnavailable
from librarian.names import StoreName, Token
from librarian.states import DriveState
from librarian.stores import examining
from librarian.stores.drive import DriveStore, spec_of
from librarian.stores.identity import Identity
from librarian.tasks.plug import Plug
from librarian.timing import plenty_of_time
from tests.site_fixtures import opened_site

A07 = StoreName("A07")


@pytest.fixture
async def site(sqlite_url, tmp_path):
    """A site whose drives these are; no task runs."""
    async with opened_site(sqlite_url, tmp_path / "chajnantor") as opened:
        yield opened


def wanted_at(path, name=A07, *, is_folder=False):
    return drives.Wanted(name=name, path=path, full_at=980, is_folder=is_folder, who="ana")


async def make(site, path, name=A07, *, is_folder=False):
    return await drives.initiate(site, wanted_at(path, name, is_folder=is_folder))


async def look(plug):
    await plug.run_pass(plenty_of_time())


async def record(site, name=A07):
    async with site.catalog.read() as tx:
        return await tx.drives.get(name)


async def move(site, *states):
    drive = await record(site)
    async with site.catalog.begin() as tx:
        for state in states:
            assert await tx.drives.advance(drive.id, to=state, who="ana")


async def alerts(site):
    async with site.catalog.read() as tx:
        return {alert.cause: alert.message for alert in await tx.alerts.open_ones()}


async def story(site):
    async with site.catalog.read() as tx:
        return [each.what for each in await tx.events.story_of("drive:A07")]


async def test_a_drive_can_be_written_as_soon_as_it_is_made(site, disks, tmp_path):
    await make(site, disks.new("one").plug(tmp_path / "media"))

    await site.stores.lookup(A07).stage([Token.mint()])

    assert (await record(site)).is_plugged
    assert (await record(site)).filesystem == "ext4"


async def test_a_drive_that_is_pulled_out_is_alone_in_being_unavailable(site, disks, tmp_path):
    disk = disks.new("one")
    await make(site, disk.plug(tmp_path / "media"))
    plug = Plug(site)
    await look(plug)

    disk.unplug()
    await look(plug)

    assert site.stores.lookup(A07).problem == "it is not plugged in"
    assert [store.problem for store in site.stores.fixed()] == [None]
    assert not (await record(site)).is_plugged
    assert await alerts(site) == {}
    assert list((tmp_path / "media").iterdir()) == []


async def test_a_drive_is_found_wherever_it_is_mounted_next(site, disks, tmp_path):
    disk = disks.new("one")
    await make(site, disk.plug(tmp_path / "media"))
    disk.unplug()
    plug = Plug(site)
    await look(plug)

    disk.plug(tmp_path / "else where")
    await look(plug)

    assert site.stores.lookup(A07).problem is None
    assert (await record(site)).path == str(tmp_path / "else where")
    assert await story(site) == ["made", "plugged in", "unplugged", "plugged in"]


async def test_nothing_is_written_down_while_nothing_changes(site, disks, tmp_path):
    await make(site, disks.new("one").plug(tmp_path / "media"))
    plug = Plug(site)
    await look(plug)
    await look(plug)
    before = await record(site)

    await look(plug)

    assert await record(site) == before


async def test_a_start_takes_the_drives_that_are_plugged_in(sqlite_url, disks, tmp_path):
    folder = tmp_path / "chajnantor"
    async with opened_site(sqlite_url, folder) as site:
        await make(site, disks.new("one").plug(tmp_path / "media"))
    async with opened_site(sqlite_url, folder) as site:
        assert site.stores.lookup(A07).problem == "it is not plugged in"

        await look(Plug(site))

        assert site.stores.lookup(A07).problem is None


async def test_a_drive_bears_the_generation_of_its_catalog(site, disks, tmp_path):
    await make(site, disks.new("one").plug(tmp_path / "media"))
    plug = Plug(site)
    generation = await site.ownership.step()

    await look(plug)

    assert (await record(site)).generation == generation


async def test_a_copy_is_left_alone_and_told(site, disks, tmp_path):
    disk = disks.new("one")
    await make(site, disk.plug(tmp_path / "media"))
    disk.unplug()
    copy = disks.copy(disk, "copy")
    disk.plug(tmp_path / "media")
    plug = Plug(site)
    # It may have come back as another device.
    await look(plug)
    await site.ownership.step()
    await look(plug)
    await look(plug)

    copy.plug(tmp_path / "copy")
    await look(plug)

    assert site.stores.lookup(A07).root == tmp_path / "media"
    (message,) = (await alerts(site)).values()
    assert str(tmp_path / "copy") in message
    assert str(tmp_path / "media") in message


async def test_a_copy_that_is_plugged_in_alone_is_not_taken(site, disks, tmp_path):
    disk = disks.new("one")
    await make(site, disk.plug(tmp_path / "media"))
    disk.unplug()
    copy = disks.copy(disk, "copy")
    disk.plug(tmp_path / "media")
    plug = Plug(site)
    # It may have come back as another device.
    await look(plug)
    await site.ownership.step()
    await look(plug)
    disk.unplug()
    await look(plug)

    copy.plug(tmp_path / "media")
    await look(plug)

    assert site.stores.lookup(A07).problem == "it is not plugged in"
    assert list(await alerts(site)) == ["drive-copied:A07"]


async def test_the_alert_goes_when_the_copy_does(site, disks, tmp_path):
    disk = disks.new("one")
    await make(site, disk.plug(tmp_path / "media"))
    plug = Plug(site)
    await look(plug)
    disk.unplug()
    copy = disks.copy(disk, "copy")
    disk.plug(tmp_path / "media")
    copy.plug(tmp_path / "copy")
    await look(plug)
    copy.unplug()

    await look(plug)

    assert await alerts(site) == {}


async def test_a_drive_that_was_mounted_read_only_is_told_and_taken_when_it_can_be_written(site, disks, tmp_path):
    disk = disks.new("one")
    await make(site, disk.plug(tmp_path / "media"))
    disk.unplug()
    plug = Plug(site)
    await look(plug)
    disk.plug(tmp_path / "media", read_only=True)
    await look(plug)

    disk.remount("rw")
    await look(plug)

    assert site.stores.lookup(A07).problem is None
    assert await alerts(site) == {}


async def test_a_sealed_drive_is_in_transit_while_it_is_away_and_is_never_written(site, disks, tmp_path):
    disk = disks.new("one")
    await make(site, disk.plug(tmp_path / "media"))
    await move(site, DriveState.SEALING, DriveState.SEALED)
    disk.unplug()
    plug = Plug(site)

    await look(plug)
    away = await record(site)
    disk.plug(tmp_path / "media", read_only=True)
    await look(plug)

    assert away.state is DriveState.IN_TRANSIT
    assert (await record(site)).state is DriveState.SEALED
    assert await alerts(site) == {}
    with pytest.raises(StoreUnavailable, match="sealed"):
        await site.stores.lookup(A07).stage([Token.mint()])


async def test_a_sealed_drive_is_left_alone_until_something_is_mounted(site, disks, tmp_path, monkeypatch):
    changes = []
    # Of this machine: other tests mount and unmount.
    monkeypatch.setattr(mounts.Watch, "has_changed", lambda _: bool(changes))
    media = disks.new("one").plug(tmp_path / "media")
    await make(site, media)
    await move(site, DriveState.SEALING, DriveState.SEALED)
    plug = Plug(site)
    await look(plug)
    (media / ".librarian-store").unlink()

    await look(plug)
    unseen = (await record(site)).is_plugged
    changes.append("another disk")
    await look(plug)

    assert unseen
    assert (await record(site)).state is DriveState.IN_TRANSIT


def test_whatever_is_mounted_or_unmounted_is_noticed_without_touching_it(disks, tmp_path):
    disk, watch = disks.new("one"), mounts.Watch()

    disk.plug(tmp_path / "media")
    was_mounted = watch.has_changed()
    disk.unplug()

    assert (was_mounted, watch.has_changed()) == (True, True)


async def test_a_drive_that_is_ahead_shows_that_the_catalog_was_restored(site, disks, tmp_path):
    media = disks.new("one").plug(tmp_path / "media")
    await make(site, media)
    ahead = Identity(uuid=(await record(site)).uuid, generation=10_000)
    examining.found(media, ahead)
    await site.stores.put(DriveStore(spec_of(A07, media), rests_because="not looked at"))
    plug = Plug(site)

    await look(plug)
    await look(plug)
    await look(plug)

    assert list(await alerts(site)) == ["site:restored"]
    assert site.stores.lookup(A07).problem is None
    assert (await record(site)).generation > 10_000


@pytest.mark.parametrize("found", ["a letter", "a/deep/one", ".trash/1"])
async def test_a_place_that_holds_anything_becomes_no_drive(site, disks, tmp_path, found):
    media = disks.new("one").plug(tmp_path / "media")
    (media / found).parent.mkdir(parents=True, exist_ok=True)
    (media / found).touch()

    with pytest.raises(Conflict, match="not empty"):
        await make(site, media)

    assert (media / found).exists()
    assert not (media / ".librarian-store").exists()


async def test_a_folder_becomes_a_drive_when_that_is_said(site, tmp_path):
    (tmp_path / "media").mkdir()

    with pytest.raises(BadRequest, match="nothing is mounted"):
        await make(site, tmp_path / "media")
    await make(site, tmp_path / "media", is_folder=True)

    assert site.stores.lookup(A07).problem is None


async def test_a_place_that_cannot_be_written_becomes_no_drive(site, disks, tmp_path):
    media = disks.new("one").plug(tmp_path / "media", read_only=True)

    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await make(site, media)


async def test_making_a_drive_goes_on_after_a_crash_and_may_be_repeated(site, disks, tmp_path):
    media = disks.new("one").plug(tmp_path / "media")
    await make(site, media)
    uuid = (await record(site)).uuid

    await make(site, media)

    assert (await record(site)).uuid == uuid
    assert await story(site) == ["made", "plugged in"]


async def test_a_row_without_its_identity_file_is_finished(site, disks, tmp_path):
    media = disks.new("one").plug(tmp_path / "media")
    wanted = wanted_at(media)
    findings = examining.examine(media, A07)
    async with site.catalog.begin() as tx:
        await drives.row_of(tx, wanted, findings)

    await make(site, media)

    assert site.stores.lookup(A07).problem is None


async def test_another_disk_does_not_get_the_name_of_a_drive(site, disks, tmp_path):
    await make(site, disks.new("one").plug(tmp_path / "media"))
    other = disks.new("two").plug(tmp_path / "other")

    with pytest.raises(Conflict, match="already"):
        await make(site, other)
    with pytest.raises(Conflict, match="already"):
        await make(site, other, name=StoreName("a07"))
    with pytest.raises(Conflict, match="already"):
        await make(site, other, name=StoreName("fast"))

    assert not (other / ".librarian-store").exists()


async def test_a_drive_does_not_get_another_name(site, disks, tmp_path):
    media = disks.new("one").plug(tmp_path / "media")
    await make(site, media)

    with pytest.raises(Conflict, match="is the drive 'A07'"):
        await make(site, media, name=StoreName("A08"))


async def test_the_drive_of_another_librarian_is_left_alone(site, disks, tmp_path):
    media = disks.new("one").plug(tmp_path / "media")
    examining.found(media, Identity.mint(3))

    with pytest.raises(Conflict, match="another librarian"):
        await make(site, media)


async def test_a_drive_does_not_lie_in_a_store(site):
    store = site.stores.lookup("fast")

    with pytest.raises(Conflict, match="lie in each other"):
        await make(site, store.root / "drive", is_folder=True)


async def test_a_drive_does_not_lie_in_a_drive(site, tmp_path):
    inner = tmp_path / "media" / "2026"
    (tmp_path / "media").mkdir()
    await make(site, tmp_path / "media", is_folder=True)
    inner.mkdir()

    with pytest.raises(Conflict, match="lies in the drive or store at"):
        await make(site, inner, name=StoreName("A08"), is_folder=True)

    assert list(inner.iterdir()) == []


async def test_nothing_is_loaded_onto_a_drive_that_the_catalog_does_not_know_to_be_sealed(site, disks, tmp_path):
    media = disks.new("one").plug(tmp_path / "media")
    await make(site, media)
    (media / ".librarian-manifest").touch()

    await look(Plug(site))

    assert site.stores.lookup(A07).problem == "it bears a manifest already"
    with pytest.raises(StoreUnavailable):
        await site.stores.lookup(A07).stage([Token.mint()])
