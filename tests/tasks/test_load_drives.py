"""Copies onto drives, which are real disks: filled up, pulled out, two at once, and read back from the medium."""

import contextlib
import os
import stat
import threading

import pytest

from librarian import guard, releasing, sealing
from librarian.catalog.stopped import Selection
from librarian.errors import Conflict
from librarian.names import SiteName, StoreName
from librarian.states import DriveState, DueState, Reach
from librarian.stores import drive
from librarian.tasks.clear import Clear
from librarian.tasks.load import Load
from librarian.tasks.plug import Plug
from librarian.timing import plenty_of_time
from tests.carrying import A07, NERSC, drive_of, go_on_sealing, look_for_drives, make_drive, seal
from tests.holding import hold
from tests.loading import assert_sound, dues_of, load, rule, stores_of
from tests.site_fixtures import opened_site
from tests.uploading import alerts_of, ingest

MIB = 1024**2
ON_THE_DRIVE = ("present", "medium")


@pytest.fixture
async def site(sqlite_url, tmp_path):
    """A site whose drives these are; no task runs."""
    async with opened_site(sqlite_url, tmp_path / "chajnantor") as opened:
        yield opened


async def knows_nersc(site, name="nersc"):
    async with site.catalog.begin() as tx:
        await tx.peers.add(
            SiteName(name), url="", username="", secret=b"", reach=Reach.PUSH, accepts=[""], entry_points=[]
        )


async def test_a_copy_on_a_drive_counts_when_it_was_read_from_the_medium(site, plugged):
    await plugged("A07")
    await hold(site, "a", os.urandom(3 * MIB))
    await hold(site, "book", {"data": os.urandom(5000), "empty": None})

    await rule(site, "A07")
    await load(site)

    assert (await stores_of(site, "a"))["A07"] == ON_THE_DRIVE
    assert (await stores_of(site, "book"))["A07"] == ON_THE_DRIVE


async def test_what_is_carried_waits_on_the_drive_for_its_peer(site, plugged):
    await knows_nersc(site)
    await hold(site, "a", b"truth")
    await rule(site, "A*", peer="nersc")
    await plugged("A07")

    await load(site)
    (loaded,) = await dues_of(site, "a")
    await rule(site, "A*", peer="nersc", priority=1)
    await load(site)

    (again,) = await dues_of(site, "a")
    assert (loaded.state, loaded.reason) == (again.state, again.reason) == (DueState.LOADED, "on A07")
    await assert_sound(site, "A07")


async def test_what_is_sealed_for_one_peer_is_due_again_for_the_other(site, plugged):
    await knows_nersc(site)
    await knows_nersc(site, "berkeley")
    await knows_nersc(site, "oslo")
    await hold(site, "a", b"truth")
    await rule(site, "A*", name="east", peer="nersc")
    await rule(site, "A*", name="west", peer="berkeley")
    await plugged("A07")
    await load(site)
    both = {due.rule: (due.state, due.reason) for due in await dues_of(site, "a")}

    with pytest.raises(Conflict, match="loaded for 'berkeley' or 'nersc'"):
        await sealing.begin(site, A07, peer=SiteName("oslo"), who="ana")
    others = await sealing.begin(site, A07, peer=NERSC, who="ana")
    await go_on_sealing(site)
    apart = {due.rule: due.state for due in await dues_of(site, "a")}
    await plugged("A08")
    await load(site)

    assert others == ("berkeley",)
    assert both == {"east": (DueState.LOADED, "on A07"), "west": (DueState.LOADED, "on A07")}
    assert apart == {"east": DueState.LOADED, "west": DueState.DUE}
    again = {due.rule: (due.state, due.reason) for due in await dues_of(site, "a")}
    assert again == {"east": (DueState.LOADED, "on A07"), "west": (DueState.LOADED, "on A08")}


async def test_a_full_drive_is_sealed_for_its_peer_although_its_rule_was_replaced(site, plugged):
    await knows_nersc(site)
    await hold(site, "a", b"truth")
    await rule(site, "A*", peer="nersc")
    await plugged("A07")
    await load(site)
    async with site.catalog.begin() as tx:
        await tx.drives.advance((await tx.drives.get(A07)).id, to=DriveState.FULL, who="load")
    await rule(site, "A*", peer="nersc", priority=1)
    await load(site)
    assert [due.state for due in await dues_of(site, "a")] == [DueState.DUE]

    assert await sealing.begin(site, A07, peer=NERSC, who="ana") == ()


