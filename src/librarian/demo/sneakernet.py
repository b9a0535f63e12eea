"""A drive that is carried between two sites that cannot call each other meanwhile, twice."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from librarian.cli.terminal import size_text
from librarian.demo.disk import Disk
from librarian.demo.link import free_socket, linked
from librarian.demo.sites import FIRST, RULE, SECOND, make_site, pair, serving
from librarian.demo.steps import upload_all
from librarian.errors import Unavailable
from librarian.states import DriveState
from librarian.wire.drives import (
    DriveDescription,
    DriveMade,
    DriveSealing,
    DriveStakes,
    InitDrive,
    PackingSlip,
    ReleaseDrive,
    ReuseDrive,
    SealDrive,
)
from librarian.wire.journeys import DriveStatus
from librarian.wire.receptions import ReceiveDrive, ReceptionDescription

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from librarian.demo.link import Link
    from librarian.demo.payloads import Payload
    from librarian.demo.showing import Screen
    from librarian.demo.sites import DemoSite
    from librarian.wire.journeys import Journey, Outlook

DRIVE: Final = "D01"
#: Give up when a step has not happened for this long, in seconds.
PATIENCE: Final = 300.0
#: Seconds between two looks.
_LOOK: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class Islands:
    """Two sites that know each other, the link between them, and the drive that is carried."""

    first: DemoSite
    second: DemoSite
    link: Link
    folder: Path
    disk: Disk
    screen: Screen

    async def plug(self, site: DemoSite) -> Path:
        """Plug the drive in at *site*; where it is mounted there."""
        place = self.folder / f"media-{site.name}" / DRIVE
        await self.disk.plug(place)
        return place

    async def look(self) -> tuple[Journey, Outlook]:
        """What the first site knows of the drive, and of the rule that it is loaded for."""
        async with self.first.operator() as operator:
            found = await operator.request("GET", "/status/drives", answer=DriveStatus)
        return found.drives[0], next(rule for rule in found.rules if rule.rule == RULE)

    async def comes_to_be(self, state: DriveState) -> Journey:
        """Wait until the first site has the drive in *state*."""

        async def is_so() -> bool:
            return (await self.look())[0].state is state

        await _until(is_so, what=f"{DRIVE} is {state.value}")
        return (await self.look())[0]


@asynccontextmanager
async def islands(folder: Path, payloads: Sequence[Payload], screen: Screen) -> AsyncIterator[Islands]:
    """Run two sites that can call each other over one link alone, and have a drive that holds all of *payloads*."""
    ways = [free_socket() for _ in (FIRST, SECOND)]
    first, second = (
        make_site(folder, name, link=f"http://127.0.0.1:{way.getsockname()[1]}")
        for name, way in zip((FIRST, SECOND), ways, strict=True)
    )
    disk = Disk(folder / "disk", holds=sum(payload.size for payload in payloads))
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(linked([(ways[0], first.port), (ways[1], second.port)]))
        with screen.making("a drive, and two sites that know each other"):
            await disk.make()
            stack.push_async_callback(disk.give_up)
            await stack.enter_async_context(serving(first, second))
            await pair(first, second)
        yield Islands(first=first, second=second, link=link, folder=folder, disk=disk, screen=screen)


async def carry_all(between: Islands, payloads: Sequence[Payload]) -> dict[str, float]:
    """Carry *payloads* on one drive in two rounds; the seconds that each upload took.

    Raises
    ------
    Unavailable
        A step has not happened for five minutes.
    """
    half = (len(payloads) + 1) // 2
    seconds: dict[str, float] = {}
    for number, some in enumerate((payloads[:half], payloads[half:]), start=1):
        between.screen.say(f"\nRound {number}. The link between {FIRST} and {SECOND} is cut.")
        between.link.cut()
        await (_make_drive(between) if number == 1 else _wipe_drive(between))
        seconds |= await upload_all(between.first, some, between.screen)
        await _load(between, len(some))
        await _seal(between)
        await _receive(between, len(some))
        between.link.mend()
        between.screen.say("The link is back.")
        await _release(between, len(some))
    return seconds


async def _make_drive(between: Islands) -> None:
    place = await between.plug(between.first)
    wanted = InitDrive(name=DRIVE, path=str(place), is_folder=between.disk.is_folder)
    async with between.first.operator() as operator:
        made = await operator.request("POST", "/drives", body=wanted, answer=DriveMade)
    what = "a folder in place of a drive" if between.disk.is_folder else f"a drive of {size_text(made.drive.size)}"
    between.screen.say(f"{DRIVE} is {what}, plugged in at {FIRST}.")


async def _wipe_drive(between: Islands) -> None:
    await between.plug(between.first)

    async def is_back() -> bool:
        return (await between.look())[0].is_plugged

    await _until(is_back, what=f"{DRIVE} is seen at {FIRST} again")
    async with between.first.operator() as operator:
        await operator.request("POST", f"/drives/{DRIVE}/reuse", body=ReuseDrive(), answer=DriveDescription)
    drive = await between.comes_to_be(DriveState.LOADING)
    between.screen.say(f"{DRIVE} is back at {FIRST}, and wiped: {size_text(drive.held.bytes)} on it.")


async def _load(between: Islands, count: int) -> None:
    async def is_loaded() -> bool:
        drive, rule = await between.look()
        return rule.due.files == 0 and drive.held.files == count

    await _until(is_loaded, what=f"everything is loaded onto {DRIVE}")
    drive, _ = await between.look()
    between.screen.say(f"Loaded: {count} files and books, {size_text(drive.held.bytes)}, read back from it.")


async def _seal(between: Islands) -> None:
    async with between.first.operator() as operator:
        body = SealDrive(to=SECOND)
        await operator.request("POST", f"/drives/{DRIVE}/seal", body=body, answer=DriveSealing)
        await between.comes_to_be(DriveState.SEALED)
        slip = await operator.request("GET", f"/drives/{DRIVE}/slip", answer=PackingSlip)
    between.screen.say(f"Sealed for {slip.to}: {slip.files} files and books, signed by {slip.fingerprint}.")
    await between.disk.unplug()
    await between.comes_to_be(DriveState.IN_TRANSIT)
    between.screen.say(f"Unplugged: {DRIVE} is on its way, in a suitcase.")


async def _receive(between: Islands, count: int) -> None:
    place = await between.plug(between.second)
    async with between.second.operator() as operator:
        body = ReceiveDrive(path=str(place))
        begun = await operator.request("POST", "/receptions", body=body, answer=ReceptionDescription)

        async def is_received() -> bool:
            told = await operator.request("GET", f"/receptions/{begun.uuid}", answer=ReceptionDescription)
            return told.is_done and told.held_files == count

        await _until(is_received, what=f"everything is received at {SECOND}")
    await between.disk.unplug()
    drive, _ = await between.look()
    if drive.waiting is None or drive.waiting.files != count:
        raise Unavailable(f"{FIRST} knows of what {SECOND} received, although the link between them is cut")
    between.screen.say(f"Received at {SECOND}: all {count} are verified there. {FIRST} knows nothing of it yet.")


async def _release(between: Islands, count: int) -> None:
    drive = await between.comes_to_be(DriveState.CONFIRMED)
    if drive.confirmed is None or drive.confirmed.files != count:
        raise Unavailable(f"{DRIVE} is confirmed, although not everything on it is")
    between.screen.say(f"Confirmed: {FIRST} knows that {SECOND} holds all {count}.")
    async with between.first.operator() as operator:
        await operator.request("POST", f"/drives/{DRIVE}/release", body=ReleaseDrive(), answer=DriveStakes)

    async def is_forgotten() -> bool:
        return (await between.look())[0].held.files == 0

    await _until(is_forgotten, what=f"nothing counts on what is on {DRIVE}")
    between.screen.say(f"Released: {DRIVE} may be wiped, and carried again.")


async def _until(is_so: Callable[[], Awaitable[bool]], *, what: str) -> None:
    gives_up_at = time.monotonic() + PATIENCE
    while not await is_so():
        if time.monotonic() > gives_up_at:
            raise Unavailable(f"it did not happen within {PATIENCE:.0f} s that {what}")
        await asyncio.sleep(_LOOK)
