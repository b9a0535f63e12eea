"""A drive with the file system that most are sold with: it keeps not every name and not every size."""

import os

import pytest

from librarian import inspecting, manifest, releasing
from librarian.errors import StoreUnavailable
from librarian.names import FileName, StoreName
from librarian.states import DriveState
from librarian.tasks.clear import Clear
from librarian.tasks.wipe import Wipe
from librarian.timing import plenty_of_time
from tests.carrying import A07, drive_of, look_for_drives, make_drive, seal
from tests.clone_fixtures import acquaint, party
from tests.contracts.mounts import Mounts
from tests.holding import hold
from tests.loading import dues_of, load, rule, stores_of
from tests.site_fixtures import opened_site
from tests.suitcases import done, introduce_key, receive, shows
from tests.uploading import alerts_of

LARGEST = 100_000
KEPT = {
    "2026/11/plain": b"first light",
    "2026/11/book": {"deep/a": b"a", "B": b"b", "empty": None},
    "Case/a": b"one",
}
UNKEPT = {
    "2026/11/28T17:34": os.urandom(LARGEST + 1),
    "2026/11/Plain": b"first light",
    "2026/11/PLAIN": b"not the same",
    "case/b": b"below another directory",
    "2026/11/Book/inside": b"this would falsify the book",
    "trailing/dot.": b"is cut off",
    "alike": {"m": b"one", "M": b"two"},
    "colons": {"12:00": b"noon"},
    "dots": {"a.": b"is cut off"},
    "large": os.urandom(LARGEST + 1),
    "large book": {"a": b"a", "b": os.urandom(LARGEST + 1)},
}
#: They come together: the first stays.
TWINS = {"twins/a": b"equal", "twins/A": b"equal"}


@pytest.fixture
def mounts():
    """Mounts for one test, always cleaned up."""
    held = Mounts()
    yield held
    held.clean_up()


@pytest.fixture
def urls(databases, tmp_path):
    """Catalogs of chajnantor and nersc; made here since that cannot be done in a loop."""
    return [databases.new_sqlite(tmp_path / f"{name}.sqlite") for name in ("chajnantor", "nersc")]


@pytest.fixture
async def pair(urls, tmp_path):
    """chajnantor, whose tasks run when a test says so, and nersc, which receives its drives."""
    async with (
        party(urls[0], tmp_path / "chajnantor", "chajnantor", tasks=False) as sender,
        party(urls[1], tmp_path / "nersc", "nersc") as receiver,
    ):
        await acquaint(sender, receiver)
        await introduce_key(sender, receiver)
        yield sender, receiver


def files_on(drive):
    found = {str(path.relative_to(drive)) for path in drive.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith(".librarian")}


async def on(site, store):
    """Which of the files are there."""
    return {name for name in KEPT | UNKEPT | TWINS if store in await stores_of(site, name)}


async def tried(site):
    return {name: [(due.attempts, due.reason) for due in await dues_of(site, name)] for name in UNKEPT}


async def misfits_of(site):
    async with site.catalog.read() as tx:
        files = await tx.files.named([FileName(name) for name in UNKEPT])
        return len(await tx.misfits.of_files([file.id for file in files.values()]))


async def test_what_such_a_drive_can_keep_goes_round_on_it_and_all_else_onto_another(pair, mounts, tmp_path):
    sender, receiver = pair
    site = sender.site
    fat = mounts.fat(tmp_path / "medium", tmp_path / "media", largest=LARGEST)
    await make_drive(site, fat)
    for name, content in KEPT.items():
        await hold(site, name, content)
    await rule(site, "A*", peer="nersc")
    await load(site)
    for name, content in (UNKEPT | TWINS).items():
        await hold(site, name, content)
    await rule(site, "A*", peer="nersc", name="more")

    await load(site)
    first = await tried(site)
    alerts = await alerts_of(site)
    await load(site)
    second = await tried(site)
    standing = files_on(fat)
    # What is not in use may be numbered anew.
    assert not (fat / "evicted").exists()
    assert await site.stores.lookup(A07).probe() is None
    await make_drive(site, tmp_path / "ext4", StoreName("A08"), is_folder=True)
    await load(site)

    kept, others = await on(site, "A07"), await on(site, "A08")
    assert (kept - set(TWINS), others - set(TWINS)) == (set(KEPT), set(UNKEPT))
    assert (len(kept & set(TWINS)), kept | others) == (1, set(KEPT | UNKEPT | TWINS))
    assert standing - set(TWINS) == {"2026/11/plain", "2026/11/book/deep/a", "2026/11/book/B", "Case/a"}
    # The name is tried before anything is copied.
    assert "is not allowed there" in first["2026/11/28T17:34"][0][1]
    assert all("A07" in reason for dues in first.values() for _, reason in dues)
    assert (first, alerts) == (second, ["misfits:A07"])

    await seal(site)
    sealed = manifest.open_manifest(fat / manifest.NAME)
    inspection = inspecting.Inspection(fat, sealed, on_bytes=lambda _: None, on_file=lambda: None)
    flaws = list(inspection.flaws())
    received = await done(receiver, (await receive(receiver, fat))["uuid"])
    await shows(sender, ("confirmed", len(kept), 0))

    assert {entry.name for entry in sealed.entries()} == kept
    assert (flaws, inspection.is_the_drive()) == ([], True)
    assert (received["held_files"], received["bad_files"]) == (len(kept), 0)
    assert await alerts_of(site) == []

    await releasing.release(site, A07, lose=0, who="ana")
    await Clear(site).run_pass(plenty_of_time())
    await releasing.reuse(site, A07, lose=0, who="ana")
    unfit = await misfits_of(site)
    await Wipe(site).run_pass(plenty_of_time())
    await look_for_drives(site)

    assert (unfit, await misfits_of(site)) == (len(UNKEPT), 0)
    assert ((await drive_of(site)).state, (await drive_of(site)).round) == (DriveState.LOADING, 2)
    assert site.stores.lookup(A07).problem is None
    assert files_on(fat) == set()


async def test_a_drive_that_anybody_may_write_is_not_loaded(sqlite_url, mounts, tmp_path):
    fat = mounts.fat(tmp_path / "medium", tmp_path / "media", mode=0o777)

    async with opened_site(sqlite_url, tmp_path / "chajnantor") as site:
        with pytest.raises(StoreUnavailable, match="is not a directory that is the server's alone") as refusal:
            await make_drive(site, fat)

    assert "umask=022" in refusal.value.remedy
