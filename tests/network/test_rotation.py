"""New passwords between two sites: what was valid is valid until the new one was seen to work."""

import pytest

from librarian import rotation
from librarian.errors import PeerUnavailable
from librarian.names import SiteName
from tests.clone_fixtures import close_in
from tests.site_fixtures import password_of

NERSC, CHAJNANTOR = SiteName("nersc"), SiteName("chajnantor")


async def rotate(party, name):
    return await party.live.call("POST", f"/api/v1/peers/{name}/rotate")


async def status_with(party, name, password):
    """What the account *name* gets at *party* with *password*."""
    return (await party.live.call("GET", "/api/v1/site", user=name, password=password)).status


async def passwords(party, other):
    """Our passwords at *other*: the one in use, and the one that is prepared."""
    async with party.site.catalog.read() as tx:
        kept = await tx.peers.secrets_of((await tx.peers.get(other)).id)
    return [secret and party.site.neighbours.secrets.decrypt(secret) for secret in kept]


async def test_both_passwords_are_new_and_the_old_ones_end(pair):
    sender, receiver = pair

    done = await rotate(sender, "nersc")

    assert done.json == {"name": "nersc", "ours_in_use": True, "theirs_in_use": True}
    old = [
        await status_with(receiver, "chajnantor", password_of("chajnantor")),
        await status_with(sender, "nersc", password_of("nersc")),
    ]
    assert old == [401, 401]
    assert (await sender.site.neighbours.look_again(NERSC)).name == "nersc"
    assert (await receiver.site.neighbours.look_again(CHAJNANTOR)).name == "chajnantor"


async def test_files_flow_on_afterwards(pair):
    sender, receiver = pair
    await sender.replicates_to(receiver)
    await rotate(sender, "nersc")

    await sender.upload({"2026/run": b"first light"})

    await sender.knows_copies_at(receiver, ["2026/run"])


async def test_a_site_that_can_call_changes_them_for_one_that_cannot(pair):
    sender, receiver = pair
    await close_in(receiver, towards=sender)

    refused, done = await rotate(sender, "nersc"), await rotate(receiver, "chajnantor")

    assert refused.status == 409
    assert "peer rotate chajnantor" in refused.json["remedy"]
    assert done.json == {"name": "chajnantor", "ours_in_use": True, "theirs_in_use": True}
    assert await status_with(sender, "nersc", password_of("nersc")) == 401
    assert (await receiver.site.neighbours.look_again(CHAJNANTOR)).name == "chajnantor"


async def test_when_the_answer_is_lost_the_next_call_finds_out_which_is_valid(pair, monkeypatch):
    sender, receiver = pair
    tell = sender.site.neighbours.tell_credentials

    async def answer_is_lost(*arguments):
        await tell(*arguments)
        raise PeerUnavailable("the line was cut")

    monkeypatch.setattr(sender.site.neighbours, "tell_credentials", answer_is_lost)
    with pytest.raises(PeerUnavailable):
        await rotation.rotate(sender.site, NERSC, who="admin")
    await sender.site.neighbours.forget(NERSC)

    assert (await sender.site.neighbours.look_again(NERSC)).name == "nersc"
    assert (await passwords(sender, "nersc"))[1] is None
    assert (await receiver.site.neighbours.look_again(CHAJNANTOR)).name == "chajnantor"


async def test_when_the_question_is_lost_the_old_ones_stay_valid(pair, monkeypatch):
    sender, receiver = pair

    async def question_is_lost(*_):
        raise PeerUnavailable("the line was cut")

    monkeypatch.setattr(sender.site.neighbours, "tell_credentials", question_is_lost)
    with pytest.raises(PeerUnavailable):
        await rotation.rotate(sender.site, NERSC, who="admin")
    await sender.site.neighbours.forget(NERSC)

    assert (await sender.site.neighbours.look_again(NERSC)).name == "nersc"
    assert (await receiver.site.neighbours.look_again(CHAJNANTOR)).name == "chajnantor"
    assert (await passwords(sender, "nersc"))[0] == password_of("chajnantor")


async def test_no_answer_shows_a_password(pair):
    sender, _ = pair

    done = await rotate(sender, "nersc")

    shown = done.raw.decode() + (await sender.live.call("GET", "/api/v1/peers/nersc")).raw.decode()
    assert [each for each in await passwords(sender, "nersc") if each and each in shown] == []
