"""Housekeeping: abandoned uploads end, staging goes, strangers are put aside; bytes that come in count as life."""

from datetime import timedelta

from librarian import intake
from librarian.errors import LibrarianError
from librarian.policies import HousekeepingPolicy
from librarian.states import TransferState
from librarian.tasks.housekeeping import Housekeeping
from librarian.timing import plenty_of_time
from tests.uploading import (
    ANA,
    alerts_of,
    brought,
    committed,
    folder_of,
    now_of,
    open_one,
    payload_of,
    state_of,
    story_of,
)


async def keep_house(site, **policy) -> None:
    await Housekeeping(site, HousekeepingPolicy(**policy)).run_pass(plenty_of_time())


async def test_an_upload_without_progress_is_given_up_and_its_staging_goes(site):
    upload = await open_one(site, "a", b"truth")

    await keep_house(site, abandoned_after=timedelta(0))

    after = await now_of(site, upload)
    assert (after.state, after.code) == (TransferState.FAILED, "abandoned")
    assert not folder_of(site, upload).exists()
    assert await story_of(site, "a") == ["upload abandoned"]


async def test_an_abandoned_name_may_be_opened_again(site):
    await open_one(site, "a", b"truth")

    await keep_house(site, abandoned_after=timedelta(0))

    assert not isinstance(await open_one(site, "a", b"other!"), LibrarianError)


async def test_bytes_seen_in_staging_count_as_progress(site):
    upload = await open_one(site, "a", b"truth")
    opened_at = upload.progressed_at
    payload_of(site, upload).write_bytes(b"tru")

    await keep_house(site)

    assert (await now_of(site, upload)).progressed_at > opened_at
    assert await state_of(site, upload) is TransferState.INITIATED


async def test_bytes_seen_in_staging_are_not_reserved_any_more(site):
    upload = await open_one(site, "a", b"truth")
    payload_of(site, upload).write_bytes(b"tru")

    await keep_house(site)

    async with site.catalog.read() as tx:
        (shelf,) = await tx.incoming.shelves()
    assert shelf.reserved == 2


async def test_a_staged_upload_is_never_abandoned(site):
    upload = await committed(site, "a")

    await keep_house(site, abandoned_after=timedelta(0))

    assert await state_of(site, upload) is TransferState.STAGED


async def test_uploads_on_a_store_that_nobody_can_see_are_spared(site, tmp_path):
    upload = await open_one(site, "a", b"truth")
    site.stores.lookup("fast").root.rename(tmp_path / "elsewhere")
    await site.stores.probe()

    await keep_house(site, abandoned_after=timedelta(0))

    assert await state_of(site, upload) is TransferState.INITIATED


async def test_staging_that_could_not_be_cleared_before_is_cleared(site, monkeypatch):
    upload = await brought(site, "a")
    store = site.stores.lookup("fast")

    async def keep_all(tokens):
        return list(tokens)

    monkeypatch.setattr(store, "clear", keep_all)
    await intake.cancel(site, ANA, upload.uuid)
    monkeypatch.undo()

    await keep_house(site)

    assert not folder_of(site, upload).exists()
    assert (await now_of(site, upload)).has_staging is False


async def test_staging_that_cannot_be_removed_is_told_once(site, monkeypatch):
    upload = await brought(site, "a")

    async def keep_all(tokens):
        return list(tokens)

    monkeypatch.setattr(site.stores.lookup("fast"), "clear", keep_all)
    await intake.cancel(site, ANA, upload.uuid)
    house = Housekeeping(site)

    await house.run_pass(plenty_of_time())
    await house.run_pass(plenty_of_time())

    async with site.catalog.read() as tx:
        (alert,) = await tx.alerts.open_ones()
    assert (alert.cause, alert.count) == ("staging-left:fast", 1)


async def test_strangers_in_staging_are_put_aside_and_told(site):
    staging = site.stores.lookup("fast").staging
    stranger = staging / "stranger"
    stranger.mkdir()

    await keep_house(site, stranger_after=timedelta(0))

    assert not stranger.exists()
    assert [path.name.split("-", 1)[-1] for path in (staging / ".quarantine").iterdir()] != []
    assert await alerts_of(site) == ["strangers:fast"]


async def test_a_young_stranger_is_left_alone(site):
    stranger = site.stores.lookup("fast").staging / "stranger"
    stranger.mkdir()

    await keep_house(site)

    assert stranger.exists()


async def test_live_staging_is_no_stranger(site):
    upload = await brought(site, "a")

    await keep_house(site, stranger_after=timedelta(0))

    assert payload_of(site, upload).exists()
