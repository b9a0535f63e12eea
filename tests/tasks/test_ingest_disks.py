"""Disks that fill up, go away, hang or lose a block: nothing is lost, the service lives and says what is wrong."""

import asyncio
import io
import os
import signal
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from sqlalchemy import update

from librarian import guard, intake
from librarian.catalog.incoming_rows import Commit
from librarian.catalog.schema import IncomingRow
from librarian.errors import NoRoom
from librarian.names import StoreName
from librarian.states import Role, TransferState
from librarian.tasks.probe import Probe
from librarian.timing import plenty_of_time, utc_now
from tests.contracts.mounts import Mounts
from tests.disks import site_on
from tests.holding import write_payload
from tests.site_fixtures import create_account, served
from tests.uploading import (
    ANA,
    alerts_of,
    brought,
    checksum_of,
    committed,
    ingest,
    now_of,
    open_one,
    payload_of,
    state_of,
)
from tests.web.uploads_over_http import commit, content_of, opened, put

MIB = 1024**2


@pytest.fixture
def mounts():
    made = Mounts()
    yield made
    made.clean_up()


@pytest.fixture
def disk(tmp_path):
    return tmp_path / "disk"


@asynccontextmanager
async def serving(site):
    await create_account(site, "uploader", Role.UPLOADER)
    await create_account(site, "admin", Role.ADMIN)
    async with served(site) as live:
        yield live


async def look_again(site) -> None:
    """As the probe does every few seconds."""
    await site.stores.probe()


async def test_an_upload_that_fills_the_disk_goes_on_from_there_when_there_is_room(mounts, disk, sqlite_url, tmp_path):
    mounts.tmpfs(disk, "size=16m")
    content = bytes(range(256)) * 4 * 1024 * 10
    async with site_on(disk, tmp_path / "state", sqlite_url) as site, serving(site) as live:
        upload = await opened(live, "large", content)
        filler = disk / "filler"
        filler.write_bytes(b"x" * 10 * MIB)

        refused = await put(live, upload, io.BytesIO(content))
        alive = await live.call("GET", "/healthz", user=None)
        there = await live.call("HEAD", content_of(upload), user="uploader")
        filler.unlink()
        offset = int(there.headers["Upload-Offset"])
        await put(live, upload, io.BytesIO(content[offset:]), offset=offset)
        await commit(live, upload, checksum_of(content), wait=0)
        await ingest(site)

        assert (refused.status, refused.json["code"], alive.status) == (507, "no_room", 200)
        assert 4 * MIB < offset < 8 * MIB
        assert site.stores.lookup("fast").path_of("large").read_bytes() == content


async def test_more_than_the_disk_holds_is_refused_before_a_byte_is_sent(mounts, disk, sqlite_url, tmp_path):
    mounts.tmpfs(disk, "size=16m")
    async with site_on(disk, tmp_path / "state", sqlite_url) as site:
        answers = [await open_one(site, str(number), size=7 * MIB) for number in range(4)]

        assert [type(answer) is NoRoom for answer in answers] == [False, False, True, True]


async def test_a_disk_without_inodes_refuses_with_the_reason_and_keeps_no_name_busy(mounts, disk, sqlite_url, tmp_path):
    mounts.tmpfs(disk, "size=16m,nr_inodes=40")
    async with site_on(disk, tmp_path / "state", sqlite_url) as site:
        fillers = [disk / f"filler-{number}" for number in range(os.statvfs(disk).f_favail)]
        for filler in fillers:
            filler.touch()
        refusal = await open_one(site, "a")
        for filler in fillers:
            filler.unlink()
        again = await open_one(site, "a", b"another size")

        assert isinstance(refusal, NoRoom)
        assert await state_of(site, again) is TransferState.INITIATED


