"""Which of the entry points that a peer offers are pinned, and what of each."""

import uuid

import pytest

from librarian import entry_points
from librarian.wire.peers import OfferedEntryPoint, OfferedSite

COLLECTION = str(uuid.UUID(int=1))


async def usable(**point):
    offered = OfferedSite(name="nersc", entry_points=[OfferedEntryPoint(store="fast", **point)])
    return [(each.engine, each.address, each.staging) for each in await entry_points.usable(offered)]


async def test_a_collection_is_pinned_with_its_path():
    found = await usable(engine="globus", address=COLLECTION, staging="/data/staging")

    assert found == [("globus", COLLECTION, "/data/staging")]


@pytest.mark.parametrize(
    ("address", "staging"),
    [
        ("", "/staging"),
        ("https://elsewhere", "/staging"),
        (COLLECTION, ""),
        (COLLECTION, "staging"),
        (COLLECTION, "/data/../../etc"),
    ],
)
async def test_what_is_no_place_in_a_collection_is_not_pinned(address, staging):
    assert await usable(engine="globus", address=address, staging=staging) == []


async def test_an_account_at_a_host_is_pinned_with_its_path():
    found = await usable(engine="rsync", address="librarian@nersc.example:22", staging="/data/staging")

    assert found == [("rsync", "librarian@nersc.example:22", "/data/staging")]


@pytest.mark.parametrize(
    ("address", "staging"),
    [
        ("", "/staging"),
        ("nersc.example", "/staging"),
        ("-oProxyCommand=id@host:22", "/staging"),
        ("user@host;id:22", "/staging"),
        ("user@host:22", ""),
        ("user@host:22", "/data/$(id)"),
        ("user@host:22", "/data/../etc"),
    ],
)
async def test_what_is_no_place_for_ssh_is_not_pinned(address, staging):
    assert await usable(engine="rsync", address=address, staging=staging) == []


async def test_of_http_nothing_is_pinned_that_a_peer_says():
    assert await usable(engine="http", address="elsewhere", staging="/etc") == [("http", "", "")]
