"""Roads over Globus for tests of its engine: import what you use."""

import asyncio

import pytest

from tests.contracts.roads import globus_road


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