async def test_a_read_only_disk_puts_off_what_is_staged(mounts, disk, sqlite_url, tmp_path):
    mounts.ext4(tmp_path / "image", disk)
    async with site_on(disk, tmp_path / "state", sqlite_url) as site:
        upload = await committed(site, "a")
        mounts.make_read_only(disk)
        await ingest(site)
        meanwhile = await now_of(site, upload)
        refusal = await open_one(site, "b")
        mounts.make_writable(disk)
        await look_again(site)
        await at_once(site)
        await ingest(site)

        assert (meanwhile.state, meanwhile.code) == (TransferState.STAGED, "store_unavailable")
        assert isinstance(refusal, NoRoom)
        assert "fast has a problem" in refusal.message
        assert await state_of(site, upload) is TransferState.COMPLETED


async def test_a_disk_that_is_unmounted_is_never_written_under_and_taken_back(mounts, disk, sqlite_url, tmp_path):
    mounts.ext4(tmp_path / "image", disk)
    async with site_on(disk, tmp_path / "state", sqlite_url) as site, serving(site) as live:
        upload = await committed(site, "a")
        sending = await opened(live, "b", b"truth")
        cover = mounts.tmpfs(disk, "size=1m")
        refused = await put(live, sending, b"truth")
        await ingest(site)
        status = await live.call("GET", "/api/v1/status")
        written = list(disk.iterdir())
        mounts.unmount(cover)
        await look_again(site)
        await at_once(site)
        accepted = await put(live, sending, b"truth")
        await ingest(site)

        assert (refused.status, refused.json["code"]) == (503, "store_unavailable")
        assert [store["name"] for store in status.json["stores"] if store["problem"]] == ["fast"]
        assert written == []
        assert accepted.status == 200
        assert await state_of(site, upload) is TransferState.COMPLETED


async def test_a_hung_disk_stops_neither_the_service_nor_other_stores(mounts, disk, sqlite_url, tmp_path):
    server = mounts.fuse(tmp_path / "source", disk)
    async with (
        site_on(disk, tmp_path / "state", sqlite_url, answer_timeout="0.5s") as site,
        serving(site) as live,
    ):
        upload = await committed(site, "a")
        async with site.catalog.begin() as tx:
            await tx.stores.set_open(StoreName("slow"), is_open=True)
        server.send_signal(signal.SIGSTOP)
        await ingest(site)
        waiting = await now_of(site, upload)
        status = await live.call("GET", "/api/v1/status")
        beside = await committed(site, "b")
        await ingest(site)
        server.send_signal(signal.SIGCONT)
        await look_again(site)
        await at_once(site)
        await ingest(site)

        assert (waiting.state, waiting.code) == (TransferState.STAGED, "store_unavailable")
        assert "no answer" in next(store["problem"] for store in status.json["stores"] if store["name"] == "fast")
        assert (beside.store, await state_of(site, beside)) == ("slow", TransferState.COMPLETED)
        assert await state_of(site, upload) is TransferState.COMPLETED


async def test_a_disk_that_hangs_while_it_is_hashed_keeps_no_worker(mounts, disk, sqlite_url, tmp_path, monkeypatch):
    server = mounts.fuse(tmp_path / "source", disk)
    hangs = asyncio.Event()

    def hang(step: str) -> None:
        if step == "half hashed" and not hangs.is_set():
            server.send_signal(signal.SIGSTOP)
            hangs.set()

    async with site_on(disk, tmp_path / "state", sqlite_url, answer_timeout="0.5s") as site:
        upload = await committed(site, "a", b"0" * 32 * MIB)
        async with site.catalog.begin() as tx:
            await tx.stores.set_open(StoreName("slow"), is_open=True)
        monkeypatch.setattr(guard, "_on_step", [hang])
        hanging = asyncio.create_task(ingest(site))
        await hangs.wait()
        await look_again(site)
        await hanging
        beside = await committed(site, "b", b"1" * 8 * MIB)
        await ingest(site)

        assert beside.store == "slow"
        assert await state_of(site, beside) is TransferState.COMPLETED
        assert (await now_of(site, upload)).code == "store_unavailable"
        server.send_signal(signal.SIGCONT)
        await look_again(site)
        await at_once(site)
        await ingest(site)
        assert await state_of(site, upload) is TransferState.COMPLETED


