"""Two sites pair although one of them is killed on the way; the same token finishes what was begun."""

import subprocess
from datetime import timedelta

import pytest

from librarian.client import LibrarianClient
from librarian.wire.site import Readiness
from tests.crash.harness import PATIENCE, CrashSite, all_gone, free_port, until
from tests.starting import Started

#: The step, and the site that is lost there.
STEPS = (
    ("terms agreed", "chajnantor"),
    ("terms written down", "nersc"),
    ("pairing confirmed", "chajnantor"),
    ("confirmed without peer", "nersc"),
)


@pytest.fixture
def two(tmp_path):
    """chajnantor and nersc, which do not know each other; neither runs."""
    sites = {}
    for name in ("chajnantor", "nersc"):
        (tmp_path / name).mkdir()
        sites[name] = CrashSite(name, tmp_path / name, free_port(), tmp_path)
        sites[name].configure()
    with all_gone(*sites.values()):
        yield sites


async def ready(site):
    async with LibrarianClient(site.url, patience=timedelta(seconds=PATIENCE), shared=False) as client:
        await client.request("GET", "/readyz", answer=Readiness)


def admin(site, *arguments):
    """Start an admin command."""
    command = ["librarian.admin", "--config", site.config, *arguments]
    return Started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def told(site, *arguments):
    """What an admin command says; it must not fail."""
    out, err = (command := admin(site, *arguments)).communicate()
    assert command.returncode == 0, err
    return out.strip()


def has_peer(site, name):
    async def asked():
        return name in told(site, "peer", "list")

    return asked


@pytest.mark.parametrize(("step", "where"), STEPS)
async def test_pairing_survives_losing_a_site(two, step, where):
    inviter, joiner = two["chajnantor"], two["nersc"]
    fifos = {name: site.start(stop_at=step if name == where else "") for name, site in two.items()}
    for site in two.values():
        await ready(site)
    token = told(inviter, "peer", "invite", "nersc")
    joining = admin(joiner, "peer", "join", token)
    assert await two[where].stopped(fifos[where]) == step
    two[where].kill()
    joining.communicate()

    two[where].start()
    await ready(two[where])
    again = told(joiner, "peer", "join", token)

    assert "Paired with 'chajnantor'" in again
    assert "failed" not in told(inviter, "peer", "check", "nersc")
    assert "failed" not in told(joiner, "peer", "check", "chajnantor")


async def test_what_was_confirmed_is_finished_without_the_token(two):
    inviter, joiner = two["chajnantor"], two["nersc"]
    inviter.start()
    fifo = joiner.start(stop_at="confirmed without peer")
    for site in two.values():
        await ready(site)
    joining = admin(joiner, "peer", "join", told(inviter, "peer", "invite", "nersc"))
    await joiner.stopped(fifo)
    joiner.kill()
    joining.communicate()

    joiner.start()
    await ready(joiner)

    await until(has_peer(joiner, "chajnantor"))
    assert "failed" not in told(joiner, "peer", "check", "chajnantor")
