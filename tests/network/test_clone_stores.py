"""Clones on their way to a store that the receiver has given up meanwhile."""

import uuid

import pytest

from librarian.names import SiteName
from librarian.states import Reach, Role
from tests.clone_fixtures import Party
from tests.network.test_clone_protocol import a_clone, offer, send
from tests.site_fixtures import create_account, opened_site, served


@pytest.fixture
async def moved(urls, tmp_path):
    """A receiver that accepted a clone onto "fast", and was started again with "slow" alone; the clone, the verdict."""
    async with opened_site(urls[0], tmp_path / "nersc", name="nersc") as site, served(site) as live:
        await create_account(site, "chajnantor", Role.UPSTREAM)
        async with site.catalog.begin() as tx:
            await tx.peers.add(
                SiteName("chajnantor"),
                url="",
                username="",
                secret=b"",
                reach=Reach.PUSH,
                accepts=[""],
                entry_points=[],
            )
        clone = a_clone("one")
        (verdict,) = await offer(Party(live, tmp_path), clone)
        await send(Party(live, tmp_path), [verdict["token"]], ({"token": 0, "size": 2}, b"ab"))
    async with opened_site(urls[0], tmp_path / "nersc", name="nersc", stores=("slow",)) as site, served(site) as live:
        yield Party(live, tmp_path / "nersc"), clone, verdict


async def test_what_goes_to_other_stores_is_not_held_up(moved):
    receiver, _, lost = moved
    (verdict,) = await offer(receiver, a_clone("two"))

    asked = await receiver.live.call(
        "POST",
        "/api/v1/clones/content/state",
        user="chajnantor",
        body={"tokens": [lost["token"], verdict["token"]]},
    )
    sent = await send(
        receiver,
        [lost["token"], verdict["token"]],
        ({"token": 0, "size": 3}, b"abc"),
        ({"token": 1, "size": 3}, b"abc"),
    )

    assert [content["token"] for content in asked.json["contents"]] == [verdict["token"]]
    assert [refusal["problem"]["code"] for refusal in sent.json["refused"]] == ["not_found"]
    assert (receiver.folder / "slow-staging" / verdict["token"] / "payload").read_bytes() == b"abc"


async def test_it_is_refused_when_it_is_offered_again_and_taken_under_a_new_uuid(moved):
    receiver, clone, _ = moved

    (again,) = await offer(receiver, clone)
    (anew,) = await offer(receiver, {**clone, "uuid": str(uuid.uuid4())})

    assert again["verdict"] == "refused"
    assert (anew["verdict"], anew["store"]) == ("accepted", "slow")
