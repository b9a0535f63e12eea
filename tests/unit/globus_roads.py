"""Roads over Globus for tests of its engine: import what you use."""

import asyncio

import pytest

from tests.contracts.roads import globus_road, make_globus_engine


@pytest.fixture
def folders(tmp_path):
    for name in ("sources", "staging"):
        (tmp_path / name).mkdir()
    return tmp_path / "sources", tmp_path / "staging"


@pytest.fixture
async def busy(folders):
    """A road over Globus, with two files on it."""
    async with globus_road(*folders, asyncio.Event()) as (road, globus):
        road.has_file("one", b"one" * 1000)
        road.has_file("two", b"two" * 1000)
        yield road, globus


@pytest.fixture
async def another(busy, folders):
    """Another engine of the same account, as after a restart, or at another site."""
    _, globus = busy
    (collection,) = [name for name, each in globus.collections.items() if each.root == folders[0]]
    engine = make_globus_engine(globus, folders[0], collection)
    yield engine
    await engine.close()
