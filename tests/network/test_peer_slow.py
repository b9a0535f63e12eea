"""Peers that take their time over an answer: they cost nobody else anything, and in the end are not waited for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from librarian.errors import PeerUnavailable
from librarian.names import SiteName
from librarian.wire.clones import AskStates
from tests.clone_fixtures import party
from tests.fakes.rude_peer import rude_peer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
NOTHING_SAID = b'{"offered": [], "taken": []}'


@asynccontextmanager
async def dripping() -> AsyncIterator[str]:
    """The URL of what answers byte by byte, and never comes to an end."""

    drips: list[asyncio.Task[None]] = []

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        drips.append(asyncio.current_task())
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD)
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for each in drips:
        each.cancel()
    await asyncio.gather(*drips, return_exceptions=True)


@pytest.fixture
async def site(sqlite_url, tmp_path):
    """A site with the peers princeton, which drips, and nersc, which answers; no task runs."""
    async with (
        party(sqlite_url, tmp_path / "a", "chajnantor", tasks=False) as opened,
        dripping() as slow,
        rude_peer("") as quick,
    ):
        quick.says("/clones/states", *[NOTHING_SAID] * 2)
        async with opened.site.catalog.begin() as tx:
            for name, url in (("princeton", slow), ("nersc", quick.url)):
                await tx.peers.add(
                    SiteName(name),
                    url=url,
                    username="chajnantor",
                    secret=opened.site.neighbours.secrets.encrypt("secret"),
                    reach="push",
                    accepts=[""],
                    entry_points=[],
                )
        yield opened.site


async def test_an_answer_that_comes_byte_by_byte_is_not_waited_for_without_end(site, monkeypatch):
    monkeypatch.setattr("librarian.peers.LONGEST_ANSWER", timedelta(seconds=0.5))

    with pytest.raises(PeerUnavailable, match="princeton had not answered in full"):
        await site.neighbours.states(SiteName("princeton"), AskStates())


async def test_a_slow_answer_to_a_new_password_holds_up_no_line_to_another_peer(site):
    async with site.catalog.begin() as tx:
        peer = await tx.peers.get("princeton")
        await tx.peers.prepare_secret(peer.id, site.neighbours.secrets.encrypt("the next one"))
    waiting = asyncio.create_task(site.neighbours.states(SiteName("princeton"), AskStates()))
    await asyncio.sleep(0)

    async with asyncio.timeout(10):
        answer = await site.neighbours.states(SiteName("nersc"), AskStates())

    assert (answer.offered, answer.taken) == ([], [])
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
