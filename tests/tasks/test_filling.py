"""How far drives, which are real disks, and stores are filled, which of them first, and when they count as full."""

import os
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from librarian import releasing
from librarian.names import StoreName
from librarian.states import DriveState
from librarian.tasks.load import Load
from librarian.timing import plenty_of_time
from tests.carrying import add_peer, drive_of, seal
from tests.holding import hold
from tests.loading import assert_sound, dues_of, load, rule, stores_of
from tests.site_fixtures import opened_site
from tests.uploading import alerts_of, committed, ingest, story_of

MIB = 1024**2


@pytest.fixture
async def site(sqlite_url, tmp_path):
    """A site whose drives these are; no task runs."""
    async with opened_site(sqlite_url, tmp_path / "chajnantor") as opened:
        yield opened


@pytest.mark.parametrize("end", ["sealed", "released", "lost"])
async def test_a_full_drive_that_is_taken_away_needs_nobody_any_more(site, plugged, end):
    await plugged("A07", full_at=300)
    await add_peer(site)
    await hold(site, "a", os.urandom(20 * MIB))
    await rule(site, "A07")
    await load(site)
    full = await alerts_of(site)

    match end:
        case "sealed":
            await seal(site)
        case "released":
            await releasing.release(site, StoreName("A07"), lose=1, who="ana")
        case "lost":
            await releasing.lose(site, StoreName("A07"), who="ana")

    assert (full, await alerts_of(site)) == (["drive-full:A07"], [])


async def test_a_drive_takes_all_that_fits_and_is_then_full(site, plugged):
    await plugged("A07")
    for number in range(9):
        await hold(site, f"large/{number}", os.urandom(8 * MIB))
    await rule(site, "A07")
    await load(site)
    before = await drive_of(site)
    await hold(site, "small", os.urandom(1000))
    await rule(site, "A07", name="more")

    await load(site)

    left = [name for name in range(9) if await dues_of(site, f"large/{name}")]
    free = os.statvfs(before.path)
    assert free.f_bavail * free.f_frsize < 8 * MIB
    assert len(left) == 9 - before.files
    assert before.state is DriveState.FULL
    assert set(await stores_of(site, "small")) == {"fast"}
    assert await alerts_of(site) == ["drive-full:A07"]
    assert await story_of(site, "drive:A07") == ["made", "plugged in", "full"]
    await assert_sound(site, "A07")


async def test_what_is_larger_than_a_drive_makes_none_full(site, plugged):
    await plugged("A07")
    await hold(site, "small", os.urandom(1000))
    await rule(site, "A07")
    await load(site)
    await hold(site, "vast", os.urandom(65 * MIB))
    await rule(site, "A07", name="more")

    await load(site)

    assert (await drive_of(site)).state is DriveState.LOADING
    assert await alerts_of(site) == ["no-room:A07"]


async def test_a_file_for_an_empty_drive_makes_no_drive_full_that_has_much_room(site, plugged, monkeypatch):
    await plugged("A07")
    await hold(site, "begun", os.urandom(12 * MIB))
    await rule(site, "A0*")
    await load(site)
    await hold(site, "large", os.urandom(45 * MIB))
    await rule(site, "A0*", name="more")
    loading = Load(site)
    await loading.run_pass(plenty_of_time())
    alone = (await drive_of(site)).state, await alerts_of(site)

    await plugged("A08")
    await hold(site, "small", b"fits")
    await rule(site, "A0*", name="yet-more")
    await loading.run_pass(plenty_of_time())
    await ingest(site)
    monkeypatch.setattr("librarian.tasks.load.CRAMPED_FOR", timedelta(0))
    await loading.run_pass(plenty_of_time())
    # A08 has little room now, and A07 takes what it cannot.
    await hold(site, "middle", bytes(20 * MIB))
    await rule(site, "A0*", name="even-more")
    await loading.run_pass(plenty_of_time())
    await ingest(site)
    await loading.run_pass(plenty_of_time())

    assert alone == (DriveState.LOADING, ["no-room:A07"])
    assert set(await stores_of(site, "large")) == {"fast", "A08"}
    assert set(await stores_of(site, "small")) == {"fast", "A07"}
    assert set(await stores_of(site, "middle")) == {"fast", "A07"}
    assert {(await drive_of(site, name)).state for name in ("A07", "A08")} == {DriveState.LOADING}
    assert await alerts_of(site) == []


