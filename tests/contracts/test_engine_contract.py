"""What every engine promises, whatever carries the bytes."""

import asyncio
import filecmp
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from librarian.names import SiteName, StoreName, Token
from librarian.states import Kind
from librarian.transfers.base import Item, Job, Phase, TransferEngine
from librarian.transfers.http import HttpEngine
from librarian.transfers.local import LocalEngine
from tests.fakes.folder_port import FolderPort

MIB = 1024**2


@dataclass
class Road:
    """An engine, where it reads and where it brings."""

    engine: TransferEngine
    port: FolderPort
    sources: Path
    staging: Path
    changed: asyncio.Event
    items: list[Item] = field(default_factory=list)

    def has_file(self, name: str, content: bytes) -> Item:
        path = self.sources / name
        path.write_bytes(content)
        return self._item(path, Kind.FILE, len(content))

    def has_book(self, name: str, members: dict[str, bytes], directories: tuple[str, ...] = ()) -> Item:
        path = self.sources / name
        path.mkdir()
        for directory in directories:
            (path / directory).mkdir(parents=True, exist_ok=True)
        for member, content in members.items():
            (path / member).parent.mkdir(parents=True, exist_ok=True)
            (path / member).write_bytes(content)
        return self._item(path, Kind.BOOK, sum(map(len, members.values())))

    def _item(self, path: Path | None, kind: Kind, size: int) -> Item:
        token = Token.mint()
        (self.staging / token).mkdir()
        item = Item(uuid=str(uuid.uuid4()), token=token, source=path, kind=kind, size=size)
        self.items.append(item)
        return item

    def has_nothing(self) -> Item:
        return self._item(None, Kind.FILE, 3)

    @property
    def job(self) -> Job:
        return Job(
            peer=SiteName("nersc"),
            store=StoreName("fast"),
            address="",
            staging=str(self.staging),
            items=tuple(self.items),
        )

    def payload(self, item: Item) -> Path:
        return self.staging / item.token / "payload"

    async def ends(self, handle: str):
        """What the engine says once it has ended."""
        async with asyncio.timeout(20):
            while True:
                progress = (await self.engine.inspect([handle]))[handle]
                if progress.phase in (Phase.SUCCEEDED, Phase.FAILED, Phase.LOST):
                    return progress
                await self.changed.wait()
                self.changed.clear()

    async def runs(self):
        return await self.ends(await self.engine.submit(self.job, await self.engine.prepare()))


def make_engine(kind: str, port: FolderPort, changed: asyncio.Event) -> TransferEngine:
    pause = timedelta(seconds=1)
    if kind == "http":
        return HttpEngine(port, on_change=changed.set, longest_pause=pause)
    return LocalEngine(on_change=changed.set, longest_pause=pause)


@pytest.fixture(params=["http", "local"])
async def road(request, tmp_path):
    sources, staging = tmp_path / "sources", tmp_path / "staging"
    sources.mkdir()
    staging.mkdir()
    port, changed = FolderPort(staging), asyncio.Event()
    engine = make_engine(request.param, port, changed)
    yield Road(engine, port, sources, staging, changed)
    await engine.close()


async def test_a_file_arrives_byte_for_byte(road):
    item = road.has_file("one", bytes(range(256)) * 20_000)

    progress = await road.runs()

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})
    assert progress.bytes_done == item.size
    assert filecmp.cmp(road.payload(item), item.source, shallow=False)


async def test_a_book_arrives_with_its_empty_members_and_directories(road):
    item = road.has_book("book", {"a": b"", "deep/er/b": b"b" * (2 * MIB)}, directories=("empty/inside",))

    progress = await road.runs()

    payload = road.payload(item)
    assert progress.phase is Phase.SUCCEEDED
    assert sorted(str(path.relative_to(payload)) for path in payload.rglob("*")) == [
        "a",
        "deep",
        "deep/er",
        "deep/er/b",
        "empty",
        "empty/inside",
    ]
    assert (payload / "deep/er/b").read_bytes() == b"b" * (2 * MIB)


async def test_an_empty_book_and_an_empty_file_arrive(road):
    book, file = road.has_book("book", {}), road.has_file("file", b"")

    progress = await road.runs()

    assert progress.phase is Phase.SUCCEEDED
    assert list(road.payload(book).iterdir()) == []
    assert road.payload(file).read_bytes() == b""


async def test_many_files_of_all_sizes_arrive_in_one_job(road):
    items = [road.has_file(f"{size}", b"%d" % (size % 10) * size) for size in (0, 1, 10_000, MIB, MIB + 1, 9 * MIB)]
    items += [road.has_file(f"small-{number}", b"%d" % number) for number in range(700)]

    progress = await road.runs()

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})
    assert all(filecmp.cmp(road.payload(item), item.source, shallow=False) for item in items)


async def test_a_missing_source_fails_alone(road):
    gone, stays = road.has_file("gone", b"gone"), road.has_file("stays", b"stays")
    gone.source.unlink()
    nowhere = road.has_nothing()

    progress = await road.runs()

    assert progress.phase is Phase.SUCCEEDED
    assert set(progress.failed_items) == {gone.uuid, nowhere.uuid}
    assert road.payload(stays).read_bytes() == b"stays"


async def test_what_has_arrived_before_is_completed_and_not_begun_anew(road):
    item = road.has_file("one", bytes(range(256)) * 4 * 4096)
    road.payload(item).write_bytes(item.source.read_bytes()[: MIB + 7])

    progress = await road.runs()

    assert progress.bytes_done == item.size
    assert road.port.received in (0, item.size - MIB - 7)
    assert filecmp.cmp(road.payload(item), item.source, shallow=False)


async def test_submitting_a_key_again_starts_nothing_twice(road):
    item = road.has_file("one", b"x" * MIB)
    key = await road.engine.prepare()

    first, second = await road.engine.submit(road.job, key), await road.engine.submit(road.job, key)
    progress = await road.ends(first)

    assert (first, progress.bytes_done) == (second, item.size)


async def test_a_handle_that_the_engine_does_not_know_is_lost(road):
    progress = await road.engine.inspect(["no-such-handle"])

    assert progress["no-such-handle"].phase is Phase.LOST


async def test_a_cancelled_transfer_is_lost_and_goes_on_under_the_same_key(road):
    item = road.has_file("one", b"x" * MIB)
    key = await road.engine.prepare()
    await road.engine.cancel(await road.engine.submit(road.job, key))

    lost = (await road.engine.inspect([key]))[key]
    progress = await road.ends(await road.engine.submit(road.job, key))

    assert (lost.phase, progress.phase) == (Phase.LOST, Phase.SUCCEEDED)
    assert road.payload(item).read_bytes() == b"x" * MIB


async def test_cancelling_what_is_unknown_does_nothing(road):
    await road.engine.cancel("no-such-handle")


async def test_a_staging_that_is_away_is_waited_for(road):
    item = road.has_file("one", b"one")
    aside = road.staging.rename(road.staging.with_name("away"))
    road.port.away = 1
    handle = await road.engine.submit(road.job, await road.engine.prepare())

    stalled = await until_stalled(road, handle)
    aside.rename(road.staging)
    progress = await road.ends(handle)

    assert (stalled.phase, progress.phase) == (Phase.ACTIVE, Phase.SUCCEEDED)
    assert road.payload(item).read_bytes() == b"one"


async def until_stalled(road, handle):
    async with asyncio.timeout(10):
        while not (progress := (await road.engine.inspect([handle]))[handle]).reason:
            await asyncio.sleep(0.005)
    return progress
