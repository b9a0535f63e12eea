"""What a clone is told by the settings of its receiver, and what its sender learns of the copy."""

from datetime import timedelta

import pytest

from librarian.policies import ClonePolicy


@pytest.fixture
def urls(databases, tmp_path):
    """One kind of database is enough here."""
    return [databases.new_sqlite(tmp_path / f"catalog-{number}.sqlite") for number in range(2)]


async def test_a_copy_is_known_with_the_store_that_holds_it(pair):
    sender, receiver = pair
    await sender.replicates_to(receiver)

    await sender.upload({"one": b"one"})
    await sender.knows_copies_at(receiver, ["one"])

    reply = await sender.live.call("GET", "/api/v1/files/one")
    assert [(each["peer"], each["store"]) for each in reply.json["remote_instances"]] == [(receiver.name, "fast")]


async def test_an_arrival_without_progress_loses_its_name_after_the_lease_of_the_settings(pair):
    sender, receiver = pair
    at_once = ClonePolicy(busy_lease=timedelta(0))
    receiver.site.settings = receiver.site.settings.model_copy(update={"clones": at_once})
    await receiver.live.call("POST", "/api/v1/uploads", body={"name": "one", "size": 3})
    await sender.replicates_to(receiver)

    await sender.upload({"one": b"one"})

    await sender.knows_copies_at(receiver, ["one"])


async def test_adding_a_held_peer_again_ends_the_hold_and_its_alert(pair):
    sender, receiver = pair
    async with sender.site.catalog.begin() as tx:
        peer = await tx.peers.get(receiver.name)
        await tx.peers.hold(peer.id, "its entry points are not those that were pinned")
        await tx.alerts.raise_alert(f"peer:{receiver.name}:entry-points", message="Nothing is sent.", remedy="Look.")

    await sender.knows(receiver)

    assert await sender.alerts() == ()
    reply = await sender.live.call("GET", f"/api/v1/peers/{receiver.name}")
    assert reply.json["held_because"] is None
