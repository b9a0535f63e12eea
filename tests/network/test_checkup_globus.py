"""The doctor looks at Globus as well: both collections are listed, and a probe goes the way that files go."""

import pytest

from tests.network.test_checkup import check
from tests.network.test_globus import globus_pair

__all__ = ["globus_pair"]

SUBJECT = "globus to fast"


async def test_a_probe_goes_by_globus_and_leaves_nothing_behind(globus_pair):
    findings = await check(globus_pair.sender)

    left = [
        *(globus_pair.sender.folder / "fast").glob(".librarian-probe*"),
        *(entry for entry in (globus_pair.receiver.folder / "fast-staging").iterdir() if len(entry.name) == 32),
    ]
    assert findings[SUBJECT][:2] == ("ok", "a probe was brought, read and removed by nersc")
    assert (len(globus_pair.globus.tasks), globus_pair.globus.requests["ls"], left) == (1, 2, [])


@pytest.mark.parametrize(
    ("cue", "message", "remedy"),
    [
        ({"what": "forbidden", "on": "ls"}, "cannot list /", "Give the client's identity access"),
        ({"what": "unavailable", "on": "submit"}, "the probe failed: Globus is in trouble", "tried again"),
        ({"what": "paused"}, "maintenance until Monday", "Ask that administrator"),
        ({"what": "fails", "code": "INTERNAL_ERROR"}, "Globus gave it up: INTERNAL_ERROR", "See the engine's how-to"),
    ],
)
async def test_what_fails_is_told_with_what_to_do(globus_pair, cue, message, remedy):
    globus_pair.globus.cue(**cue)

    verdict, told, what_to_do = (await check(globus_pair.sender))[SUBJECT]

    assert verdict == "failed"
    assert message in told
    assert remedy in what_to_do


async def test_a_collection_that_is_not_there_is_named(globus_pair):
    async with globus_pair.sender.site.catalog.read() as tx:
        (point,) = [p for p in (await tx.peers.get("nersc")).entry_points if p.engine == "globus"]
    del globus_pair.globus.collections[point.address]

    verdict, told, remedy = (await check(globus_pair.sender))[SUBJECT]

    assert (verdict, point.address in told) == ("failed", True)
    assert remedy == "Compare the store's collection and paths with what Globus shows."
