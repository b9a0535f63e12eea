"""What peers must learn, in which order, and what blocks what, on both databases."""

from datetime import timedelta

import pytest

from librarian.catalog.outbox import Note
from librarian.names import SiteName
from librarian.states import Reach
from librarian.timing import utc_now


@pytest.fixture
async def tx(site):
    async with site.catalog.begin() as tx:
        yield tx


@pytest.fixture
async def peer(tx):
    added = await tx.peers.add(
        SiteName("nersc"), url="", username="", secret=b"", reach=Reach.PUSH, accepts=[""], entry_points=[]
    )
    return added.id


def soon():
    return utc_now() + timedelta(seconds=1)


async def put(tx, peer, *subjects):
    await tx.outbox.put([Note(peer_id=peer, subject=subject, state="held", body="{}") for subject in subjects])
    return await tx.outbox.waiting(peer, now=soon(), limit=100)


async def test_notes_wait_in_the_order_they_were_written(tx, peer):
    waiting = await put(tx, peer, "b", "a", "c")

    assert [note.subject for note in waiting] == ["b", "a", "c"]


async def test_what_is_acknowledged_is_gone(tx, peer):
    first, second = await put(tx, peer, "a", "b")

    await tx.outbox.acknowledge([first.id])

    assert await tx.outbox.waiting(peer, now=soon(), limit=100) == (second,)


async def test_a_note_that_is_refused_for_good_holds_back_its_own_subject_alone(tx, peer):
    bad, *_ = await put(tx, peer, "a", "b", "a")

    await tx.outbox.set_aside([(bad.id, "refused")])

    assert [note.subject for note in await tx.outbox.waiting(peer, now=soon(), limit=100)] == ["b"]


async def test_a_note_that_must_wait_holds_back_its_successors(tx, peer):
    first, *_ = await put(tx, peer, "a", "a", "b")

    await tx.outbox.postpone([first.id], until=utc_now() + timedelta(hours=1))

    assert [note.subject for note in await tx.outbox.waiting(peer, now=soon(), limit=100)] == ["b"]
    assert len(await tx.outbox.waiting(peer, now=utc_now() + timedelta(hours=2), limit=100)) == 3


async def test_numbers_are_given_once_and_grow(tx, peer):
    first = await tx.peers.take_seqs(peer, 3)
    second = await tx.peers.take_seqs(peer, 2)

    assert (first, second) == (1, 4)


async def test_a_note_keeps_its_number(tx, peer):
    (note,) = await put(tx, peer, "a")

    await tx.outbox.number([(note.id, 17)], epoch=3)

    (numbered,) = await tx.outbox.waiting(peer, now=soon(), limit=100)
    assert (numbered.seq, numbered.epoch) == (17, 3)


async def test_a_disabled_peer_learns_nothing(tx, peer):
    await put(tx, peer, "a")
    before = await tx.outbox.peers_waiting(soon())

    await tx.peers.enable(peer, is_enabled=False)

    assert (before, await tx.outbox.peers_waiting(soon())) == ((peer,), ())


async def test_a_peer_whose_every_note_waits_behind_another_has_nothing_to_learn(tx, peer):
    bad, *_ = await put(tx, peer, "a", "a")

    await tx.outbox.set_aside([(bad.id, "refused")])

    assert await tx.outbox.peers_waiting(soon()) == ()
