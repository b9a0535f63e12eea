"""Copies that may be bad are no source until they were read again, which decides."""

import pytest

from librarian.catalog.records import Tally
from librarian.names import FileName, StoreName
from librarian.states import Presence
from librarian.tasks.reread import Reread
from librarian.timing import plenty_of_time
from tests.clone_fixtures import party


@pytest.fixture
async def holder(database_url, tmp_path):
    """A site that holds the files 'good', 'bad' and 'gone', all of them suspects; the last two for a reason."""
    async with party(database_url, tmp_path / "chajnantor", "chajnantor") as holder:
        await holder.upload(dict.fromkeys(("good", "bad", "gone"), b"truth"))
        place = holder.folder / "fast" / "bad"
        place.chmod(0o644)
        place.write_bytes(b"liess")
        (holder.folder / "fast" / "gone").unlink()
        async with holder.site.catalog.begin() as tx:
            files = await tx.files.named([FileName(name) for name in ("good", "bad", "gone")])
            await tx.suspects.mark([file.id for file in files.values()], store=StoreName("fast"))
        yield holder


async def copies(holder):
    """What each file's copy is."""
    async with holder.site.catalog.read() as tx:
        files = await tx.files.named([FileName(name) for name in ("good", "bad", "gone")])
        found = {copy.file_id: copy for copy in await tx.instances.of_files([f.id for f in files.values()])}
        return {name: found[file.id] for name, file in files.items()}


async def test_a_suspect_is_no_source(holder):
    async with holder.site.catalog.read() as tx:
        files = await tx.files.named([FileName("good")])
        assert await tx.copies_due.sources([file.id for file in files.values()]) == {}


async def test_reading_again_decides_what_each_suspect_is(holder):
    before = await copies(holder)

    await Reread(holder.site).run_pass(plenty_of_time())

    after = await copies(holder)
    assert {name: copy.presence for name, copy in after.items()} == {
        "good": Presence.PRESENT,
        "bad": Presence.CORRUPT,
        "gone": Presence.MISSING,
    }
    assert after["good"].verified_at > before["good"].verified_at
    assert after["bad"].verified_at == before["bad"].verified_at


async def test_what_is_lost_is_alerted_and_leaves_the_totals(holder):
    await Reread(holder.site).run_pass(plenty_of_time())

    async with holder.site.catalog.read() as tx:
        totals = [await tx.tallies.of(subject) for subject in ("held", "store:fast")]
    assert {alert.cause for alert in await holder.alerts()} == {"copy-lost:fast:bad", "copy-lost:fast:gone"}
    assert all("No other good copy is here." in alert.message for alert in await holder.alerts())
    assert totals == [Tally(files=1, bytes=5)] * 2


async def test_nothing_is_read_twice(holder):
    task = Reread(holder.site)

    assert await task.run_pass(plenty_of_time()) == 1
    assert await task.run_pass(plenty_of_time()) == 0


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_suspect_on_a_store_that_is_away_stays_one(holder, is_known):
    (holder.folder / "fast").rename(holder.folder / "away")
    (holder.folder / "fast").mkdir()
    if is_known:
        await holder.site.stores.probe()

    await Reread(holder.site).run_pass(plenty_of_time())

    assert {copy.presence for copy in (await copies(holder)).values()} == {Presence.SUSPECT}
