"""A clone through Globus whose sender is killed before it knows that Globus has it: one task, and the file arrives."""

from tests.crash.harness import assert_sound, until
from tests.fakes.globus import fake_globus, pointed_at

STEP = "submitted without handle"
NAME = "2026/11/book"
MEMBERS = [f"{NAME}/{member}" for member in ("flags", "header", "visdata")]


def at_globus(globus, site) -> str:
    """Settings of *site*: a client of its own, and a collection over its folder."""
    client, secret = globus.add_client()
    site.folder.joinpath("secret").write_text(secret)
    return (
        f'[stores.globus]\ncollection = "{globus.add_collection(site.folder)}"\nroot = "/store"\nstaging = "/staging"\n'
        f'[globus]\nclient_id = "{client}"\nclient_secret_file = "{site.folder}/secret"\n'
    )


async def test_a_batch_at_globus_survives_a_killed_sender(new_site, book):
    async with fake_globus() as globus:
        with pointed_at(globus):
            source, destination = new_site("chajnantor"), new_site("nersc")
            source.rules = at_globus(globus, source) + '[[rules]]\nname = "all"\npeer = "nersc"\nengines = ["globus"]\n'
            destination.rules = at_globus(globus, destination)
            for site in (source, destination):
                site.configure()
                site.start()
                await site.ready()
            destination.admin("peer", "add", "chajnantor", source.url, "--user", "nersc")
            source.kill()
            fifo = source.start(stop_at=STEP)
            await source.ready()
            source.admin("peer", "add", "nersc", destination.url, "--user", "chajnantor")
            async with source.client() as client:
                await client.upload(book, NAME)
                assert await source.stopped(fifo) == STEP
                source.kill()
                source.start()

                async def is_known_at_the_source() -> bool:
                    return bool((await client.describe(NAME)).remote_instances)

                await until(is_known_at_the_source)

            await assert_sound(source, NAME, book, store_files=MEMBERS)
            await assert_sound(destination, NAME, book, store_files=MEMBERS)
    assert len(globus.tasks) == 1
