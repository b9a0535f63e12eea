"""Clones through Globus whose sender is killed while Globus goes on: nothing is moved twice, every file arrives."""

from contextlib import asynccontextmanager

import pytest

from tests.crash.harness import assert_sound, until
from tests.fakes.globus import fake_globus, pointed_at

NAMES = ("2026/11/one", "2026/11/three", "2026/11/two")


def at_globus(globus, site) -> str:
    """Settings of *site*: a client of its own, and a collection over its folder."""
    client, secret = globus.add_client()
    site.folder.joinpath("secret").write_text(secret)
    return (
        f'[stores.globus]\ncollection = "{globus.add_collection(site.folder)}"\nroot = "/store"\nstaging = "/staging"\n'
        f'[globus]\nclient_id = "{client}"\nclient_secret_file = "{site.folder}/secret"\n'
    )


@pytest.fixture
def sources(tmp_path):
    """Files to bring, by name."""
    for name in NAMES:
        tmp_path.joinpath(name.rpartition("/")[2]).write_text(name)
    return {name: tmp_path / name.rpartition("/")[2] for name in NAMES}


@asynccontextmanager
async def sending(new_site, sources, *, step="", at_start=lambda globus: None):
    """Two sites and Globus between, the sender stopping at *step* on its way with *sources*."""
    async with fake_globus() as globus:
        with pointed_at(globus):
            source, destination = new_site("chajnantor"), new_site("nersc")
            source.rules = at_globus(globus, source) + '[[rules]]\nname = "all"\npeer = "nersc"\nengines = ["globus"]\n'
            # It clears what its sender has cancelled.
            destination.rules = at_globus(globus, destination) + "[housekeeping]\ninterval = 1\n"
            at_start(globus)
            for site in (source, destination):
                site.configure()
            fifo = source.start(stop_at=step)
            destination.start()
            for site in (source, destination):
                await site.ready()
            await destination.knows(source)
            async with source.client() as client:
                await client.upload_many([(path, name) for name, path in sources.items()])
            # Known only now, so that all are offered at once.
            await source.knows(destination)
            yield globus, source, destination, fifo


async def assert_known(source, destination, sources):
    """Every file of *sources* arrives, and *source* knows it."""
    async with source.client() as client:
        for name in sources:

            async def is_known(name=name) -> bool:
                return bool((await client.describe(name)).remote_instances)

            await until(is_known)
    for site in (source, destination):
        for name, path in sources.items():
            await assert_sound(site, name, path, store_files=list(sources))


def fails_one(globus) -> None:
    """Of the first task a file is left over when Globus gives up; how it ended is told in pages of one."""
    globus.longest_page = 1
    globus.cue("fails", code="CONNECTION_RESET", match="/two")


@pytest.mark.parametrize(
    ("step", "at_start", "tasks"),
    [
        ("submitted without handle", lambda globus: None, 1),
        ("results half read", fails_one, 2),
        ("delivered without notice", lambda globus: None, 1),
    ],
)
async def test_a_batch_at_globus_survives_a_sender_killed_at(new_site, sources, step, at_start, tasks):
    async with sending(new_site, sources, step=step, at_start=at_start) as (globus, source, destination, fifo):
        assert await source.stopped(fifo) == step
        source.kill()
        source.start()

        await assert_known(source, destination, sources)

        assert len(globus.tasks) == tasks


async def test_globus_ends_a_batch_while_its_sender_is_dead(new_site, sources):
    async with sending(new_site, sources, at_start=lambda globus: globus.cue("silent")) as (
        globus,
        source,
        destination,
        _,
    ):

        async def is_active_here() -> bool:
            transfers = (await source.call("GET", "/api/v1/transfers"))["transfers"]
            return bool(globus.tasks) and all(transfer["state"] == "ongoing" for transfer in transfers)

        await until(is_active_here)
        source.kill()
        globus.release()
        (task,) = globus.tasks.values()

        async def has_ended() -> bool:
            return task.has_ended

        await until(has_ended)
        source.start()

        await assert_known(source, destination, sources)

        assert list(globus.tasks.values()) == [task]
        assert task.status == "SUCCEEDED"


async def test_a_batch_that_was_stopped_at_globus_stays_stopped_until_it_is_wanted_again(new_site, sources):
    step = "stopped without record"
    async with sending(new_site, sources, step=step, at_start=lambda globus: globus.cue("silent")) as (
        globus,
        source,
        destination,
        fifo,
    ):

        async def is_at_globus() -> bool:
            return bool(globus.tasks)

        await until(is_at_globus)
        uuids = [each["uuid"] for each in (await source.call("GET", "/api/v1/transfers"))["transfers"]]
        await source.call("POST", "/api/v1/transfers/cancel", {"uuids": uuids})
        assert await source.stopped(fifo) == step
        source.kill()
        (stopped,) = globus.tasks.values()
        assert stopped.fatal is not None
        source.start()
        await source.ready()

        await source.call("POST", "/api/v1/transfers/retry", {"all": True})

        await assert_known(source, destination, sources)
        assert stopped.fatal["code"] == "CANCELED"
        assert len(globus.tasks) == 2
