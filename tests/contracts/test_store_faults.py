"""Real faults of file systems, and what a store makes of them."""

import asyncio
import os
import signal
from datetime import timedelta

import pytest

from librarian.checksum import Algorithm, Checksum
from librarian.errors import (
    ConfigurationError,
    LibrarianError,
    NoRoom,
    RestoredCatalog,
    StoreUnavailable,
    TooLarge,
)
from librarian.names import FileName, MemberPath, StoreName, Token
from librarian.states import Kind
from librarian.stores import examining
from librarian.stores.base import Barrier, Bringing, Publication, Publishing
from tests.contracts.conftest import inspected, publish, stage_book, stage_file


async def body(size: int):
    for _ in range(0, size, 1_000_000):
        yield b"0" * 1_000_000


async def test_a_full_disk_is_no_room_and_keeps_what_arrived(mounts, tmp_path, new_store):
    store = new_store(mounts.tmpfs(tmp_path / "disk", "size=16m"))
    await store.open(expected_uuid=None, generation=1)
    token = Token.mint()
    await store.stage([token])

    with pytest.raises(NoRoom):
        await store.write(token, None, body(20_000_000), offset=0, limit=20_000_000)

    assert (await store.staged_members(token))[None] >= 14_000_000
    assert store.problem is None


async def test_what_is_larger_than_any_file_there_is_refused_uncopied(mounts, tmp_path, new_store):
    store = new_store(mounts.ext4(tmp_path / "image", tmp_path / "disk"))
    await store.open(expected_uuid=None, generation=1)
    source = mounts.tmpfs(tmp_path / "source", "size=1m")
    with (source / "vast").open("wb") as file:
        file.truncate(2**44)
    checksum = Checksum.of(Algorithm.XXH3, "0" * 32)
    item = Bringing(token=Token.mint(), name=FileName("vast"), kind=Kind.FILE, checksum=checksum, replaces=False)
    root_fd = os.open(source, os.O_RDONLY)

    (answer,) = await store.bring([item], root_fd=root_fd)

    os.close(root_fd)
    assert isinstance(answer, TooLarge)


@pytest.mark.parametrize(("size", "remarks"), [(2**32, ()), (2**44, ("it keeps no file of 4 GiB or more",))])
def test_the_largest_file_of_a_drive_is_found_out_without_writing_it(mounts, tmp_path, monkeypatch, size, remarks):
    monkeypatch.setattr(examining, "_LARGE_BYTES", size)
    disk = mounts.ext4(tmp_path / "image", tmp_path / "disk")

    assert examining.examine(disk, StoreName("A07")).remarks == remarks


async def test_a_disk_without_inodes_is_no_room(mounts, tmp_path, new_store):
    store = new_store(mounts.tmpfs(tmp_path / "disk", "size=16m,nr_inodes=20"))
    await store.open(expected_uuid=None, generation=1)

    with pytest.raises(NoRoom):
        await store.stage([Token.mint() for _ in range(30)])
    assert (await store.capacity()).free_inodes == 0


async def test_taking_on_a_full_disk_is_no_room(mounts, tmp_path, new_store):
    store = new_store(mounts.tmpfs(tmp_path / "disk", "size=16m"))
    await store.open(expected_uuid=None, generation=1)
    token = await stage_file(store, b"0" * 10_000_000)

    with pytest.raises(NoRoom):
        await store.take(token, Algorithm.XXH3)


@pytest.mark.parametrize("barrier", list(Barrier))
async def test_a_read_only_disk_closes_the_store_until_it_is_writable(mounts, tmp_path, new_store, barrier):
    disk = mounts.ext4(tmp_path / "image", tmp_path / "disk")
    store = new_store(disk, barrier=barrier)
    await store.open(expected_uuid=None, generation=1)
    token = await stage_file(store)
    mounts.make_read_only(disk)

    with pytest.raises(StoreUnavailable):
        await store.stage([Token.mint()])

    assert store.problem is not None
    assert await store.probe() is not None
    mounts.make_writable(disk)
    assert await store.probe() is None
    assert await publish(store, token, "a") is Publishing.PUBLISHED


async def test_publishing_on_a_read_only_disk_closes_the_store(mounts, tmp_path, new_store):
    disk = mounts.ext4(tmp_path / "image", tmp_path / "disk")
    store = new_store(disk)
    await store.open(expected_uuid=None, generation=1)
    token = await stage_file(store)
    mounts.make_read_only(disk)

    with pytest.raises(StoreUnavailable):
        await publish(store, token, "a")

    assert store.problem is not None


async def test_a_new_file_system_with_lost_and_found_is_empty(mounts, tmp_path, new_store):
    disk = mounts.ext4(tmp_path / "image", tmp_path / "disk")
    store = new_store(disk, root=disk, staging=disk / ".librarian-staging")

    await store.open(expected_uuid=None, generation=1)

    assert await publish(store, await stage_file(store), "a") is Publishing.PUBLISHED


