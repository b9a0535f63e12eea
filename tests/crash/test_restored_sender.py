"""A drive whose sender's catalog is put back from a backup while it travels: what it carries is known again."""

import os
import shutil
import subprocess

import pytest

from librarian import manifest
from tests.crash.drives import CONTENTS, NAME, PEER, POWER, with_losses
from tests.crash.harness import until

LATE = "2026/11/late"


async def received(site, path, key):
    """Have *site* receive the drive at *path*, to the end."""
    body = {"path": str(path), "trust": manifest.fingerprint(key)}
    begun = await site.call("POST", "/api/v1/receptions", body)

    async def is_done():
        told = await site.call("GET", f"/api/v1/receptions/{begun['uuid']}")
        return told["is_done"] and told

    return await until(is_done)


def put_back(site, backup):
    """Have *site* go on from *backup*: its catalog alone, the stores stay as they are."""
    for path in (site.folder / "state").glob("catalog.sqlite*"):
        path.unlink()
    for path in (backup / "state").glob("catalog.sqlite*"):
        shutil.copy(path, site.folder / "state")


@pytest.mark.parametrize("heard", ["before", "after"])
@pytest.mark.parametrize("stage", ["new", "loaded"])
async def test_what_a_drive_carries_is_known_again_to_a_sender_from_a_backup(
    new_carrier, new_site, stages, tmp_path, stage, heard
):
    carrier, other = new_carrier(stage), new_site(PEER)
    site, drive = carrier.site, carrier.drive
    site.start()
    other.start()
    await site.ready()
    await other.ready()
    await other.knows(site)
    await site.knows(other)
    if stage == "new":
        await until(carrier.init)
    (tmp_path / "late").write_bytes(late := os.urandom(100_000))
    async with site.client() as client:
        await client.upload(tmp_path / "late", LATE)
    await carrier.comes_to(files=len(CONTENTS) + 1)
    await carrier.seal()
    site.kill()
    before = (drive.mounted / manifest.NAME).read_bytes()
    told = await received(other, drive.mounted, manifest.head_of(drive.mounted / manifest.NAME).key)
    if heard == "before":
        site.start()
        await carrier.comes_to(state="confirmed")
        site.kill()
    put_back(site, stages[stage].folder)
    site.start()
    await site.ready()

    await site.knows(other)
    if stage == "new":
        await until(carrier.init)
    found = await carrier.comes_to(state="confirmed")
    _, exported = await site.ask("GET", f"/api/v1/drives/{NAME}/manifest")
    refused, why = await site.ask("POST", f"/api/v1/drives/{NAME}/reuse", {})
    async with site.client() as client:
        described = await client.describe(LATE)

    assert (told["held_files"], found["files"]) == (len(CONTENTS) + 1, len(CONTENTS) + 1)
    assert exported == (drive.mounted / manifest.NAME).read_bytes() == before
    assert set((await carrier.outgoing()).values()) == {"completed"}
    assert [each.peer for each in described.remote_instances] == [PEER]
    assert (drive.mounted / LATE).read_bytes() == late
    assert refused == 409, why


async def test_a_drive_is_taken_up_once_whenever_its_server_is_lost(new_carrier, stages):
    carrier = new_carrier("sealed", has_disk=True)
    manifest_before = (carrier.drive.mounted / manifest.NAME).read_bytes()
    put_back(carrier.site, stages["loaded"].folder)
    # The backup was put back long before.
    subprocess.run(["sync", "--file-system", carrier.site.folder], check=True)

    steps = ("adoption begun", "portion adopted")
    await with_losses(carrier, POWER, steps, lambda: carrier.comes_to(state="sealed"))

    await carrier.assert_sealed()
    assert (carrier.drive.mounted / manifest.NAME).read_bytes() == manifest_before
