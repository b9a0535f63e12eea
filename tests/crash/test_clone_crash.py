"""Remote clones whose sender, receiver or both are lost at every named step, and which end verified at both."""

import asyncio

import pytest

from tests.crash.conftest import RULE
from tests.crash.harness import INGEST_STEPS, assert_sound, until

#: The steps that each site takes, in their order.
STEPS = {
    "chajnantor": (
        "offer sent",
        "verdict unrecorded",
        "key stored",
        "submitted without handle",
        "delivered without notice",
        "notice applied but unacknowledged",
    ),
    "nersc": (
        "row written",
        "directory made",
        "half copied",
        "notice applied but unacknowledged",
        *INGEST_STEPS,
    ),
}
NAME = "2026/11/book"


@pytest.fixture
def two(new_site):
    """Makes chajnantor and nersc, one of them on a disk of its own when asked; neither runs."""

    def make(*, has_disk: str = ""):
        rules = {"chajnantor": RULE, "nersc": ""}
        return {name: new_site(name, has_disk=name == has_disk, rules=rules[name]) for name in STEPS}

    return make


async def acquainted(sites, where, step):
    """Start *sites*, of which *where* will stop at *step*, and have them know each other; where it will tell."""
    fifos = {name: site.start(stop_at=step if name == where else "") for name, site in sites.items()}
    await asyncio.gather(*(site.ready() for site in sites.values()))
    await sites["nersc"].knows(sites["chajnantor"])
    await sites["chajnantor"].knows(sites["nersc"])
    return fifos[where]


async def assert_cloned(sites, book, names):
    """Of several books, the last has come to both sites and is known to be at the other."""
    async with sites["chajnantor"].client() as client:

        async def is_known() -> bool:
            return bool((await client.describe(names[-1])).remote_instances)

        await until(is_known)
    members = sorted(f"{name}/{member}" for name in names for member in ("flags", "header", "visdata"))
    for site in sites.values():
        await assert_sound(site, names[-1], book, store_files=members)


@pytest.mark.parametrize("where", STEPS)
async def test_a_clone_survives_a_site_that_is_killed(two, book, where):
    sites, names = two(), []
    fifo = await acquainted(sites, where, STEPS[where][0])
    for step, next_step in zip(STEPS[where], (*STEPS[where][1:], ""), strict=True):
        names.append(f"{NAME}-{len(names)}")
        async with sites["chajnantor"].client() as client:
            await client.upload(book, names[-1])

        assert await sites[where].stopped(fifo) == step
        sites[where].kill()
        sites[where].start()

        await assert_cloned(sites, book, names)
        sites[where].kill()
        fifo = sites[where].start(stop_at=next_step)


@pytest.mark.parametrize("where", STEPS)
@pytest.mark.parametrize("loss", ["power", "kill both"])
async def test_a_clone_survives_losing_power_or_both_sites_at_one_step_after_the_other(two, book, loss, where):
    sites = two(has_disk=where if loss == "power" else "")
    fifo = await acquainted(sites, where, STEPS[where][0])
    async with sites["chajnantor"].client() as client:
        await client.upload(book, NAME)

    for step, next_step in zip(STEPS[where], (*STEPS[where][1:], ""), strict=True):
        assert await sites[where].stopped(fifo) == step
        if loss == "power":
            sites[where].cut_power()
        else:
            for site in sites.values():
                site.kill()
        for name, site in sites.items():
            if name == where:
                fifo = site.start(stop_at=next_step)
            elif loss == "kill both":
                site.start()

    await assert_cloned(sites, book, [NAME])