async def test_an_unmounted_mount_point_is_never_filled(mounts, tmp_path, new_store):
    disk = mounts.tmpfs(tmp_path / "disk", "size=16m")
    store = new_store(disk, root=disk, staging=disk / ".librarian-staging")
    uuid = await store.open(expected_uuid=None, generation=1)
    mounts.unmount(disk)

    with pytest.raises(StoreUnavailable):
        await store.stage([Token.mint()])
    with pytest.raises(StoreUnavailable):
        await store.open(expected_uuid=uuid, generation=1)

    assert list(disk.iterdir()) == []
    assert store.problem is not None


async def test_a_store_that_is_mounted_again_is_taken_back(mounts, tmp_path, new_store):
    disk = mounts.ext4(tmp_path / "image", tmp_path / "disk")
    store = new_store(tmp_path / "here", root=disk, staging=disk / ".librarian-staging")
    await store.open(expected_uuid=None, generation=1)
    other = mounts.tmpfs(disk, "size=1m")
    gone = await store.probe()
    mounts.unmount(other)

    assert gone is not None
    assert await store.probe() is None
    assert store.problem is None


async def test_two_mounts_of_one_device_are_refused(mounts, tmp_path, new_store):
    root = mounts.bind(tmp_path / "disk" / "root", tmp_path / "root")
    staging = mounts.bind(tmp_path / "disk" / "staging", tmp_path / "staging")
    assert root.stat().st_dev == staging.stat().st_dev

    with pytest.raises(StoreUnavailable, match="different mounts"):
        await new_store().open(expected_uuid=None, generation=1)

    assert list(root.iterdir()) == []


async def test_a_file_system_without_noreplace_is_found_out(mounts, tmp_path, new_store):
    mounts.fuse(tmp_path / "source", tmp_path / "disk")
    store = new_store(tmp_path / "disk")
    await store.open(expected_uuid=None, generation=1)
    await publish(store, await stage_file(store, b"first"), "a")

    assert await publish(store, await stage_file(store, b"second"), "a") is Publishing.NAME_TAKEN
    assert store.path_of(FileName("a")).read_bytes() == b"first"


async def test_a_payload_that_cannot_be_synced_is_not_published(mounts, tmp_path, new_store):
    mounts.fuse(tmp_path / "source", tmp_path / "disk")
    store = new_store(tmp_path / "disk", barrier=Barrier.FSYNC)
    await store.open(expected_uuid=None, generation=1)
    bad, good = await stage_book(store, unsyncable=b"1"), await stage_file(store)
    await store.inspect([bad, good])

    answers = await store.publish(
        [
            Publication(token=bad, name=FileName("bad"), kind=Kind.BOOK),
            Publication(token=good, name=FileName("good"), kind=Kind.FILE),
        ]
    )

    assert isinstance(answers[0], StoreUnavailable)
    assert answers[1] is Publishing.PUBLISHED
    assert not store.path_of(FileName("bad")).exists()


async def test_a_bad_block_fails_one_copy_and_leaves_the_store_open(mounts, tmp_path, new_store):
    mounts.fuse(tmp_path / "source", tmp_path / "disk")
    store = new_store(tmp_path / "disk")
    await store.open(expected_uuid=None, generation=1)
    token = await stage_book(store, unreadable=b"1")

    with pytest.raises(StoreUnavailable):
        await store.take(token, Algorithm.XXH3)

    assert store.problem is None


async def test_a_disk_that_fills_up_while_writing_answers_per_item(mounts, tmp_path, new_store):
    mounts.fuse(tmp_path / "source", tmp_path / "disk")
    store = new_store(tmp_path / "disk")
    await store.open(expected_uuid=None, generation=1)
    token = Token.mint()
    await store.stage([token])

    answers = await store.write_small([(token, MemberPath("full"), b"1"), (token, MemberPath("fine"), b"1")])

    assert [type(answer) for answer in answers] == [NoRoom, type(None)]


async def test_a_hung_mount_stops_its_own_store_only(mounts, tmp_path, new_store):
    server = mounts.fuse(tmp_path / "source", tmp_path / "disk")
    hung = new_store(tmp_path / "disk", name=StoreName("hung"), answer_timeout=timedelta(seconds=0.2))
    other = new_store(tmp_path / "other")
    await hung.open(expected_uuid=None, generation=1)
    await other.open(expected_uuid=None, generation=1)
    server.send_signal(signal.SIGSTOP)

    failing = [asyncio.create_task(hung.stage([Token.mint()])) for _ in range(20)]
    await publish(other, await stage_file(other), "a")
    answers = await asyncio.gather(*failing, return_exceptions=True)

    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert hung.problem == "no answer for 0.2 s"
    assert await hung.probe() is not None
    assert other.problem is None


