"""Stores of every kind for the contract, and a power cut for each of their steps."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from librarian import guard
from librarian.names import FileName, MemberPath, StoreName, Token
from librarian.states import Kind
from librarian.stores.base import Barrier, Publication, Staged, StoreSpec
from librarian.stores.local import LocalStore
from tests.contracts.mounts import Mounts

NOBODY = 65534
VARIANTS = ("syncfs", "fsync", "links", "fuse", "foreign", "unprivileged")


class PowerCut(BaseException):
    """Nothing after this happens."""


@dataclass(frozen=True)
class Bench:
    """A store under test, and how to begin again with it as a new process would."""

    store: LocalStore
    spec: StoreSpec
    uuid: str
    allow_noreplace: bool = True

    async def restarted(self) -> "Bench":
        await self.store.close()
        store = LocalStore(self.spec, allow_noreplace=self.allow_noreplace)
        await store.open(expected_uuid=self.uuid, generation=1)
        return replace(self, store=store)


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Give up root for a while, for every thread of the process."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    mounts = Mounts()
    yield mounts
    mounts.clean_up()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="librarian-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def as_nobody() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs: root, to act as another user")
    with acting_as(NOBODY):
        yield


def a_spec(folder: Path, **changes: object) -> StoreSpec:
    spec = StoreSpec(
        name=StoreName("fast"),
        root=folder / "root",
        staging=folder / "staging",
        answer_timeout=timedelta(seconds=60),
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


@pytest.fixture
async def new_store(tmp_path: Path) -> AsyncIterator[Callable[..., LocalStore]]:
    """Makes stores that are not opened yet."""
    made: list[LocalStore] = []

    def make(folder: Path = tmp_path, **changes: object) -> LocalStore:
        made.append(LocalStore(a_spec(folder, **changes)))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture(params=VARIANTS)
async def bench(request: pytest.FixtureRequest, open_folder: Path, mounts: Mounts) -> AsyncIterator[Bench]:
    variant = request.param
    barrier = Barrier.FSYNC if variant in ("fsync", "fuse", "unprivileged") else Barrier.SYNCFS
    folder = open_folder / "store"
    folder.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        if variant == "fuse":
            mounts.fuse(open_folder / "source", folder)
        if variant == "unprivileged":
            folder.chmod(0o777)
            request.getfixturevalue("as_nobody")
        spec = a_spec(folder, barrier=barrier, takes_foreign_writes=variant == "foreign")
        store = LocalStore(spec, allow_noreplace=variant != "links")
        stack.push_async_callback(store.close)
        uuid = await store.open(expected_uuid=None, generation=1)
        yield Bench(store=store, spec=spec, uuid=uuid, allow_noreplace=variant != "links")


@pytest.fixture
def store(bench: Bench) -> LocalStore:
    return bench.store


@pytest.fixture
def power_cut_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Arranges that nothing happens after the named step."""

    def arrange(step: str) -> None:
        def observer(name: str) -> None:
            if name == step:
                monkeypatch.setattr(guard, "_on_step", [])
                raise PowerCut

        monkeypatch.setattr(guard, "_on_step", [observer])

    return arrange


async def stage_file(store: LocalStore, content: bytes = b"truth") -> Token:
    """Bring a file into staging."""
    token = Token.mint()
    await store.stage([token])
    assert await store.write_small([(token, None, content)]) == [None]
    return token


async def stage_book(store: LocalStore, **members: bytes) -> Token:
    """Bring a book into staging; a double underscore in a key is a slash."""
    token = Token.mint()
    await store.stage([token])
    await store.make_book_directories(token, [])
    items = [(token, MemberPath(key.replace("__", "/")), content) for key, content in members.items()]
    assert set(await store.write_small(items)) <= {None}
    return token


async def inspected(store: LocalStore, token: Token) -> Staged:
    (found,) = await store.inspect([token])
    assert isinstance(found, Staged), found
    return found


async def publish(store: LocalStore, token: Token, name: str, kind: Kind = Kind.FILE):
    """Inspect one payload as ingest does, publish it, and give the answer."""
    await store.inspect([token])
    (answer,) = await store.publish([Publication(token=token, name=FileName(name), kind=kind)])
    return answer
