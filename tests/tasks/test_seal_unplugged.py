"""Sealing a real disk that is pulled out meanwhile, and plugged in again elsewhere."""

import pytest

from librarian import guard, manifest, sealing
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
)


@pytest.fixture
async def loaded(site, disks, tmp_path):
    """A disk that is a drive with something on it; its site knows a peer."""
    disk = disks.new("A07")
    media = disk.plug(tmp_path / "media")
    await make_drive(site, media)
    await lay(site, media)
    await add_peer(site)
    return disk


@pytest.mark.parametrize("step", ["sealing begun", "portion listed", "manifest half written"])
async def test_a_drive_that_is_pulled_out_while_it_is_sealed_is_sealed_when_it_is_back(
    site, loaded, tmp_path, monkeypatch, step
):
    seen = []

    def pull(name):
        if name == step and not seen:
            seen.append(name)
            loaded.unplug()

    monkeypatch.setattr(guard, "_on_step", [pull])
    await sealing.begin(site, A07, peer=NERSC, who="ana", is_unasked=True)
    await go_on_sealing(site)
    left = list((tmp_path / "media").iterdir())
    await look_for_drives(site)
    away = (await drive_of(site)).state, site.stores.lookup(A07).problem
    media = loaded.plug(tmp_path / "elsewhere")
    await look_for_drives(site)
    await go_on_sealing(site)

    assert (seen, left, away) == ([step], [], (DriveState.SEALING, "it is not plugged in"))
    found = manifest.open_manifest(media / manifest.NAME)
    assert (await drive_of(site)).state is DriveState.SEALED
    assert {entry.uuid for entry in found.entries()} == {each.uuid for each in await outgoing_of(site)}
    assert len(list(found.entries())) == 3
    assert sorted(each.name for each in media.iterdir() if each.name.startswith(".librarian")) == [
        ".librarian-manifest",
        ".librarian-staging",
        ".librarian-store",
    ]
