"""Databases for several sites at once, and a pair of sites that know each other."""

import pytest

from tests.clone_fixtures import acquaint, party
from tests.contracts.mounts import Mounts
from tests.serving import servers

#: A chain of three sites is the longest here.
SITES = 3


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request, databases, tmp_path):
    """Fresh, migrated catalogs for several sites, all of one kind; made here since that cannot be done in a loop."""
    if request.param == "sqlite":
        yield [databases.new_sqlite(tmp_path / f"catalog-{number}.sqlite") for number in range(SITES)]
        return
    if databases.cluster is None:
        pytest.skip("needs: PostgreSQL")
    names = [databases.new_postgresql() for _ in range(SITES)]
    yield [databases.cluster.url(name) for name in names]
    for name in names:
        databases.take_back(name)


@pytest.fixture
async def pair(urls, tmp_path):
    """chajnantor sends, nersc receives; they know each other."""
    async with (
        party(urls[0], tmp_path / "chajnantor", "chajnantor") as sender,
        party(urls[1], tmp_path / "nersc", "nersc") as receiver,
    ):
        await acquaint(sender, receiver)
        yield sender, receiver


@pytest.fixture
def new_server(tmp_path):
    """Makes servers that run as processes of their own."""
    with servers(tmp_path) as make:
        yield make


@pytest.fixture
def mounts():
    """File systems with faults."""
    made = Mounts()
    yield made
    made.clean_up()