async def test_nobody_looks_for_room_on_a_drive_that_is_taken_away(site, plugged):
    await plugged("A07")
    await add_peer(site)
    await hold(site, "small", os.urandom(1000))
    await rule(site, "A07")
    await load(site)
    await hold(site, "vast", os.urandom(65 * MIB))
    await rule(site, "A07", name="more")
    await load(site)
    cramped = await alerts_of(site)

    await seal(site)

    assert (cramped, await alerts_of(site)) == (["no-room:A07"], [])


async def test_what_no_empty_drive_takes_is_named(site, plugged):
    free = os.statvfs((await plugged("A07")).at)
    await hold(site, "just/too/large", os.urandom(free.f_bavail * free.f_frsize))
    await rule(site, "A07")

    await load(site)

    async with site.catalog.read() as tx:
        (alert,) = await tx.alerts.open_ones()
    assert alert.cause == "no-room:A07"
    assert "the least is just/too/large with" in alert.message


async def test_a_drive_is_full_when_the_part_is_in_use_that_was_asked_for(site, plugged):
    await plugged("A07", full_at=300)
    await hold(site, "a", os.urandom(20 * MIB))
    await rule(site, "A07")

    await load(site)

    assert (await drive_of(site)).state is DriveState.FULL
    assert await dues_of(site, "a") == ()


async def test_the_fullest_drive_that_fits_is_filled_first(site, plugged):
    await plugged("A07")
    await plugged("A08")
    await hold(site, "filler", os.urandom(30 * MIB))
    await rule(site, "A08", name="filler", match=["filler"])
    await load(site)
    await hold(site, "a", os.urandom(9 * MIB))
    await hold(site, "b", os.urandom(40 * MIB))

    await rule(site, "A0*", match=["a", "b"])
    await load(site)

    assert set(await stores_of(site, "a")) == {"fast", "A08"}
    assert set(await stores_of(site, "b")) == {"fast", "A07"}


def with_limits(**limits):
    """A change of settings: the stores take so many bytes."""

    def change(settings):
        stores = (store.model_copy(update={"limit": limits.get(store.name)}) for store in settings.stores)
        return settings.model_copy(update={"stores": tuple(stores)})

    return change


@asynccontextmanager
async def limited_site(database_url, folder, **limits):
    """A site that holds files on "fast", with more stores that take so many bytes."""
    opening = opened_site(database_url, folder, stores=("fast", *limits), change=with_limits(**limits))
    async with opening as site:
        async with site.catalog.begin() as tx:
            for name in limits:
                await tx.stores.set_open(StoreName(name), is_open=True)
        yield site


@pytest.fixture
async def one_limited(sqlite_url, tmp_path):
    """A site with two more stores, of which "slow" is the fuller one."""
    async with limited_site(sqlite_url, tmp_path / "chajnantor", slow=100_000, spare=200_000) as opened:
        yield opened


async def test_what_fits_is_copied_at_once_while_something_larger_waits(database_url, tmp_path):
    async with limited_site(database_url, tmp_path / "chajnantor", slow=100_000) as site:
        await hold(site, "large", bytes(200_000))
        await rule(site, "slow")
        loading = Load(site)
        await loading.run_pass(plenty_of_time())
        told = await alerts_of(site)
        async with site.catalog.begin() as tx:
            await tx.stores.set_open(StoreName("slow"), is_open=False)
        await committed(site, "small", b"fits")
        await ingest(site)
        async with site.catalog.begin() as tx:
            await tx.stores.set_open(StoreName("slow"), is_open=True)

        await loading.run_pass(plenty_of_time())
        await ingest(site)

        assert set(await stores_of(site, "small")) == {"fast", "slow"}
        assert told == ["no-room:slow"]


async def test_a_store_that_has_much_to_verify_is_filled_before_another_is_begun(one_limited, monkeypatch):
    monkeypatch.setattr("librarian.tasks.load.MOST_FILES", 1)
    await hold(one_limited, "a", b"one")
    await hold(one_limited, "b", b"two")

    await rule(one_limited, "slow", "spare", batch_files=1)
    await load(one_limited)
    await load(one_limited)

    assert set(await stores_of(one_limited, "a")) == {"fast", "slow"}
    assert set(await stores_of(one_limited, "b")) == {"fast", "slow"}
