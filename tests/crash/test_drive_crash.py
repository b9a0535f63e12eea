"""A drive whose site is killed, or loses its power, at every named step of making, sealing, releasing and wiping it."""

import pytest

from tests.crash.drives import KILL, POWER, with_losses
from tests.crash.harness import until

MAKING = ("drive noted", "identity written")
SEALING = ("sealing begun", "portion listed", "manifest half written", "manifest written", "manifest recorded")
ENDING = ("released", "copies forgotten", "wiping begun", "manifest removed", "drive wiped", "round begun")


def losses(steps):
    """Killed at one step, or without power at each of them in turn."""
    return [(KILL, (step,)) for step in steps] + [(POWER, steps)]


@pytest.mark.parametrize(("loss", "steps"), losses(MAKING))
async def test_a_drive_is_made_once_whenever_its_server_is_lost(new_carrier, loss, steps):
    carrier = new_carrier("new", has_disk=loss is POWER)

    await with_losses(carrier, loss, steps, lambda: until(carrier.init))
    await carrier.comes_to(files=3)

    assert await carrier.init()
    assert len((await carrier.site.call("GET", "/api/v1/drives"))["drives"]) == 1
    await carrier.assert_loaded()


@pytest.mark.parametrize(("loss", "steps"), losses(SEALING))
async def test_a_drive_is_sealed_once_whenever_its_server_is_lost(new_carrier, loss, steps):
    carrier = new_carrier("loaded", has_disk=loss is POWER)

    await with_losses(carrier, loss, steps, carrier.seal)

    await carrier.seal()
    await carrier.assert_sealed()


@pytest.mark.parametrize(("loss", "steps"), losses(ENDING))
async def test_a_drive_begins_its_next_round_once_whenever_its_server_is_lost(new_carrier, loss, steps):
    carrier = new_carrier("sealed", has_disk=loss is POWER)

    drive = await with_losses(carrier, loss, steps, carrier.begin_anew)

    assert (drive["state"], drive["round"]) == ("loading", 2)
    await carrier.assert_loaded()
    assert set((await carrier.outgoing()).values()) == {"failed"}
    await carrier.seal()
    await carrier.assert_sealed(round_=2)
