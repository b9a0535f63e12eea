"""What peers were told about our copies, on both databases."""

import asyncio
import json
import uuid
from datetime import timedelta

import pytest

from librarian import replication, verdicts
from librarian.checksum import Checksum
from librarian.names import FileName, SiteName
from librarian.replication import Arrived, Assertion
from librarian.states import Kind, Reach
from librarian.timing import utc_now
from librarian.wire.clones import OfferedClone
from tests.holding import hold

CONTENT = b"truth"


@pytest.fixture
async def holder(site):
    """A site that holds 'a' and 'b', of which nersc was told, of 'a' princeton as well."""
    for name in ("a", "b"):
        await hold(site, name, CONTENT)
    async with site.catalog.begin() as tx:
        for peer in ("nersc", "princeton"):
            await tx.peers.add(
                SiteName(peer), url="", username="", secret=b"", reach=Reach.PUSH, accepts=[""], entry_points=[]
            )
        nersc, princeton = await tx.peers.all()
        files = await tx.files.named([FileName("a"), FileName("b")])
        notes = [replication.held_note(nersc.id, files[FileName(name)]) for name in ("a", "b")]
        await replication.tell_held(tx, [*notes, replication.held_note(princeton.id, files[FileName("a")])])
    return site


async def lose(tx, *names):
    files = await tx.files.named([FileName(name) for name in names])
    await tx.told.lock([file.id for file in files.values()])
    await replication.tell_gone(
        tx,
        {f.id: Assertion(name=f.name, size=f.size, checksum=f.checksum, code="missing") for f in files.values()},
    )


async def come_back(tx, name, *, peer=None):
    file = (await tx.files.named([FileName(name)]))[FileName(name)]
    await replication.files_arrived(
        tx,
        [
            Arrived(
                file_id=file.id,
                name=file.name,
                kind=Kind.FILE,
                size=file.size,
                checksum=Checksum(file.checksum),
                store="fast",
                peer_id=peer,
                is_new=False,
            )
        ],
    )


async def said(site, peer):
    """What waits for *peer*, in order."""
    async with site.catalog.read() as tx:
        waiting = await tx.outbox.waiting((await tx.peers.get(peer)).id, now=utc_now(), limit=100)
        return [(note.state, note.subject) for note in waiting]


async def test_every_peer_that_was_told_of_a_copy_is_told_once_that_it_is_gone(holder):
    async with holder.catalog.begin() as tx:
        await lose(tx, "a")
    async with holder.catalog.begin() as tx:
        await lose(tx, "a")

    assert await said(holder, "nersc") == [("held", "a"), ("held", "b"), ("gone", "a")]
    assert await said(holder, "princeton") == [("held", "a"), ("gone", "a")]


async def test_a_copy_that_returns_is_asserted_to_those_who_heard_of_its_loss_alone(holder):
    async with holder.catalog.begin() as tx:
        await lose(tx, "a")
        await come_back(tx, "a", peer=(await tx.peers.get("princeton")).id)
        await come_back(tx, "b")

    assert await said(holder, "nersc") == [("held", "a"), ("held", "b"), ("gone", "a"), ("held", "a")]
    assert await said(holder, "princeton") == [("held", "a"), ("gone", "a"), ("held", "a")]


async def test_a_peer_that_comes_back_from_a_backup_hears_of_losses_again(holder):
    async with holder.catalog.begin() as tx:
        await lose(tx, "a", "b")
        await come_back(tx, "b")
        await replication.peer_restored(tx, await tx.peers.get("nersc"))

    assert (await said(holder, "nersc"))[-2:] == [("held", "b"), ("gone", "a")]
    async with holder.catalog.read() as tx:
        *_, told = await tx.outbox.waiting((await tx.peers.get("nersc")).id, now=utc_now(), limit=100)
        file = (await tx.files.named([FileName("a")]))["a"]
    assert json.loads(told.body) == {
        "name": "a",
        "size": len(CONTENT),
        "checksum": file.checksum,
        "store": "",
        "transfer": "",
        "code": "lost",
        "reason": "it was lost, and told of before",
    }


