"""Lanes: a peer for which nothing can be done now costs nothing, and is looked at again once something has changed."""

import asyncio

import pytest

from librarian.names import SiteName
from librarian.states import Reach
from librarian.tasks.lanes import LaneTask
from librarian.timing import plenty_of_time


class Stuck(LaneTask[str, str]):
    """Work is due to the peer, and yet none of it can be done: as behind a full queue."""

    name = "stuck"

    def __init__(self, site, *, rings=0):
        super().__init__(site)
        self.rings = rings
        self.looks = 0

    async def peers_with_work(self, tx, *, now):
        return [peer.id for peer in await tx.peers.all()]

    async def plan_for(self, tx, peer):
        self.looks += 1
        if self.looks <= self.rings:
            self.site.bells.ring(self.name)

    async def act(self, plan):
        return plan

    async def record(self, tx, plan, result):
        """Nothing is ever done."""

    async def give_up(self, tx, plan, error):
        """Nothing ever fails."""

    async def recover(self, tx):
        """Nothing is ever claimed."""


@pytest.fixture
async def neighbour(site):
    async with site.catalog.begin() as tx:
        await tx.peers.add(
            SiteName("nersc"), url="", username="", secret=b"", reach=Reach.PUSH, accepts=[""], entry_points=[]
        )
    return site


async def test_a_peer_for_which_nothing_can_be_done_is_looked_at_once(neighbour):
    task = Stuck(neighbour)

    async with asyncio.timeout(20):
        rounds = await task.run_pass(plenty_of_time())

    assert (rounds, task.looks) == (0, 1)


async def test_a_bell_that_rings_while_a_lane_ends_is_heard(neighbour):
    task = Stuck(neighbour, rings=1)

    async with asyncio.timeout(20):
        await task.run_pass(plenty_of_time())

    assert task.looks == 2