async def test_what_waits_for_other_drives_was_not_loaded_onto_this_one(site, plugged):
    await knows_nersc(site)
    await knows_nersc(site, "berkeley")
    await hold(site, "a", b"truth")
    await rule(site, "A07", name="east", peer="nersc")
    await rule(site, "A08", name="west", peer="berkeley")
    await plugged("A07")
    await load(site)

    with pytest.raises(Conflict, match="loaded for 'nersc'"):
        await sealing.begin(site, A07, peer=SiteName("berkeley"), who="ana")
    assert await sealing.begin(site, A07, peer=NERSC, who="ana") == ()


@pytest.mark.parametrize("end", ["lost", "released"])
async def test_what_was_on_a_drive_that_is_given_up_is_due_again_and_goes_onto_the_next(site, tmp_path, end):
    await knows_nersc(site)
    await hold(site, "a", b"truth")
    await rule(site, "A*", peer="nersc")
    await make_drive(site, tmp_path / "A07", is_folder=True)
    await load(site)
    await seal(site)

    if end == "lost":
        await releasing.lose(site, A07, who="ana")
    else:
        await releasing.release(site, A07, lose=1, who="ana")
    await Clear(site).run_pass(plenty_of_time())
    given_up = [due.state for due in await dues_of(site, "a")]
    await make_drive(site, tmp_path / "A08", StoreName("A08"), is_folder=True)
    await load(site)

    assert given_up == [DueState.DUE]
    assert [(due.state, due.reason) for due in await dues_of(site, "a")] == [(DueState.LOADED, "on A08")]


@pytest.mark.parametrize("step", ["row written", "directory made", "half copied", "STAGED"])
async def test_a_drive_that_is_pulled_out_while_it_is_loaded_goes_on_elsewhere(site, plugged, at_step, tmp_path, step):
    disk = await plugged("A07")
    for number in range(4):
        await hold(site, f"2026/{number}", os.urandom(10 * MIB))
    await rule(site, "A07")
    at_step(step, disk.unplug)

    await Load(site).run_pass(plenty_of_time())
    await ingest(site)
    await Plug(site).run_pass(plenty_of_time())
    unplugged = [(await dues_of(site, f"2026/{number}"))[0].state for number in range(4)]
    disk.plug(tmp_path / "elsewhere")
    await Plug(site).run_pass(plenty_of_time())
    async with site.catalog.begin() as tx:
        await tx.stopped.retry(Selection())
    await load(site)

    assert set(unplugged) <= {DueState.DUE, DueState.SENDING}
    assert list((tmp_path / "media-A07").iterdir()) == []
    assert [(await stores_of(site, f"2026/{number}"))["A07"] for number in range(4)] == [ON_THE_DRIVE] * 4
    assert (await drive_of(site)).path == str(tmp_path / "elsewhere")
    await assert_sound(site, "A07")


async def test_two_drives_are_loaded_side_by_side(site, plugged, monkeypatch):
    await plugged("A07")
    await plugged("A08")
    await hold(site, "a", os.urandom(MIB))
    await rule(site, "A07", "A08", copies="each")
    together = threading.Barrier(2, timeout=60)
    monkeypatch.setattr(guard, "_on_step", [lambda step: step == "half copied" and together.wait()])

    await Load(site).run_pass(plenty_of_time())
    monkeypatch.setattr(guard, "_on_step", [])
    await ingest(site)

    assert not together.broken
    assert await stores_of(site, "a") == {"fast": ("present", "cache"), "A07": ON_THE_DRIVE, "A08": ON_THE_DRIVE}


async def test_one_drive_that_is_pulled_out_is_alone_in_waiting(site, plugged, at_step):
    disk = await plugged("A07")
    await plugged("A08")
    await hold(site, "a", os.urandom(10 * MIB))
    await rule(site, "A07", "A08", copies="each")
    at_step("half copied", disk.unplug)

    await load(site)

    assert set(await stores_of(site, "a")) == {"fast", "A08"}
    (waiting,) = await dues_of(site, "a")
    # Its bytes came to staging, and are verified when it is back; or those for the other drive were half copied first.
    assert waiting.store == "A07"
    assert waiting.state in (DueState.SENDING, DueState.DUE)