async def test_a_refusal_to_hear_of_a_loss_is_over_when_the_peer_comes_back_from_a_backup(holder):
    async with holder.catalog.begin() as tx:
        nersc = await tx.peers.get("nersc")
        await tx.outbox.set_aside(
            [(note.id, "unknown") for note in await tx.outbox.waiting(nersc.id, now=utc_now(), limit=100)]
        )
        await tx.told.gone([(await tx.files.named([FileName("a")]))["a"].id])

        await replication.peer_restored(tx, nersc)

    # What was set aside of "b", which is held, stays.
    assert await said(holder, "nersc") == [("gone", "a")]
    async with holder.catalog.read() as tx:
        assert [each.subject for each in await tx.outbox.set_aside_ones(after=0, peer=nersc.id, limit=9)] == ["b"]


@pytest.mark.parametrize("name", ['quo"ted', "back\\slash", "ünï/✓", "{}"])
async def test_a_loss_is_told_again_whatever_the_name(site, name):
    await hold(site, name, CONTENT)
    async with site.catalog.begin() as tx:
        await tx.peers.add(
            SiteName("nersc"), url="", username="", secret=b"", reach=Reach.PUSH, accepts=[""], entry_points=[]
        )
        nersc = await tx.peers.get("nersc")
        file = (await tx.files.named([FileName(name)]))[name]
        await tx.told.held([(nersc.id, name)])
        await tx.told.gone([file.id])

        await replication.peer_restored(tx, nersc)

        (told,) = await tx.outbox.waiting(nersc.id, now=utc_now(), limit=9)
    assert (told.subject, json.loads(told.body)["name"]) == (name, name)


async def test_a_peer_that_is_forgotten_was_told_nothing(holder):
    async with holder.catalog.begin() as tx:
        await tx.peers.remove((await tx.peers.get("nersc")).id)

    async with holder.catalog.begin() as tx:
        await lose(tx, "a", "b")
    assert await said(holder, "princeton") == [("held", "a"), ("gone", "a")]


async def test_whoever_brings_a_copy_waits_for_whoever_takes_the_last_one_away(holder):
    async def bring():
        async with holder.catalog.begin() as tx:
            await come_back(tx, "b")

    async with holder.catalog.begin() as tx:
        await lose(tx, "b")
        bringing = asyncio.create_task(bring())
        await asyncio.sleep(0)
    await bringing

    assert await said(holder, "nersc") == [("held", "a"), ("held", "b"), ("gone", "b"), ("held", "b")]


async def test_whoever_takes_a_copy_away_waits_for_whoever_answers_an_offer_that_it_is_held(holder):
    async def doubt_and_lose():
        async with holder.catalog.begin() as tx:
            await tx.suspects.mark([(await tx.files.named([FileName("b")]))["b"].id])
            await lose(tx, "b")

    async with holder.catalog.begin(opens_names=True) as tx:
        princeton, file = await tx.peers.get("princeton"), (await tx.files.named([FileName("b")]))["b"]
        offered = OfferedClone(
            uuid=str(uuid.uuid4()),
            name=file.name,
            kind=file.kind,
            size=file.size,
            checksum=file.checksum,
            uploader=file.uploader,
            origin=file.origin,
            created_at=file.created_at,
        )
        judged = await verdicts.judge(tx, peer=princeton, clones=[offered], rooms=[], lease=timedelta(hours=1))
        losing = asyncio.create_task(doubt_and_lose())
        await asyncio.wait([losing], timeout=0.5)
    await losing

    assert [verdict.verdict for verdict in judged.verdicts] == ["held"]
    assert await said(holder, "princeton") == [("held", "a"), ("held", "b"), ("gone", "b")]
