"""A drive whose site is killed, or loses its power, at every named step of making, sealing, releasing and wiping it."""

import asyncio

import pytest

from tests.crash.harness import until

MAKING = ("drive noted", "identity written")
SEALING = ("sealing begun", "portion listed", "manifest half written", "manifest written", "manifest recorded")
ENDING = ("released", "copies forgotten", "wiping begun", "manifest removed", "drive wiped", "round begun")
#: Killed at one step, or without power at each of them in turn.
KILL, POWER = "kill", "power"


def losses(steps):
    return [(KILL, (step,)) for step in steps] + [(POWER, steps)]


async def with_losses(carrier, loss, steps, order):
    """Lose the server at each of *steps* of what is ordered, by somebody who goes on asking; then let it go on."""
    fifo = carrier.site.start(stop_at=steps[0])
    ordering = asyncio.create_task(order())
    for step, next_step in zip(steps, (*steps[1:], ""), strict=True):
        assert await carrier.site.stopped(fifo) == step
        carrier.site.cut_power(carrier.drive) if loss is POWER else carrier.site.kill()
        fifo = carrier.site.start(stop_at=next_step)
    return await ordering


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