async def test_of_three_drives_one_that_is_away_gets_its_own_copies_later_and_no_others(site, tmp_path):
    for name in ("A07", "A08", "A09"):
        await make_drive(site, tmp_path / name, StoreName(name), is_folder=True)
    (tmp_path / "A08").rename(tmp_path / "in the drawer")
    await Plug(site).run_pass(plenty_of_time())
    for name in ("any", "each"):
        await hold(site, name, b"truth")
    await rule(site, "A07", "A08", "A09", name="each", match=["each"], copies="each")
    await rule(site, "A0*", name="any", match=["any"])

    await load(site)
    away = await stores_of(site, "each"), await dues_of(site, "each"), await stores_of(site, "any")
    (tmp_path / "in the drawer").rename(tmp_path / "A08")
    await Plug(site).run_pass(plenty_of_time())
    await load(site)

    assert set(away[0]) == {"fast", "A07", "A09"}
    assert [(due.store, due.state) for due in away[1]] == [("A08", DueState.DUE)]
    assert len(away[2]) == 2
    assert await stores_of(site, "any") == away[2]
    assert set(await stores_of(site, "each")) == {"fast", "A07", "A08", "A09"}
    assert [*await dues_of(site, "each"), *await dues_of(site, "any")] == []


async def test_whoever_receives_a_drive_may_read_it_whatever_the_server_keeps_to_itself(site, tmp_path):
    await knows_nersc(site)
    await hold(site, "2026/11/a", b"truth")
    await hold(site, "2026/book", {"deep/data": b"members", "empty": None})
    await rule(site, "A*", peer="nersc")
    before = os.umask(0o077)
    try:
        root = tmp_path / "media"
        await make_drive(site, root, is_folder=True)
        await load(site)
        await seal(site)
    finally:
        os.umask(before)

    modes = {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}
    assert {name: mode for name, mode in modes.items() if not name.startswith(drive.STAGING)} == {
        ".librarian-store": 0o644,
        ".librarian-manifest": 0o644,
        "2026": 0o755,
        "2026/11": 0o755,
        "2026/11/a": 0o444,
        "2026/book": 0o555,
        "2026/book/deep": 0o555,
        "2026/book/deep/data": 0o444,
        "2026/book/empty": 0o555,
    }


async def test_a_drive_that_spoils_what_is_written_is_found_out(site, plugged):
    disk = await plugged("A07")
    content = os.urandom(4 * MIB)
    await hold(site, "a", content)
    await rule(site, "A07")
    await Load(site).run_pass(plenty_of_time())
    spoil(disk, content[2 * MIB : 2 * MIB + 4096])

    await ingest(site)

    (due,) = await dues_of(site, "a")
    assert (due.state, due.code) == (DueState.DUE, "checksum_mismatch")
    assert await alerts_of(site) == ["bad-write:A07"]
    assert set(await stores_of(site, "a")) == {"fast"}


def spoil(disk, block):
    """Change *block* on the medium, behind the file system's back."""
    os.sync()
    content = disk.image.read_bytes()
    at = content.index(block)
    with disk.image.open("r+b") as file:
        file.seek(at)
        file.write(bytes(4096))
        os.fsync(file.fileno())


async def test_a_disk_that_fills_up_meanwhile_takes_nothing_half(site, plugged, at_step, tmp_path):
    disk = await plugged("A07")
    await hold(site, "a", os.urandom(8 * MIB))
    await rule(site, "A07")
    filler = tmp_path / "media-A07" / ".librarian-filler"
    at_step("directory made", lambda: fill(filler))

    task = Load(site)
    await task.run_pass(plenty_of_time())
    (refused,) = await dues_of(site, "a")
    filler.unlink()
    await assert_sound(site, "A07")
    # What it lacked then is forgotten when it is away.
    disk.unplug()
    await look_for_drives(site)
    await task.run_pass(plenty_of_time())
    disk.plug(tmp_path / "media-A07")
    await look_for_drives(site)
    await task.run_pass(plenty_of_time())
    await ingest(site)

    assert (refused.state, refused.code, refused.attempts) == (DueState.DUE, "no_room", 0)
    assert (await stores_of(site, "a"))["A07"] == ON_THE_DRIVE


def fill(path):
    """Leave no byte free."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(MIB)):
            pass


async def test_room_is_promised_before_anything_is_written(site, plugged):
    await plugged("A07")
    await hold(site, "a", os.urandom(8 * MIB))
    await rule(site, "A07")
    loading = Load(site)
    loading._view = await loading._look()

    async with site.catalog.begin() as tx:
        await loading.plan(tx)
        (shelf,) = await tx.incoming.shelves("drive")

    assert shelf.reserved >= 8 * MIB
