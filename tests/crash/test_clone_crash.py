"""A remote clone whose sender, receiver or both are lost at every named step, and which ends verified at both."""

import asyncio

import pytest

from tests.crash.conftest import RULE
from tests.crash.harness import assert_sound, until

#: The step, and the site that takes it.
STEPS = (
    ("offer sent", "chajnantor"),
    ("verdict unrecorded", "chajnantor"),
    ("key stored", "chajnantor"),
    ("submitted without handle", "chajnantor"),
    ("delivered without notice", "chajnantor"),
    ("notice applied but unacknowledged", "chajnantor"),
    ("row written", "nersc"),
    ("directory made", "nersc"),
    ("half copied", "nersc"),
    ("claimed", "nersc"),
    ("half hashed", "nersc"),
    ("first barrier", "nersc"),
    ("k of n renames", "nersc"),
    ("second barrier", "nersc"),
    ("recorded but not answered", "nersc"),
    ("notice applied but unacknowledged", "nersc"),
)
NAME = "2026/11/book"
MEMBERS = [f"{NAME}/{member}" for member in ("flags", "header", "visdata")]


@pytest.mark.parametrize("loss", ["kill", "power", "kill both"])
@pytest.mark.parametrize(("step", "where"), STEPS)
async def test_a_clone_survives_losing_a_site_or_both(new_site, book, step, where, loss):
    sites = {
        name: new_site(name, has_disk=loss == "power" and name == where, rules=RULE if name == "chajnantor" else "")
        for name in ("chajnantor", "nersc")
    }
    source, destination = sites["chajnantor"], sites["nersc"]
    fifos = {name: site.start(stop_at=step if name == where else "") for name, site in sites.items()}
    await asyncio.gather(*(site.ready() for site in sites.values()))
    await destination.knows(source)
    await source.knows(destination)
    async with source.client() as client:
        await client.upload(book, NAME)

        assert await sites[where].stopped(fifos[where]) == step
        lost = list(sites.values()) if loss == "kill both" else [sites[where]]
        for site in lost:
            site.cut_power() if loss == "power" else site.kill()
        for site in lost:
            site.start()

        async def is_known_at_the_source() -> bool:
            return bool((await client.describe(NAME)).remote_instances)

        await until(is_known_at_the_source)

    for site in sites.values():
        await assert_sound(site, NAME, book, store_files=MEMBERS)
