"""Ingest: what is staged is verified, published and recorded once, whatever happens on the way."""

import asyncio
import os
from datetime import timedelta

import pytest

from librarian import guard, intake
from librarian.catalog.claims import Claims
from librarian.checksum import Algorithm, unpack_members
from librarian.errors import Bug, DatabaseUnavailable, NameHeld
from librarian.states import Presence, TransferState
from librarian.tasks import verifying
from librarian.tasks.ingest import Ingest
from librarian.timing import plenty_of_time
from tests.holding import hold, write_payload
from tests.uploading import (
    ANA,
    alerts_of,
    brought,
    checksum_of,
    committed,
    copies_of,
    file_called,
    folder_of,
    ingest,
    now_of,
    open_one,
    payload_of,
    staged_clone,
    state_of,
    story_of,
    tally_of,
)

BOOK = {"header": b"h" * 10, "data/a": b"a" * 100, "data/b": b"", "empty": None}


async def test_ingest_publishes_what_is_staged_and_records_it(site):
    upload = await committed(site, "2026/a", b"truth")

    await ingest(site)

    file = await file_called(site, "2026/a")
    assert (file.size, file.checksum, file.uploader, file.origin) == (5, checksum_of(b"truth"), "ana", "chajnantor")
    assert await state_of(site, upload) is TransferState.COMPLETED
    assert site.stores.lookup("fast").path_of("2026/a").read_bytes() == b"truth"
    assert [copy.presence for copy in await copies_of(site, "2026/a")] == [Presence.PRESENT]
    assert not folder_of(site, upload).exists()
    assert await story_of(site, "2026/a") == ["ingested"]
    assert (await tally_of(site, "held"), await tally_of(site, "store:fast")) == ((1, 5), (1, 5))


async def test_ingest_keeps_the_listing_of_a_book(site):
    await committed(site, "book", BOOK)

    await ingest(site)

    file = await file_called(site, "book")
    async with site.catalog.read() as tx:
        listing = await tx.files.listing_of(file.id)
    assert file.checksum == checksum_of(BOOK)
    assert {member.path: member.size for member in unpack_members(listing.packed)} == {
        "header": 10,
        "data/a": 100,
        "data/b": 0,
        "empty": 0,
    }
    assert listing.count == 4


@pytest.mark.parametrize("content", [b"", {}, {"only": b""}], ids=["empty file", "empty book", "empty member"])
async def test_ingest_takes_what_is_empty(site, content):
    upload = await committed(site, "empty", content)

    await ingest(site)

    assert await state_of(site, upload) is TransferState.COMPLETED


@pytest.mark.parametrize("algorithm", list(Algorithm))
async def test_ingest_verifies_in_the_algorithm_that_was_promised(site, algorithm):
    await committed(site, "a", b"truth", claimed=checksum_of(b"truth", algorithm))

    await ingest(site)

    assert (await file_called(site, "a")).checksum == checksum_of(b"truth", algorithm)


async def test_equal_bytes_under_two_names_are_two_files(site):
    await committed(site, "a", b"")
    await committed(site, "b", b"")

    await ingest(site)

    assert (await tally_of(site, "held"))[0] == 2
    assert await file_called(site, "a") != await file_called(site, "b")


async def test_ingest_refuses_a_payload_whose_checksum_differs(site):
    upload = await committed(site, "a", b"truth", claimed=checksum_of(b"liess"))

    await ingest(site)

    after = await now_of(site, upload)
    assert (after.state, after.code) == (TransferState.FAILED, "checksum_mismatch")
    assert checksum_of(b"truth") in after.reason
    assert not folder_of(site, upload).exists()
    assert await file_called(site, "a") is None
    assert not site.stores.lookup("fast").path_of("a").exists()


async def test_ingest_refuses_a_payload_whose_size_differs(site):
    upload = await committed(site, "a", b"truth", size=6)

    await ingest(site)

    after = await now_of(site, upload)
    assert (after.state, after.code) == (TransferState.FAILED, "size_mismatch")
    assert "6" in after.reason
    assert "5" in after.reason


async def test_ingest_refuses_a_book_that_comes_as_a_file(site):
    upload = await open_one(site, "a", {"x": b"truth"})
    write_payload(payload_of(site, upload), b"truth")
    await intake.commit_uploads(site, ANA, [intake.Commit(uuid=upload.uuid, checksum=checksum_of({"x": b"truth"}))])

    await ingest(site)

    assert (await now_of(site, upload)).code == "unsupported_member"


async def test_ingest_refuses_what_was_never_brought(site):
    upload = await open_one(site, "a", b"truth")
    await intake.commit_uploads(site, ANA, [intake.Commit(uuid=upload.uuid, checksum=checksum_of(b"truth"))])

    await ingest(site)

    assert (await now_of(site, upload)).code == "size_mismatch"


