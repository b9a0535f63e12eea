"""What settling does when the world has moved on between the question and the answer, on both databases."""

import pytest

from librarian.names import PeerId
from librarian.policies import ClonePolicy
from librarian.states import TransferState
from librarian.tasks.ingest import Ingest
from librarian.tasks.reconcile import Reconcile
from librarian.timing import utc_now
from librarian.wire.clones import CloneState, CloneStates
from tests.network.test_clone_protocol import a_clone, a_notice, offer, receiver, state_of, tell

__all__ = ["receiver"]

AT_ONCE = ClonePolicy(reconcile_after="0s")


async def doubts_of(site, peer):
    """The reconciler, and what it would ask *peer* about."""
    task = Reconcile(site, AT_ONCE)
    async with site.catalog.begin() as tx:
        return task, await task.plan_for(tx, await tx.peers.get(peer))


def they_say(clone, state) -> CloneStates:
    about = CloneState(uuid=clone["uuid"], state=state, name=clone["name"], size=clone["size"])
    return CloneStates(offered=[], taken=[about])


async def record(site, task, plan, answer) -> None:
    async with site.catalog.begin() as tx:
        await task.record(tx, plan, answer)


async def test_what_the_sender_says_is_all_there_is_ingested_at_once(receiver):
    clone = a_clone()
    await offer(receiver, clone)
    task, plan = await doubts_of(receiver.site, "chajnantor")

    await record(receiver.site, task, plan, they_say(clone, TransferState.STAGED))

    async with receiver.site.catalog.read() as tx:
        (candidate,) = await tx.claims.candidates(now=utc_now(), limit=9)
    assert candidate.id == plan.incoming[0].id


@pytest.mark.parametrize("theirs", [TransferState.STAGED, TransferState.CANCELLED])
async def test_what_was_taken_up_meanwhile_is_left_to_ingest(receiver, theirs):
    clone = a_clone()
    await offer(receiver, clone)
    task, plan = await doubts_of(receiver.site, "chajnantor")
    await tell(receiver, a_notice(1, clone))
    async with receiver.site.catalog.begin() as tx:
        await Ingest(receiver.site).plan(tx)

    await record(receiver.site, task, plan, they_say(clone, theirs))

    assert await state_of(receiver, clone) is TransferState.INGESTING


async def test_what_still_comes_is_not_asked_about_again_for_a_while(receiver):
    clone = a_clone()
    await offer(receiver, clone)
    task, plan = await doubts_of(receiver.site, "chajnantor")
    task.policy = ClonePolicy()

    await record(receiver.site, task, plan, they_say(clone, TransferState.ONGOING))

    async with receiver.site.catalog.read() as tx:
        asked = await tx.offers.silent(PeerId(plan.peer.id), since=utc_now(), now=utc_now(), limit=9)
    assert asked == ()


async def test_a_peer_that_took_part_in_transfers_with_the_uuids_of_another_can_be_forgotten(receiver):
    clone = a_clone()
    for peer in ("chajnantor", "princeton"):
        await offer(receiver, clone, user=peer)
        await tell(receiver, a_notice(1, clone, "cancelled"), user=peer)

    replies = [await receiver.live.call("DELETE", f"/api/v1/peers/{peer}") for peer in ("chajnantor", "princeton")]

    assert [reply.status for reply in replies] == [200, 200]