async def test_a_hung_mount_that_answers_again_is_taken_back(mounts, tmp_path, new_store):
    server = mounts.fuse(tmp_path / "source", tmp_path / "disk")
    store = new_store(tmp_path / "disk", answer_timeout=timedelta(seconds=0.5))
    await store.open(expected_uuid=None, generation=1)
    token = Token.mint()
    server.send_signal(signal.SIGSTOP)
    with pytest.raises(StoreUnavailable):
        await store.capacity()
    server.send_signal(signal.SIGCONT)

    assert await store.probe() is None
    await store.stage([token])


async def test_a_caller_that_gives_up_on_a_hung_mount_is_let_go(mounts, tmp_path, new_store):
    server = mounts.fuse(tmp_path / "source", tmp_path / "disk")
    store = new_store(tmp_path / "disk", answer_timeout=timedelta(seconds=0.3))
    await store.open(expected_uuid=None, generation=1)
    server.send_signal(signal.SIGSTOP)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await store.capacity()


async def test_a_dead_mount_closes_the_store(mounts, tmp_path, new_store):
    server = mounts.fuse(tmp_path / "source", tmp_path / "disk")
    store = new_store(tmp_path / "disk")
    await store.open(expected_uuid=None, generation=1)
    server.kill()
    server.wait()

    with pytest.raises(LibrarianError) as refusal:
        await store.capacity()

    assert isinstance(refusal.value, StoreUnavailable)
    assert store.problem is not None


async def test_another_store_in_its_place_is_refused(tmp_path, new_store):
    store = new_store()
    await store.open(expected_uuid=None, generation=1)

    with pytest.raises(StoreUnavailable, match="another store"):
        await store.open(expected_uuid="6b1f0b1e-3a4b-4a53-9d0c-0d8f0b6d3f11", generation=1)


async def test_a_root_that_is_not_empty_is_no_new_store(tmp_path, new_store):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "old").touch()

    with pytest.raises(StoreUnavailable, match="not empty"):
        await new_store().open(expected_uuid=None, generation=1)

    assert [entry.name for entry in (tmp_path / "root").iterdir()] == ["old"]


async def test_a_crash_before_the_identity_was_recorded_is_repaired(tmp_path, new_store):
    first = await new_store().open(expected_uuid=None, generation=1)

    assert await new_store().open(expected_uuid=None, generation=1) == first


async def test_a_store_ahead_of_its_catalog_means_a_restored_backup(tmp_path, new_store):
    store = new_store()
    uuid = await store.open(expected_uuid=None, generation=1)
    await store.stamp(7)

    with pytest.raises(RestoredCatalog):
        await store.open(expected_uuid=uuid, generation=6)
    assert store.problem is not None
    await store.open(expected_uuid=uuid, generation=7)
    assert store.problem is None


@pytest.mark.parametrize("generation", ["null", "-1", "1e999", "9" * 99, "9" * 4_000, "[" * 4_000])
async def test_an_identity_that_says_nothing_is_refused(tmp_path, new_store, generation):
    store = new_store()
    uuid = await store.open(expected_uuid=None, generation=1)
    said = f'{{"version": 1, "uuid": "{uuid}", "generation": {generation}}}'
    (tmp_path / "root" / ".librarian-store").write_text(said)

    with pytest.raises(StoreUnavailable):
        await store.open(expected_uuid=uuid, generation=1)


@pytest.mark.parametrize("staging", ["root", "root/staging", "."])
async def test_staging_among_the_names_is_refused(tmp_path, new_store, staging):
    with pytest.raises(ConfigurationError):
        await new_store(staging=tmp_path / staging).open(expected_uuid=None, generation=1)


async def test_a_group_that_does_not_exist_is_refused(tmp_path, new_store):
    with pytest.raises(ConfigurationError, match="no-such-group"):
        await new_store(staging_group="no-such-group").open(expected_uuid=None, generation=1)


async def test_a_store_that_was_not_opened_refuses(tmp_path, new_store):
    with pytest.raises(StoreUnavailable):
        await new_store().stage([Token.mint()])


async def test_the_limit_bounds_the_room(tmp_path, new_store):
    store = new_store(limit_bytes=1000)
    await store.open(expected_uuid=None, generation=1)

    capacity = await store.capacity()

    assert (capacity.total_bytes, capacity.free_bytes) == (1000, 1000)
    assert capacity.free_beside(900) == 100
    assert capacity.free_beside(1100) == 0


async def test_a_store_keeps_nothing_open_that_would_hold_its_mount(mounts, tmp_path, new_store):
    disk = mounts.tmpfs(tmp_path / "disk", "size=16m")
    store = new_store(disk)
    await store.open(expected_uuid=None, generation=1)
    token = await stage_book(store, a=b"1", sub__b=b"2")
    await inspected(store, token)
    await publish(store, token, "book", Kind.BOOK)

    mounts.unmount_now(disk)