@pytest.mark.parametrize("trick", ["symlink", "fifo"])
async def test_ingest_refuses_special_files(site, trick):
    upload = await brought(site, "book", {"x": b"12345"})
    strange = payload_of(site, upload) / "strange"
    strange.symlink_to("/etc/passwd") if trick == "symlink" else os.mkfifo(strange)
    await intake.commit_uploads(site, ANA, [intake.Commit(uuid=upload.uuid, checksum=checksum_of({"x": b"12345"}))])

    await ingest(site)

    after = await now_of(site, upload)
    assert (after.state, after.code) == (TransferState.FAILED, "unsupported_member")


async def test_after_a_refusal_the_same_name_may_be_uploaded_again(site):
    await committed(site, "a", b"truth", claimed=checksum_of(b"liess"))
    await ingest(site)

    await committed(site, "a", b"truth")
    await ingest(site)

    assert (await file_called(site, "a")).checksum == checksum_of(b"truth")
    assert await story_of(site, "a") == ["refused", "ingested"]


async def test_one_bad_item_neither_fails_nor_delays_the_others_of_its_batch(site):
    await committed(site, "a", b"1")
    bad = await committed(site, "b", b"2", claimed=checksum_of(b"3"))
    await committed(site, "c", b"4")

    await ingest(site)

    assert await state_of(site, bad) is TransferState.FAILED
    assert {(await file_called(site, name)).name for name in ("a", "c")} == {"a", "c"}


async def test_bytes_that_stand_under_the_name_without_a_row_are_adopted_when_they_are_equal(site):
    write_payload(site.stores.lookup("fast").path_of("2026/a"), b"truth")
    upload = await committed(site, "2026/a", b"truth")

    await ingest(site)

    assert await state_of(site, upload) is TransferState.COMPLETED
    assert (await file_called(site, "2026/a")).checksum == checksum_of(b"truth")
    assert not folder_of(site, upload).exists()
    assert await alerts_of(site) == []


async def test_other_bytes_under_the_name_stay_as_they_are_and_a_person_is_told(site):
    path = site.stores.lookup("fast").path_of("a")
    write_payload(path, b"others")
    upload = await committed(site, "a", b"truth")

    await ingest(site)

    after = await now_of(site, upload)
    assert (after.state, after.code) == (TransferState.FAILED, "name_taken_on_disk")
    assert path.read_bytes() == b"others"
    assert await alerts_of(site) == ["name_taken_on_disk:fast:a"]


async def test_a_payload_that_was_published_before_the_process_died_is_adopted(site):
    upload = await committed(site, "a", b"truth")
    payload_of(site, upload).rename(site.stores.lookup("fast").path_of("a"))

    await ingest(site)

    assert await state_of(site, upload) is TransferState.COMPLETED


async def test_claims_of_a_process_that_died_are_taken_back(site):
    upload = await committed(site, "a", b"truth")
    async with site.catalog.begin() as tx:
        await Ingest(site).plan(tx)
    assert await state_of(site, upload) is TransferState.INGESTING
    successor = Ingest(site)

    async with site.catalog.begin() as tx:
        await successor.recover(tx)
    await successor.run_pass(plenty_of_time())

    assert await state_of(site, upload) is TransferState.COMPLETED


async def test_a_repeated_act_after_a_lost_record_ends_well(site):
    upload = await committed(site, "a", b"truth")
    task = Ingest(site)
    async with site.catalog.begin() as tx:
        plan = await task.plan(tx)
    await task.act(plan)

    result = await task.act(plan)
    async with site.catalog.begin() as tx:
        await task.record(tx, plan, result)

    assert await state_of(site, upload) is TransferState.COMPLETED
    assert await tally_of(site, "held") == (1, 5)


async def test_a_store_that_is_gone_puts_its_transfers_off_and_fails_none(site, tmp_path):
    upload = await committed(site, "a", b"truth")
    task = Ingest(site)
    async with site.catalog.begin() as tx:
        plan = await task.plan(tx)
    root = site.stores.lookup("fast").root
    root.rename(tmp_path / "elsewhere")

    await task.carry_out(plan)

    after = await now_of(site, upload)
    assert (after.state, after.code) == (TransferState.STAGED, "store_unavailable")
    assert payload_of(site, upload).exists()


async def test_what_was_put_off_is_ingested_when_its_store_is_back(site, tmp_path):
    upload = await committed(site, "a", b"truth")
    root = site.stores.lookup("fast").root
    root.rename(tmp_path / "elsewhere")
    await site.stores.probe()
    await ingest(site)
    (tmp_path / "elsewhere").rename(root)
    await site.stores.probe()

    await ingest(site)

    assert await state_of(site, upload) is TransferState.COMPLETED


