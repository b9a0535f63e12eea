"""A remote clone whose sender or receiver is lost at every named step, and which still ends verified at both."""

import pytest

from tests.crash.conftest import RULE
from tests.crash.harness import assert_sound, until

#: The step, and the site that is lost there.
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


#: Steps at which one site knows what the other does not: there both are killed as well.
TELLING = ("offer sent", "directory made", "delivered without notice", "recorded but not answered")
CASES = [(step, where, loss) for step, where in STEPS for loss in ("kill", "power")]
CASES += [(step, where, "kill both") for step, where in STEPS if step in TELLING]


@pytest.mark.parametrize(("step", "where", "loss"), CASES)
async def test_a_clone_survives_losing_a_site(new_site, book, step, where, loss):
    sites = {
        name: new_site(name, has_disk=loss == "power" and name == where, rules=RULE if name == "chajnantor" else "")
        for name in ("chajnantor", "nersc")
    }
    source, destination = sites["chajnantor"], sites["nersc"]
    for site in sites.values():
        site.start()
        await site.ready()
    destination.admin("peer", "add", "chajnantor", source.url, "--user", "nersc")
    sites[where].kill()
    fifo = sites[where].start(stop_at=step)
    await sites[where].ready()
    source.admin("peer", "add", "nersc", destination.url, "--user", "chajnantor")
    async with source.client() as client:
        await client.upload(book, NAME)

        assert await sites[where].stopped(fifo) == step
        lost = list(sites.values()) if loss == "kill both" else [sites[where]]
        for site in lost:
            site.cut_power() if loss == "power" else site.kill()
            site.start()

        async def is_known_at_the_source() -> bool:
            return bool((await client.describe(NAME)).remote_instances)

        await until(is_known_at_the_source)

    for site in sites.values():
        await assert_sound(site, NAME, book, store_files=MEMBERS)
