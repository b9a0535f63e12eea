"""A database that goes away while a server runs, or is not there when it starts; and what is there afterwards."""

import asyncio
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from librarian.catalog.database import make_engine
from librarian.catalog.lock import owner_lock
from tests.postgres import running_cluster
from tests.serving import HASTY


@pytest.fixture(scope="module")
def own_cluster():
    """A cluster that may be stopped: nobody else uses it."""
    with running_cluster() as cluster:
        if cluster is None:
            pytest.skip("needs: PostgreSQL")
        yield cluster


@pytest.fixture
def cluster(own_cluster):
    yield own_cluster
    if own_cluster.process is None:
        own_cluster.start()


@pytest.fixture
def url(cluster):
    return cluster.url(cluster.create())


@pytest.fixture
async def server(new_server, url):
    server = new_server(database=url)
    server.start()
    await server.ready()
    return server


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"truth")
    return path


def children_of(pid: int) -> list[int]:
    """The processes that *pid* has started, those that have ended and are not yet buried too."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def silenced(cluster):
    """A database that neither answers nor goes away."""
    processes = [cluster.process.pid, *children_of(cluster.process.pid)]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


async def generation_of(server) -> int:
    return (await server.status())["generation"]


async def test_a_server_waits_for_a_database_that_is_away_and_comes_up_with_it(new_server, cluster, url):
    cluster.stop()
    server = new_server(database=url)
    server.start()

    alive = await server.answers("/healthz", 200)
    refused = await server.answers("/readyz", 503)
    upload = await server.ask("POST", "/api/v1/uploads", user=None, body={"name": "a", "size": 1})
    cluster.start()
    await server.ready()

    assert alive.json == {"status": "ok"}
    assert (refused.json["code"], refused.headers["Retry-After"]) == ("unavailable", "1")
    assert refused.json["remedy"]
    assert refused.headers["Librarian-Protocol"] == upload.headers["Librarian-Protocol"]
    assert (upload.status, upload.json["request_id"]) == (503, upload.headers["X-Request-Id"])
    assert "Waiting for the catalog's database" in server.log


async def test_a_server_that_waits_for_its_database_ends_when_asked(new_server, cluster, url):
    cluster.stop()
    server = new_server(database=url)
    server.start()
    await server.answers("/readyz", 503)

    assert await server.stop() == 0


async def test_a_short_outage_is_survived_without_a_start(server, cluster, source):
    pid = server.process.pid
    async with server.client() as client:
        await client.upload(source, "before")
        cluster.stop()

        alive = await server.answers("/healthz", 200)
        unready = await server.answers("/readyz", 503)
        refused = await server.ask("POST", "/api/v1/uploads", body={"name": "a", "size": 5})
        uploading = asyncio.create_task(client.upload(source, "during"))
        await server.logged("POST /api/v1/uploads 503", times=2)
        cluster.start()
        done = await uploading
        await server.ready()
        held = await client.upload(source, "before")

    assert alive.status == 200
    assert (unready.json["code"], refused.status, refused.json["code"]) == (
        "database_unavailable",
        503,
        "database_unavailable",
    )
    assert refused.json["remedy"]
    assert (done.was_held, held.was_held) == (False, True)
    assert (server.process.pid, await generation_of(server)) == (pid, 1)


async def test_work_that_was_claimed_before_an_outage_is_done_after_it(server, cluster, source):
    names = [(source, f"file {number}") for number in range(200)]
    async with server.client() as client:
        bringing = asyncio.create_task(client.upload_many(names))
        await server.logged("/api/v1/uploads")
        cluster.stop()
        await server.answers("/readyz", 503)
        cluster.start()

        done = await bringing

    assert len(done) == 200
    assert (await server.status())["held"]["files"] == 200


async def test_a_silent_database_is_told_from_a_dead_server(server, cluster):
    with silenced(cluster):
        unready = await server.answers("/readyz", 503)
        alive = await server.answers("/healthz", 200)
    await server.ready()

    assert (unready.json["code"], alive.status) == ("database_unavailable", 200)


async def test_a_server_out_of_sight_of_its_lock_starts_anew_and_waits(new_server, cluster, url, source):
    server = new_server(database=url, program=HASTY)
    server.start()
    await server.ready()
    pid = server.process.pid
    source.write_bytes(bytes(5_000_000))
    async with server.client() as client:
        await client.upload(source, "before")
        assert children_of(pid), "a worker has hashed it"
        cluster.stop()

        await server.logged("Cannot go on as the owner of this catalog")
        await server.logged("Waiting for the catalog's database")
        waiting = await server.answers("/readyz", 503)
        cluster.start()
        await server.ready()
        held = await client.upload(source, "before")

    assert "is starting and waits" in waiting.json["message"]
    assert (server.process.pid, server.process.poll(), held.was_held) == (pid, None, True)
    assert await generation_of(server) == 2
    assert children_of(pid) == []


async def test_a_silent_database_makes_the_server_start_anew_too(new_server, cluster, url):
    server = new_server(database=url, program=HASTY)
    server.start()
    await server.ready()
    pid = server.process.pid
    with silenced(cluster):
        await server.logged("Cannot go on as the owner of this catalog")
    await server.ready()

    assert (server.process.pid, await generation_of(server)) == (pid, 2)


async def test_a_server_whose_lock_was_taken_by_another_refuses_to_write_and_ends(server, cluster, url):
    another = owner_lock(url)
    cluster.run("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    await another.take()

    code = await server.ended()

    await another.release()
    assert code == 3
    assert "this catalog is owned by librarian" in server.log
    assert f"pid {os.getpid()}" in server.log


async def test_a_server_that_was_overtaken_writes_nothing_more(server, url):
    engine = make_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE site SET generation = 7"))

    refused = await server.ask("POST", "/api/v1/uploads", body={"name": "a", "size": 5})

    async with engine.begin() as connection:
        opened = await connection.scalar(text("SELECT count(*) FROM incoming_transfers"))
    await engine.dispose()
    assert (refused.status, refused.json["code"], opened) == (503, "owned_elsewhere", 0)
