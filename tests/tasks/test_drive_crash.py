"""Drives of a site whose catalog was put back from a backup."""

import pytest

from librarian import manifest, sealing
from librarian.states import DriveState
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


@pytest.fixture
def media(tmp_path):
    """A folder in the place of a disk."""
    return tmp_path / "media"


@pytest.fixture
async def opened(sqlite_url, tmp_path, media):
    """Opens the site, with a loaded drive and a peer, again and again."""
    folder = tmp_path / "chajnantor"

    async with opened_site(sqlite_url, folder) as site:
        await make_drive(site, media, is_folder=True)
        await lay(site, media)
        await add_peer(site)
    return lambda: opened_site(sqlite_url, folder)


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
