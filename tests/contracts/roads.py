"""Roads: engines of every kind under test, with where each reads and where it brings."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePosixPath

from librarian.names import SiteName, StoreName, Token
from librarian.states import Kind
from librarian.transfers.base import Item, Job, Phase, Progress, TransferEngine
from librarian.transfers.globus import GlobusEngine
from librarian.transfers.globus_account import Account, Credentials
from librarian.transfers.globus_desk import Desk
from librarian.transfers.globus_places import Collection
from librarian.transfers.http import HttpEngine
from librarian.transfers.local import LocalEngine
from librarian.transfers.rsync import RsyncEngine
from tests.fakes.folder_port import FolderPort
from tests.fakes.globus import FakeGlobus, fake_globus, pointed_at
from tests.fakes.sshd import Sshd, sshd

KINDS = ("http", "local", "globus", "rsync")
MIB = 1024**2
#: No pause between tries is longer in tests.
PAUSE = timedelta(seconds=1)


@dataclass
class Road:
    """An engine, where it reads and where it brings."""

    engine: TransferEngine
    port: FolderPort
    sources: Path
    staging: Path
    changed: asyncio.Event
    address: str = ""
    #: The staging as the engine sees it.
    sees_staging: str = ""
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
            address=self.address,
            staging=self.sees_staging or str(self.staging),
            items=tuple(self.items),
        )

    def payload(self, item: Item) -> Path:
        return self.staging / item.token / "payload"

    async def says(self, handle: str) -> Progress:
        return (await self.engine.inspect([handle]))[handle]

    async def starts(self) -> str:
        return await self.engine.submit(self.job, await self.engine.prepare())

    async def ends(self, handle: str) -> Progress:
        """What the engine says once it has ended."""
        return await self.until(handle, Phase.SUCCEEDED, Phase.FAILED, Phase.LOST)

    async def until(self, handle: str, *phases: Phase) -> Progress:
        """What the engine says once it is in one of *phases*."""
        async with asyncio.timeout(30):
            while (progress := await self.says(handle)).phase not in phases:
                # What happens elsewhere is not rung for.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), 0.1)
                self.changed.clear()
        return progress

    async def runs(self) -> Progress:
        return await self.ends(await self.starts())


@asynccontextmanager
async def road_of(kind: str, folder: Path) -> AsyncIterator[Road]:
    """A road of one *kind* in *folder*."""
    sources, staging = folder / "sources", folder / "staging"
    sources.mkdir()
    staging.mkdir()
    changed = asyncio.Event()
    if kind == "globus":
        async with globus_road(sources, staging, changed) as (road, _):
            yield road
        return
    if kind == "rsync":
        async with sshd(folder / "sshd") as server, rsync_road(sources, staging, changed, server) as road:
            yield road
        return
    port = FolderPort(staging)
    engine: TransferEngine = LocalEngine(on_change=changed.set, longest_pause=PAUSE)
    if kind == "http":
        engine = HttpEngine(port, on_change=changed.set, longest_pause=PAUSE)
    yield Road(engine, port, sources, staging, changed)
    await engine.close()


@asynccontextmanager
async def rsync_road(
    sources: Path, staging: Path, changed: asyncio.Event, server: Sshd, *, sees_staging: str = ""
) -> AsyncIterator[Road]:
    """A road over ssh to *server*."""
    engine = RsyncEngine(server.ssh, folder=sources.parent / "links", on_change=changed.set, longest_pause=PAUSE)
    yield Road(engine, FolderPort(staging), sources, staging, changed, server.address, sees_staging)
    await engine.close()


@asynccontextmanager
async def globus_road(
    sources: Path, staging: Path, changed: asyncio.Event, **options: object
) -> AsyncIterator[tuple[Road, FakeGlobus]]:
    """A road over a Globus of our own; *options* go to the engine."""
    loop = asyncio.get_running_loop()
    async with fake_globus(on_change=lambda: loop.call_soon_threadsafe(changed.set)) as globus:
        with pointed_at(globus):
            source, destination = globus.add_collection(sources), globus.add_collection(staging)
            engine = make_globus_engine(globus, sources, source, **options)
            yield Road(engine, FolderPort(staging), sources, staging, changed, destination, "/"), globus
            await engine.close()


def make_globus_engine(globus: FakeGlobus, sources: Path, collection: str, **options: object) -> GlobusEngine:
    """An engine that reads from *sources*, as the first client of *globus*; another one is the same, restarted."""
    if not globus.clients:
        globus.add_client()
    (client, secret), *_ = globus.clients.items()
    secret_file = sources.parent / f"{client}.secret"
    secret_file.write_text(secret)
    desk = Desk(Account(Credentials(client_id=client, client_secret_file=secret_file)), pace=1000.0)
    places = [Collection(store=StoreName("fast"), collection=collection, root=PurePosixPath("/"), folder=sources)]
    return GlobusEngine(desk, site="chajnantor", collections=places, **({"longest_pause": PAUSE} | options))