async def test_a_disk_from_whose_staging_nothing_can_be_renamed_is_told_and_not_used(
    mounts, disk, sqlite_url, tmp_path
):
    for folder in ("root", "staging"):
        mounts.bind(tmp_path / "source" / folder, disk / folder)
    async with site_on(disk, tmp_path / "state", sqlite_url) as site, serving(site) as live:
        await Probe(site).run_pass(plenty_of_time())
        status = await live.call("GET", "/api/v1/status")
        refusal = await open_one(site, "a")

        (alert,) = status.json["alerts"]
        assert (alert["cause"], "different mounts" in alert["message"]) == ("store-unavailable:fast", True)
        assert isinstance(refusal, NoRoom)
        assert "different mounts" in refusal.message


async def test_a_disk_that_knows_no_rename_without_replacing_keeps_files_and_books(mounts, disk, sqlite_url, tmp_path):
    mounts.fuse(tmp_path / "source", disk)
    async with site_on(disk, tmp_path / "state", sqlite_url) as site:
        uploads = [await committed(site, "a/file", b"truth"), await committed(site, "a/book", {"b/c": b"1", "d": None})]
        write_payload(site.stores.lookup("fast").path_of("a/other"), b"stands there")
        taken = await committed(site, "a/other", b"truth")
        await ingest(site)

        assert {await state_of(site, upload) for upload in uploads} == {TransferState.COMPLETED}
        assert (await now_of(site, taken)).code == "name_taken_on_disk"


async def test_what_others_brought_waits_for_room_to_be_copied(mounts, disk, sqlite_url, tmp_path):
    mounts.tmpfs(disk, "size=16m")
    content = bytes(range(256)) * 4 * 1024 * 7
    async with site_on(disk, tmp_path / "state", sqlite_url, takes_foreign_writes=True) as site:
        upload = await brought(site, "a", content)
        payload_of(site, upload).chmod(0o666)
        (disk / "filler").write_bytes(b"x" * 5 * MIB)
        await intake.commit_uploads(site, ANA, [Commit(uuid=upload.uuid, checksum=checksum_of(content))])
        await ingest(site)
        meanwhile = await now_of(site, upload)
        (disk / "filler").unlink()
        await at_once(site)
        await ingest(site)

        assert (meanwhile.state, meanwhile.code) == (TransferState.STAGED, "no_room")
        assert await state_of(site, upload) is TransferState.COMPLETED
        assert sorted(path.name for path in (disk / "staging").iterdir()) == [".private", ".quarantine"]


async def test_a_bad_block_in_staging_is_tried_again_and_shown_to_a_person(mounts, disk, sqlite_url, tmp_path):
    mounts.fuse(tmp_path / "source", disk)
    book = {"unreadable": b"12345"}
    async with site_on(disk, tmp_path / "state", sqlite_url) as site:
        upload = await open_one(site, "a", book)
        write_payload(payload_of(site, upload), book)
        await intake.commit_uploads(site, ANA, [Commit(uuid=upload.uuid, checksum=checksum_of(book))])
        await ingest(site)
        early = await alerts_of(site)
        await at_once(site, waited=timedelta(hours=2))
        await ingest(site)

        assert early == []
        assert await state_of(site, upload) is TransferState.STAGED
        assert await alerts_of(site) == ["ingest-waits:fast:unavailable"]


async def at_once(site, *, waited=timedelta(0)) -> None:
    """Let what was put off be due now, as if it had been waiting for so long."""
    async with site.catalog.begin() as tx:
        await tx._connection.execute(
            update(IncomingRow).values(next_try_at=utc_now(), progressed_at=utc_now() - waited)
        )
