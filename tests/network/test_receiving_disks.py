"""Drives of a peer that are real disks: pulled out, read-only, worn, and received onto a disk that fills up."""

import hashlib
import os
import shutil
import sqlite3
from contextlib import asynccontextmanager, closing
from datetime import timedelta

import pytest

from librarian.tasks import receive as receiving_task
from tests.clone_fixtures import acquaint, party
from tests.contracts.mounts import Mounts
from tests.suitcases import bad_of, done, introduce_key, pack, receive, shows, waits

MIB = 1024**2
FILES = {f"obs/{number}": bytes([65 + number]) * (100_000 + number) for number in range(6)}
BOOK = {"header": b"first light", "spectra/one": b"1" * 5000, "spectra/unreadable": b"2" * 6000}
ALL = [*FILES, "obs/book"]


@pytest.fixture
def mounts():
    made = Mounts()
    yield made
    made.clean_up()


@pytest.fixture
def in_small_steps(monkeypatch):
    """Two entries are copied at once, and a drive that is away is soon looked for again."""
    monkeypatch.setattr(receiving_task, "COPY_FILES", 2)
    monkeypatch.setattr(receiving_task, "SEEK_EVERY", timedelta(milliseconds=100))


@pytest.fixture
def urls(databases, tmp_path):
    """Catalogs of chajnantor and nersc, which are of one kind here; made here since that cannot be done in a loop."""
    return [databases.new_sqlite(tmp_path / f"{name}.sqlite") for name in ("chajnantor", "nersc")]


@pytest.fixture
def opened_pair(urls, tmp_path):
    """Opens chajnantor, which seals drives, and nersc, which receives them; *at* is nersc's folder."""

    @asynccontextmanager
    async def opened(*, at=tmp_path / "nersc"):
        async with (
            party(urls[0], tmp_path / "chajnantor", "chajnantor") as sender,
            party(urls[1], at, "nersc") as receiver,
        ):
            await acquaint(sender, receiver)
            await introduce_key(sender, receiver)
            yield sender, receiver

    return opened


@pytest.fixture
async def pair(opened_pair):
    async with opened_pair() as both:
        yield both


@pytest.fixture
async def disk(pair, disks, tmp_path):
    """A disk that chajnantor has packed for nersc, unplugged."""
    sender, _ = pair
    await sender.upload(FILES)
    await sender.upload_book("obs/book", BOOK)
    made = disks.new("a07")
    await pack(sender, ALL, made.plug(tmp_path / "packing"), to="nersc")
    made.unplug()
    return made


def digest_of(image) -> str:
    with image.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


async def test_a_drive_that_is_mounted_read_only_is_received_and_not_a_bit_of_it_changes(pair, disk, tmp_path):
    sender, receiver = pair
    before = digest_of(disk.image)

    begun = await receive(receiver, disk.plug(tmp_path / "media", read_only=True))
    found = await done(receiver, begun["uuid"])
    disk.unplug()

    assert (found["held_files"], found["bad_files"]) == (7, 0)
    await shows(sender, ("confirmed", 7, 0))
    assert digest_of(disk.image) == before


async def test_a_drive_that_is_pulled_out_goes_on_by_itself_wherever_it_is_mounted_next(
    pair, disk, tmp_path, at_step, in_small_steps
):
    sender, receiver = pair
    at_step("half copied", disk.unplug)

    begun = await receive(receiver, disk.plug(tmp_path / "media"))
    await waits(receiver, begun["uuid"], "cannot be read")
    told = [alert.message for alert in await receiver.alerts()]
    elsewhere = disk.plug(tmp_path / "elsewhere")
    found = await done(receiver, begun["uuid"])

    assert any("A07" in message for message in told)
    assert (found["held_files"], found["bad_files"], found["path"]) == (7, 0, str(elsewhere))
    assert await receiver.alerts() == ()
    await shows(sender, ("confirmed", 7, 0))


