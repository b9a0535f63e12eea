"""An upload whose server is killed, or loses its power, at every named step, and still arrives whole."""

import asyncio

import pytest

from tests.crash.harness import INGEST_STEPS, assert_sound

STEPS = (
    "row written",
    "directory made",
    "half copied",
    "STAGED",
    *INGEST_STEPS,
)
NAME = "2026/11/book"
MEMBERS = [f"{NAME}/{member}" for member in ("flags", "header", "visdata")]


@pytest.mark.parametrize("loss", ["kill", "power"])
@pytest.mark.parametrize("step", STEPS)
async def test_an_upload_survives_losing_its_server(new_site, book, step, loss):
    site = new_site("chajnantor", has_disk=loss == "power")
    fifo = site.start(stop_at=step)
    async with site.client() as client:
        uploading = asyncio.create_task(client.upload(book, NAME))

        assert await site.stopped(fifo, unless=uploading) == step
        site.cut_power() if loss == "power" else site.kill()
        site.start()
        uploaded = await uploading
        again = await client.upload(book, NAME)

    assert (uploaded.size, again.was_held) == (11_000_012, True)
    await assert_sound(site, NAME, book, store_files=MEMBERS)


@pytest.mark.parametrize("loss", ["kill", "power"])
async def test_many_uploads_survive_a_server_that_is_lost_when_some_have_their_names(new_site, tmp_path, loss):
    sources = {f"2026/{number}": tmp_path / f"source-{number}" for number in range(8)}
    for name, path in sources.items():
        path.write_text(name)
    site = new_site("chajnantor", has_disk=loss == "power")
    fifo = site.start(stop_at="k of n renames")
    async with site.client() as client:
        uploading = asyncio.create_task(client.upload_many([(path, name) for name, path in sources.items()]))

        assert await site.stopped(fifo, unless=uploading) == "k of n renames"
        published = site.published()
        site.cut_power() if loss == "power" else site.kill()
        site.start()
        uploaded = await uploading

    assert 0 < len(published) < len(sources)
    assert sorted(each.name for each in uploaded) == sorted(sources)
    for name, path in sources.items():
        await assert_sound(site, name, path, store_files=sorted(sources))
