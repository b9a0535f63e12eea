"""Steps that the demonstrations share: upload everything, tell what is where, prove a download."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from librarian.demo.payloads import same_bytes
from librarian.demo.showing import Row
from librarian.errors import ChecksumMismatch
from librarian.states import Presence

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from librarian.demo.payloads import Payload
    from librarian.demo.showing import Screen
    from librarian.demo.sites import DemoSite
    from librarian.wire.files import FileDescription


async def upload_all(site: DemoSite, payloads: Sequence[Payload], screen: Screen) -> dict[str, float]:
    """Upload one after the other; the seconds that each took until it was verified."""
    seconds = {}
    with screen.uploads(payloads) as uploads:
        async with site.client() as client:
            for payload in payloads:
                uploads.begin(payload)
                started = time.monotonic()
                done = await client.upload(payload.source, payload.name, progress=uploads.show)
                seconds[payload.name] = time.monotonic() - started
                uploads.end(payload.name, done.size, seconds[payload.name])
    screen.say(f"{len(payloads)} files and books are verified and durable at {site.name}.")
    return seconds


def make_row(payload: Payload, first: FileDescription, second: FileDescription, *, seconds: float) -> Row:
    """What is where now."""
    copies = [sum(each.presence is Presence.PRESENT for each in file.instances) for file in (first, second)]
    return Row(
        name=payload.name,
        kind=first.kind.value,
        size=first.size,
        checksum=first.checksum,
        copies=copies,
        seconds=seconds,
    )


async def prove_download(site: DemoSite, payloads: Sequence[Payload], folder: Path, screen: Screen) -> None:
    """Fetch a book from the second site, and compare it with what was uploaded, byte by byte.

    Raises
    ------
    ChecksumMismatch
        It came back different.
    """
    payload = next((each for each in payloads if each.is_book), payloads[0])
    target = folder / "download"
    async with site.client() as client:
        done = await client.download(payload.name, target)
    if not await asyncio.to_thread(same_bytes, payload.source, target):
        raise ChecksumMismatch(f"{payload.name} came back different from {site.name}")
    screen.say(f"\nDownloaded {payload.name} from {site.name}: {done.size:,} bytes, each as it was uploaded.")
