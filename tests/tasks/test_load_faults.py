"""Loading from disks that fail: what is bad there is blamed, another copy is used, and the target is not suspected."""

import os
import signal
from datetime import timedelta

import pytest

from librarian import guard
from librarian.catalog.instances import NewInstance
from librarian.catalog.stopped import Selection
from librarian.names import FileName, StoreName
from librarian.states import DueState, VerifiedFrom
from librarian.tasks.load import MOST_TOLD, Load
from librarian.timing import plenty_of_time, utc_now
from tests.contracts.mounts import Mounts
from tests.holding import hold, write_payload
from tests.loading import assert_sound, dues_of, load, rule, stores_of
from tests.site_fixtures import opened_site
from tests.uploading import alerts_of

MIB = 1024**2


@pytest.fixture
def mounts():
    made = Mounts()
    yield made
    made.clean_up()


@pytest.fixture
def disk(mounts, tmp_path):
    """What lies behind the store "ailing", whose file system is a process."""
    disk = mounts.fuse(tmp_path / "behind", tmp_path / "disk")
    for name in ("root", "staging"):
        (tmp_path / "disk" / name).mkdir()
    return disk


@pytest.fixture
async def site(disk, sqlite_url, tmp_path):
    """A site with the stores "ailing", which is read first, "sound" and "target"."""

    def change(settings):
        stores = [each.model_copy(update={"answer_timeout": timedelta(seconds=1)}) for each in settings.stores]
        place = tmp_path / "disk"
        stores[0] = stores[0].model_copy(update={"root": place / "root", "staging": place / "staging"})
        return settings.model_copy(update={"stores": tuple(stores)})

    folder = tmp_path / "chajnantor"
    async with opened_site(sqlite_url, folder, stores=("ailing", "sound", "target"), change=change) as opened:
        async with opened.catalog.begin() as tx:
            await tx.stores.set_open(StoreName("target"), is_open=True)
        yield opened


async def also_on_ailing(site, tmp_path, name, content):
    """Have what is held elsewhere on "ailing", too, written behind its back."""
    write_payload(tmp_path / "behind" / "root" / name, content)
    async with site.catalog.begin() as tx:
        file = (await tx.files.named([FileName(name)]))[FileName(name)]
        now = utc_now()
        await tx.instances.add(
            [NewInstance(file_id=file.id, store=StoreName("ailing"), verified_at=now, verified_from=VerifiedFrom.CACHE)]
        )


@pytest.mark.parametrize("content", [b"truth", {"good": b"g", "unreadable": b"u"}], ids=["file", "member"])
async def test_a_source_that_cannot_be_read_is_blamed_and_another_copy_is_used(site, tmp_path, content):
    name = "2026/unreadable" if isinstance(content, bytes) else "2026/book"
    await hold(site, name, content, store="sound")
    await also_on_ailing(site, tmp_path, name, content)

    await rule(site, "target")
    await load(site)
    told = await alerts_of(site)
    copies = await stores_of(site, name)

    assert {store: presence for store, (presence, _) in copies.items()} == {
        "ailing": "suspect",
        "sound": "present",
        "target": "present",
    }
    assert told == [f"suspect:{name}"]
    left = {each.name for each in (tmp_path / "chajnantor" / "target-staging").iterdir()}
    assert left == {".private", ".quarantine"}


async def test_many_bad_copies_on_one_store_are_told_as_a_matter_of_the_store(site, tmp_path):
    names = [f"2026/{number:02}" for number in range(MOST_TOLD + 2)]
    for name in names:
        await hold(site, name, name.encode(), store="sound")
        await also_on_ailing(site, tmp_path, name, b"trash")

    await rule(site, "target")
    await load(site)

    told = await alerts_of(site)
    assert sorted(told) == ["store-doubted:ailing", *(f"suspect:{name}" for name in names[:MOST_TOLD])]
    assert {(await stores_of(site, name))["target"][0] for name in names} == {"present"}
    await assert_sound(site, "target")


async def test_a_source_that_hangs_is_not_taken_for_its_target(site, disk, monkeypatch):
    await hold(site, "large", os.urandom(8 * MIB), store="ailing")
    await rule(site, "target")

    def stop(step):
        if step == "half copied":
            disk.send_signal(signal.SIGSTOP)

    monkeypatch.setattr(guard, "_on_step", [stop])
    await Load(site).run_pass(plenty_of_time())
    monkeypatch.setattr(guard, "_on_step", [])
    (waiting,) = await dues_of(site, "large")
    problem = site.stores.lookup("target").problem
    disk.send_signal(signal.SIGCONT)
    await site.stores.probe()
    async with site.catalog.begin() as tx:
        await tx.stopped.retry(Selection())
    await load(site)

    assert problem is None
    assert (waiting.state, waiting.code) == (DueState.DUE, "store_unavailable")
    assert "read from another store" in waiting.reason
    assert (await stores_of(site, "large"))["target"][0] == "present"
    await assert_sound(site, "target")
