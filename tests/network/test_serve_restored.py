"""A catalog that comes back from a backup: noticed at start, told, and nothing is removed until somebody says so."""

import asyncio
import shutil
import subprocess
import sys
from datetime import timedelta

import pytest

from librarian.policies import HousekeepingPolicy
from librarian.states import TransferState
from librarian.tasks.housekeeping import Housekeeping
from librarian.timing import plenty_of_time
from tests.crash.harness import TOP
from tests.uploading import folder_of, open_one, state_of


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"truth")
    return path


async def admin(server, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "librarian.admin", "--config", server.config, *arguments]
    return await asyncio.to_thread(subprocess.run, command, cwd=TOP, capture_output=True, text=True, check=False)


async def test_an_old_copy_of_the_catalog_is_noticed_told_and_acknowledged(new_server, source, tmp_path):
    server = new_server()
    catalog = server.folder / "state" / "catalog.sqlite"
    server.start()
    await server.ready()
    await admin(server, "database", "backup", str(tmp_path / "backup"))
    async with server.client() as client:
        await client.upload(source, "after the backup")
    await server.stop()
    for part in ("", "-wal", "-shm"):
        catalog.with_name(catalog.name + part).unlink(missing_ok=True)
    shutil.copyfile(tmp_path / "backup", catalog)
    server.start()
    await server.ready()

    found = await server.status()
    told = await admin(server, "status")
    async with server.client() as client:
        adopted = await client.upload(source, "after the backup")
    acknowledged = await admin(server, "restored", "acknowledge")
    after = await server.status()

    assert "store 'fast' has seen generation" in found["restored"]
    assert [alert["cause"] for alert in found["alerts"]] == ["site:restored"]
    assert found["epoch"] > 1_700_000_000_000
    assert "ALERT This catalog was restored from a backup" in told.stdout
    assert not adopted.was_held
    assert acknowledged.returncode == 0, acknowledged.stderr
    assert (after["restored"], after["alerts"], after["held"]["files"]) == (None, [], 1)
    assert await server.stop() == 0


async def test_nothing_is_removed_from_a_restored_site_until_it_is_acknowledged(site):
    upload = await open_one(site, "a", b"truth")
    stray = site.stores.lookup("fast").staging / ".quarantine" / "20200101T000000Z-unknown"
    stray.write_bytes(b"somebody's")
    async with site.catalog.begin() as tx:
        await tx.site.mark_restored("a store is ahead")
    policy = HousekeepingPolicy(abandoned_after=timedelta(0))

    await Housekeeping(site, policy).run_pass(plenty_of_time())
    kept = (await state_of(site, upload), folder_of(site, upload).exists(), stray.exists())
    async with site.catalog.begin() as tx:
        await tx.site.acknowledge_restored()
    await Housekeeping(site, policy).run_pass(plenty_of_time())

    assert kept == (TransferState.INITIATED, True, True)
    assert (await state_of(site, upload), stray.exists()) == (TransferState.FAILED, False)