async def test_another_drive_that_is_mounted_in_its_place_is_left_alone(
    pair, disk, disks, tmp_path, at_step, in_small_steps
):
    _, receiver = pair
    at_step("half copied", disk.unplug)
    begun = await receive(receiver, disk.plug(tmp_path / "media"))
    await waits(receiver, begun["uuid"], "cannot be read")

    disks.new("other").plug(tmp_path / "media")
    receiver.site.bells.ring("receive")
    await waits(receiver, begun["uuid"], "not that drive")
    disk.plug(tmp_path / "elsewhere")
    found = await done(receiver, begun["uuid"])

    assert (found["held_files"], found["bad_files"]) == (7, 0)


async def test_a_disk_that_is_full_halfway_is_filled_on_by_itself_once_an_operator_made_room(
    opened_pair, disks, tmp_path, at_step
):
    place = disks.new("store").plug(tmp_path / "store")
    filler = place / "filler"

    def fill() -> None:
        with filler.open("wb") as file:
            while True:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), MIB)
                except OSError:
                    return

    async with opened_pair(at=place / "nersc") as (sender, receiver):
        await sender.upload({name: content * 20 for name, content in FILES.items()})
        packed = await pack(sender, [*FILES], tmp_path / "drive", to="nersc")
        at_step("half copied", fill)

        begun = await receive(receiver, packed.root)
        await waits(receiver, begun["uuid"], "No space left")
        told = [alert.message for alert in await receiver.alerts()]
        filler.unlink()
        found = await done(receiver, begun["uuid"])

        assert any("A07" in message for message in told)
        assert (found["held_files"], found["bad_files"]) == (6, 0)
        assert await receiver.alerts() == ()
        await shows(sender, ("confirmed", 6, 0))


async def test_a_member_that_the_drive_does_not_give_back_is_told_and_travels_again_on_the_next(pair, mounts, tmp_path):
    sender, receiver = pair
    await sender.upload(FILES)
    await sender.upload_book("obs/book", BOOK)
    packed = await pack(sender, ALL, tmp_path / "disk", to="nersc")
    mounts.fuse(packed.root, tmp_path / "media")

    begun = await receive(receiver, tmp_path / "media")
    found = await done(receiver, begun["uuid"])
    await shows(sender, ("received", 6, 1))
    second = await pack(sender, ["obs/book"], tmp_path / "second", to="nersc", drive="A08")
    await done(receiver, (await receive(receiver, second.root))["uuid"])

    assert (found["held_files"], found["bad_files"]) == (6, 1)
    assert await bad_of(receiver, begun["uuid"]) == [("obs/book", "entry_unreadable", "spectra/unreadable")]
    await shows(sender, ("confirmed", 1, 0), "A08")
    await sender.knows_copies_at(receiver, ALL)


async def test_what_the_store_cannot_keep_is_no_fault_of_the_drive(opened_pair, mounts, tmp_path):
    place = mounts.fat(tmp_path / "stick", tmp_path / "fat", mode=0o700)
    async with opened_pair(at=place / "nersc") as (sender, receiver):
        await sender.upload(FILES)
        await sender.upload_book("obs/book", {"header": b"first light", "at 12:30": b"1" * 5000})
        packed = await pack(sender, ALL, tmp_path / "drive", to="nersc")

        begun = await receive(receiver, packed.root)
        found = await done(receiver, begun["uuid"])
        await shows(sender, ("received", 6, 1))

        assert (found["held_files"], found["bad_files"]) == (6, 1)
        assert [(name, code) for name, code, _ in await bad_of(receiver, begun["uuid"])] == [("obs/book", "bad_name")]


async def test_a_drive_that_dies_while_it_is_read_condemns_nothing(pair, mounts, tmp_path, at_step, in_small_steps):
    sender, receiver = pair
    await sender.upload(FILES)
    packed = await pack(sender, [*FILES], tmp_path / "disk", to="nersc")
    server = mounts.fuse(packed.root, tmp_path / "media")
    at_step("half copied", server.kill)

    begun = await receive(receiver, tmp_path / "media")
    await waits(receiver, begun["uuid"], "cannot be read")
    mounts.unmount(tmp_path / "media")
    mounts.fuse(packed.root, tmp_path / "media")
    found = await done(receiver, begun["uuid"])

    assert (found["held_files"], found["bad_files"]) == (6, 0)
    await shows(sender, ("confirmed", 6, 0))


