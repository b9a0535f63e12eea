"""A site that ends in the middle of sealing, releasing or wiping a drive goes on where it was."""

import contextlib

import pytest

from librarian import guard, manifest, releasing, sealing
from librarian.states import DriveState
from librarian.tasks.clear import Clear
from librarian.tasks.wipe import Wipe
from librarian.timing import plenty_of_time
from tests.carrying import (
    A07,
    NERSC,
    add_peer,
    drive_of,
    go_on_sealing,
    lay,
    look_for_drives,
    make_drive,
    outgoing_of,
    seal,
)
from tests.site_fixtures import opened_site

SEALING = ("sealing begun", "portion listed", "manifest half written", "manifest written", "manifest recorded")
ENDING = ("released", "copies forgotten", "wiping begun", "manifest removed", "drive wiped", "round begun")


class Ended(BaseException):
    """The process is gone: nobody handles this."""


@pytest.fixture
def ends_at(monkeypatch):
    """Let the site end when it first comes to a step."""

    def arrange(step):
        left = [step]

        def observe(name):
            if name in left:
                left.remove(name)
                raise Ended

        monkeypatch.setattr(guard, "_on_step", [observe])
        return left

    return arrange


@pytest.fixture
def media(tmp_path):
    """A folder in the place of a disk."""
    return tmp_path / "media"


@pytest.fixture
async def opened(sqlite_url, tmp_path, media):
    """Opens the site, with a loaded drive and a peer, again and again; whatever ends it ends it alone."""
    folder = tmp_path / "chajnantor"

    @contextlib.asynccontextmanager
    async def open_once():
        with contextlib.suppress(Ended):
            async with opened_site(sqlite_url, folder) as site:
                yield site

    async with open_once() as site:
        await make_drive(site, media, is_folder=True)
        await lay(site, media)
        await add_peer(site)
    return open_once


async def finish(site):
    """What an operator and the tasks do, from wherever the drive stands."""
    drive = await drive_of(site)
    if drive.state is DriveState.SEALED:
        await releasing.release(site, A07, lose=3, who="ana")
    await Clear(site).run_pass(plenty_of_time())
    if (await drive_of(site)).state is DriveState.RELEASED:
        await releasing.reuse(site, A07, who="ana")
    await Wipe(site).run_pass(plenty_of_time())
    await look_for_drives(site)


@pytest.mark.parametrize("step", SEALING)
async def test_a_drive_is_sealed_once_whenever_the_site_ends(opened, media, ends_at, step):
    left = ends_at(step)
    async with opened() as site:
        await look_for_drives(site)
        await seal(site)
    assert left == []

    async with opened() as site:
        await look_for_drives(site)
        await go_on_sealing(site)

        found = manifest.open_manifest(media / manifest.NAME)
        uuids = {entry.uuid for entry in found.entries()}
        assert (await drive_of(site)).state is DriveState.SEALED
        assert {each.uuid for each in await outgoing_of(site)} == uuids
        assert len(uuids) == found.head.files == 3


@pytest.mark.parametrize("step", ENDING)
async def test_a_drive_begins_its_next_round_once_whenever_the_site_ends(opened, media, ends_at, step):
    async with opened() as site:
        await look_for_drives(site)
        await seal(site)
    left = ends_at(step)
    async with opened() as site:
        await look_for_drives(site)
        await finish(site)
    assert left == []

    async with opened() as site:
        await look_for_drives(site)
        await finish(site)

        drive = await drive_of(site)
        assert (drive.state, drive.round, drive.files) == (DriveState.LOADING, 2, 0)
        assert {each.name for each in media.iterdir()} == {".librarian-store", ".librarian-staging"}
        assert site.stores.lookup(A07).problem is None


async def test_a_drive_that_a_restored_catalog_does_not_know_to_be_sealed_is_listed_anew(opened, media, tmp_path):
    catalog = tmp_path / "catalog.sqlite"
    kept = catalog.read_bytes()
    async with opened() as site:
        await look_for_drives(site)
        await seal(site)
    catalog.write_bytes(kept)

    async with opened() as site:
        await look_for_drives(site)
        before = (await drive_of(site)).state, site.stores.lookup(A07).problem
        await sealing.begin(site, A07, peer=NERSC, who="ana")
        await look_for_drives(site)
        await go_on_sealing(site)

        found = manifest.open_manifest(media / manifest.NAME)
        assert before == (DriveState.LOADING, "it bears a manifest already")
        assert (await drive_of(site)).state is DriveState.SEALED
        assert {entry.uuid for entry in found.entries()} == {each.uuid for each in await outgoing_of(site)}