async def test_a_batch_that_fails_unexpectedly_is_given_back_with_the_reason(site, monkeypatch):
    upload = await committed(site, "a", b"truth")

    async def explode(*_):
        raise Bug("the pool exploded")

    monkeypatch.setattr(verifying, "verify", explode)

    with pytest.raises(Bug):
        await ingest(site)

    after = await now_of(site, upload)
    assert (after.state, after.attempts, after.code) == (TransferState.STAGED, 1, "bug")
    assert after.reason == "the pool exploded"


async def test_a_lost_file_may_come_back_and_keeps_its_row(site):
    await hold(site, "a", b"truth")
    before = await file_called(site, "a")
    site.stores.lookup("fast").path_of("a").unlink()
    await _lose(site, before.id)

    await committed(site, "a", b"truth")
    await ingest(site)

    assert await file_called(site, "a") == before
    assert [copy.presence for copy in await copies_of(site, "a")] == [Presence.PRESENT]


async def test_a_lost_file_does_not_come_back_as_something_else(site):
    await hold(site, "a", b"truth")
    await _lose(site, (await file_called(site, "a")).id)

    answer = await open_one(site, "a", b"liess", checksum=checksum_of(b"liess"))

    assert isinstance(answer, NameHeld)


async def test_a_waiting_request_hears_of_the_verdict(site):
    upload = await committed(site, "a", b"truth")

    with site.news.expect([upload.uuid]) as watch:
        await ingest(site)
        heard = await watch.heard_of([upload.uuid], within=timedelta(0))

    assert heard[upload.uuid].state is TransferState.COMPLETED


async def test_a_waiting_request_hears_nothing_of_a_clone_for_which_a_peer_chose_the_same_uuid(site):
    upload = await brought(site, "mine", b"truth")
    await staged_clone(site, "theirs", b"other", uuid=upload.uuid)

    with site.news.expect([upload.uuid]) as watch:
        await ingest(site)
        heard = await watch.heard_of([upload.uuid], within=timedelta(0))

    assert (await file_called(site, "theirs")).size == 5
    assert heard == {}


async def test_a_waiting_request_hears_of_a_refusal_although_the_catalog_is_away_when_staging_is_cleared(
    site, monkeypatch
):
    upload = await committed(site, "a", b"truth", claimed=checksum_of(b"other"))
    monkeypatch.setattr(Claims, "staging_cleared", _is_away)

    with site.news.expect([upload.uuid]) as watch:
        with pytest.raises(DatabaseUnavailable):
            await ingest(site)
        heard = await watch.heard_of([upload.uuid], within=timedelta(0))

    assert heard[upload.uuid].state is TransferState.FAILED


async def _is_away(*_):
    raise DatabaseUnavailable("the database is away", remedy="Wait.")


async def _lose(site, file_id):
    from sqlalchemy import update

    from librarian.catalog.schema import InstanceRow

    async with site.catalog.begin() as tx:
        await tx._connection.execute(
            update(InstanceRow).where(InstanceRow.file_id == file_id).values(presence=Presence.MISSING)
        )


async def test_what_is_staged_while_its_lane_is_busy_is_taken_up_when_that_is_free(site, monkeypatch):
    loop, seen = asyncio.get_running_loop(), []

    async def bring_another():
        await committed(site, "second", b"more")
        # Its bell is heard, and the look that follows finds the lane busy.
        async with site.catalog.begin():
            await asyncio.sleep(0)

    def observe(step):
        if step == "first barrier" and not seen:
            seen.append(asyncio.run_coroutine_threadsafe(bring_another(), loop).result(60))

    monkeypatch.setattr(guard, "_on_step", [observe])
    await committed(site, "first", b"truth")

    await ingest(site)

    assert len(seen) == 1
    assert await story_of(site, "second") == ["ingested"]


class StoppedWhileItRecords(Ingest):
    async def record(self, tx, plan, result):
        self.lane.cancel()
        await super().record(tx, plan, result)


async def test_who_waits_for_what_is_recorded_as_the_server_goes_down_is_told(site):
    upload = await committed(site, "a", b"truth")
    task = StoppedWhileItRecords(site)
    async with site.catalog.begin() as tx:
        plan = await task.plan(tx)

    with site.news.expect([upload.uuid]) as watch:
        task.lane = asyncio.create_task(task.carry_out(plan))
        await asyncio.wait([task.lane])
        heard = await watch.heard_of([upload.uuid], within=timedelta(0))

    assert task.lane.cancelled()
    assert heard[upload.uuid].state is TransferState.COMPLETED