async def test_a_byte_that_changed_on_the_medium_is_found_and_what_it_belongs_to_comes_on_the_next_drive(
    pair, disk, tmp_path
):
    sender, receiver = pair
    image = disk.image.read_bytes()
    at = image.index(BOOK["spectra/one"]) + 1000
    with disk.image.open("r+b") as file:
        file.seek(at)
        file.write(b"\0")

    begun = await receive(receiver, disk.plug(tmp_path / "media"))
    await done(receiver, begun["uuid"])
    await shows(sender, ("received", 6, 1))
    second = await pack(sender, ["obs/book"], tmp_path / "second", to="nersc", drive="A08")
    await done(receiver, (await receive(receiver, second.root))["uuid"])

    assert await bad_of(receiver, begun["uuid"]) == [("obs/book", "entry_differs", "spectra/one")]
    await shows(sender, ("confirmed", 1, 0), "A08")
    await sender.knows_copies_at(receiver, ALL)


async def test_a_drive_that_is_a_folder_of_the_same_file_system_shares_its_blocks(opened_pair, mounts, tmp_path):
    place = mounts.xfs(tmp_path / "xfs.img", tmp_path / "xfs")
    large = {f"obs/{number}": os.urandom(8 * MIB) for number in range(3)}
    async with opened_pair(at=place / "nersc") as (sender, receiver):
        await sender.upload(large)
        packed = await pack(sender, [*large], place / "drive", to="nersc")
        os.sync()
        before = free_bytes(place)

        begun = await receive(receiver, packed.root)
        found = await done(receiver, begun["uuid"])
        os.sync()

        assert (found["held_files"], found["bad_files"]) == (3, 0)
        assert before - free_bytes(place) < 8 * MIB
        shutil.rmtree(packed.root)
        held = {name: (receiver.folder / "fast" / name).read_bytes() for name in large}
        assert held == large


def free_bytes(place) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


async def test_a_destination_that_comes_back_from_a_backup_receives_the_drive_again(
    urls, tmp_path, at_step, in_small_steps
):
    catalog, backup = tmp_path / "nersc.sqlite", tmp_path / "backup.sqlite"
    async with party(urls[0], tmp_path / "chajnantor", "chajnantor") as sender:
        async with party(urls[1], tmp_path / "nersc", "nersc") as receiver:
            await acquaint(sender, receiver)
            await introduce_key(sender, receiver)
            await sender.upload(FILES)
            packed = await pack(sender, [*FILES], tmp_path / "drive", to="nersc")
            with closing(sqlite3.connect(catalog)) as source, closing(sqlite3.connect(backup)) as copy:
                source.backup(copy)
            at_step("STAGED", lambda: packed.root.rename(tmp_path / "away"))
            begun = await receive(receiver, packed.root)
            await waits(receiver, begun["uuid"], "cannot be read")
            await shows(sender, ("received", 2, 0))
            port = receiver.port
        for rest in ("-wal", "-shm"):
            catalog.with_name(catalog.name + rest).unlink(missing_ok=True)
        shutil.copyfile(backup, catalog)
        (tmp_path / "away").rename(packed.root)

        async with party(urls[1], tmp_path / "nersc", "nersc", port=port) as receiver:
            forgotten = await receiver.live.call("GET", f"/api/v1/receptions/{begun['uuid']}")
            found = await done(receiver, (await receive(receiver, packed.root))["uuid"])

            assert forgotten.status == 404
            assert (found["held_files"], found["bad_files"]) == (6, 0)
            await sender.knows_copies_at(receiver, [*FILES])
            await shows(sender, ("confirmed", 6, 0))
            assert "site:restored" in [alert.cause for alert in await receiver.alerts()]
