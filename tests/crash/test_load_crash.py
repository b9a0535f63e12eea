"""A copy onto another store whose server is killed, or loses its power, at every named step, and that arrives whole."""

import asyncio
from pathlib import Path

import pytest

from librarian.checksum import Algorithm, measure_blocking
from tests.crash.harness import INGEST_STEPS, until

STEPS = (
    "row written",
    "directory made",
    "half copied",
    "STAGED",
    *INGEST_STEPS,
)
LOSSES = [("kill", step) for step in STEPS] + [("power", step) for step in ("half copied", "STAGED", "first barrier")]
NAME = "2026/11/book"
MEMBERS = ["flags", "header", "visdata"]


def with_another_store(folder: Path) -> str:
    return (
        f'[[stores]]\nname = "aside"\nroot = "{folder}/aside"\nstaging = "{folder}/aside-staging"\n'
        'verify_from = "medium"\n[[rules]]\nname = "second-copy"\nstores = ["aside"]\n'
    )


def entries(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]


@pytest.mark.parametrize(("loss", "step"), LOSSES)
async def test_a_copy_survives_losing_its_server(new_site, book, loss, step):
    site = new_site("chajnantor", has_disk=loss == "power")
    site.start()
    async with site.client() as client:
        uploaded = await client.upload(book, NAME)
        site.kill()
        site.rules = with_another_store(site.folder)
        site.configure()
        fifo = site.start(stop_at=step)

        assert await site.stopped(fifo) == step
        site.cut_power() if loss == "power" else site.kill()
        site.start()

        async def copies():
            found = (await client.describe(NAME)).instances
            return {each.store: Path(each.path) for each in found} if len(found) == 2 else None

        paths = await until(copies)

        async def is_clean() -> bool:
            return entries(site.folder / "aside-staging") == site.staging_entries() == []

        await until(is_clean)
    measured = await asyncio.to_thread(measure_blocking, paths["aside"], Algorithm.XXH3)
    assert measured.checksum == uploaded.checksum
    assert sorted(entries(site.folder / "aside" / NAME)) == ["empty", *MEMBERS]
