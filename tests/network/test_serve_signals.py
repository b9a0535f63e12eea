"""Asking a server to end: in the middle of an upload or an ingest, twice, and while a store hangs."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.crash.harness import reached, until
from tests.site_fixtures import basic
from tests.uploading import checksum_of

CONTENT = bytes(range(256)) * 40_000
HALF = len(CONTENT) // 2
TRUTH = b"truth"


@asynccontextmanager
async def half_sent(server, upload: dict):
    """A request of which half the body was sent, and the rest never comes."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    path = urlsplit(upload["content_url"]).path
    head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(CONTENT)}\r\n"
    writer.write(f"{head}Authorization: {basic('admin', server.password)}\r\n\r\n".encode() + CONTENT[:HALF])
    await writer.drain()
    try:
        yield
    finally:
        writer.close()


async def stuck(server) -> None:
    """Wait until a thread of the server waits for a file system that does not answer."""

    async def waits() -> bool:
        tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
        places = [(task / "wchan").read_text() for task in tasks]
        return any("request_wait_answer" in place or "fuse" in place for place in places)

    await until(waits)


async def opened(server, name: str, **asked) -> dict:
    reply = await server.ask("POST", "/api/v1/uploads", body={"name": name, "size": len(CONTENT)} | asked)
    assert reply.status == 201, reply.raw
    return reply.json


async def test_an_upload_in_the_middle_goes_on_where_it_was_after_an_orderly_end(new_server):
    server = new_server(settings='[limits]\ndrain = "0.2 s"\n')
    server.start()
    await server.ready()
    upload = await opened(server, "a")
    async with half_sent(server, upload):
        code = await server.stop()
    server.start()
    await server.ready()

    seen = (await server.ask("GET", f"/api/v1/uploads/{upload['id']}")).json["received"]
    content = f"{urlsplit(upload['content_url']).path}?offset={seen}"
    sent = await server.ask("PUT", content, data=CONTENT[seen:])
    done = await server.ask(
        "POST", f"/api/v1/uploads/{upload['id']}/commit?wait=60", body={"checksum": checksum_of(CONTENT)}
    )

    assert code == 0
    assert 0 < seen <= HALF
    assert (sent.status, done.status, done.json["state"]) == (200, 200, "completed")


@pytest.mark.parametrize("step", ["claimed", "first barrier"])
async def test_an_ingest_that_is_under_way_is_finished_before_an_orderly_end(new_server, tmp_path, step):
    server = new_server()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    server.program = ("tests.crash.server", step, str(fifo))
    server.start()
    await server.ready()
    upload = await opened(server, "a", size=len(TRUTH))
    await server.ask("PUT", urlsplit(upload["content_url"]).path, data=TRUTH)
    committing = asyncio.create_task(
        server.ask("POST", f"/api/v1/uploads/{upload['id']}/commit?wait=60", body={"checksum": checksum_of(TRUTH)})
    )
    await reached(fifo)
    await asyncio.to_thread(os.waitid, os.P_PID, server.process.pid, os.WSTOPPED | os.WNOWAIT)

    server.signal(signal.SIGTERM)
    server.signal(signal.SIGCONT)
    answered, code = await committing, await server.ended()

    assert (code, answered.json["state"]) == (0, "completed")


async def test_a_second_signal_ends_the_server_at_once(new_server):
    server = new_server()
    server.start()
    await server.ready()
    upload = await opened(server, "a")
    async with half_sent(server, upload):
        server.signal(signal.SIGTERM)
        await server.logged("Draining")

        code = await server.stop()

    assert code == 130


async def test_a_hanging_store_does_not_hold_up_the_end(new_server, mounts, tmp_path):
    server = new_server(settings='[limits]\ndrain = "0.1 s"\n')
    disk = mounts.fuse(tmp_path / "disk", server.folder / "fast")
    server.start()
    await server.ready()
    upload = await opened(server, "a")
    disk.send_signal(signal.SIGSTOP)
    async with half_sent(server, upload):
        await stuck(server)

        code = await server.stop()

    assert code == 0


async def test_a_start_that_waits_for_a_hanging_store_ends_when_asked(new_server, mounts, tmp_path):
    server = new_server(each_store='answer_timeout = "5 min"', settings='[limits]\ndrain = "5 min"\n')
    disk = mounts.fuse(tmp_path / "disk", server.folder / "fast")
    disk.send_signal(signal.SIGSTOP)
    server.start()
    await server.answers("/readyz", 503)
    await stuck(server)

    assert await server.stop() == 0
