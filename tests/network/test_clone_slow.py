"""A receiver whose disk is slow: the sender waits, and memory does not fill with what the disk does not take."""

import asyncio
import signal

import pytest

from tests.clone_fixtures import acquaint, party, until
from tests.contracts.mounts import Mounts
from tests.holding import hold

MIB = 1024**2
SIZE = 96 * MIB
#: What sockets, their readers and one piece of each may hold at both ends together.
UNDER_WAY = 64 * MIB


@pytest.fixture
def mounts():
    """Mounts that are gone afterwards."""
    made = Mounts()
    yield made
    made.clean_up()


async def is_still(sent) -> int:
    """Wait until *sent* stays the same for half a second; what it then is."""
    last = -1
    while last != (now := sent()):
        last = now
        await asyncio.sleep(0.5)
    return last


async def test_a_disk_that_takes_nothing_holds_up_the_sender_until_it_does(urls, tmp_path, mounts):
    disk = tmp_path / "disk"
    server = mounts.fuse(tmp_path / "below", disk)

    def on_disk(settings):
        store = settings.stores[0].model_copy(update={"root": disk / "root", "staging": disk / "staging"})
        return settings.model_copy(update={"stores": (store,)})

    async with (
        party(urls[0], tmp_path / "a", "chajnantor") as sender,
        party(urls[1], tmp_path / "b", "nersc", change=on_disk) as receiver,
    ):
        await acquaint(sender, receiver)
        await hold(sender.site, "large", bytes(SIZE))
        engine = sender.site.engines["http"]

        def sent() -> int:
            return sum(running.bytes_done for running in engine._running.values())

        async def has_begun() -> bool:
            return sent() > 0

        await sender.live.call("PATCH", f"/api/v1/peers/{receiver.name}", body={"rate_limit": MIB})
        await sender.replicates_to(receiver)
        await until(has_begun)
        server.send_signal(signal.SIGSTOP)
        await sender.live.call("PATCH", f"/api/v1/peers/{receiver.name}", body={"rate_limit": 0})
        before = await is_still(sent)
        server.send_signal(signal.SIGCONT)

        await sender.knows_copies_at(receiver, ["large"])
        assert before < UNDER_WAY
