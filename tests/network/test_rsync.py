"""Remote clones by rsync, between real sites, over a real ssh server."""

import pytest

from librarian.settings import LandingSettings, RsyncSettings
from tests.clone_fixtures import acquaint, party, until
from tests.fakes.sshd import sshd


@pytest.fixture
async def server(tmp_path):
    async with sshd(tmp_path / "sshd") as made:
        yield made


def over(server, *, staging=None):
    """Changes a site's settings: peers come to its one store through *server*, and it goes to them the same way."""

    def change(settings):
        store = settings.stores[0]
        target = server.address.target
        landing = LandingSettings(target=target, port=server.port, staging=staging or str(store.staging))
        return settings.model_copy(
            update={
                "stores": (store.model_copy(update={"rsync": landing}),),
                "rsync": RsyncSettings(key_file=server.ssh.key_file, known_hosts_file=server.ssh.known_hosts_file),
            }
        )

    return change


@pytest.fixture
async def pair(urls, tmp_path, server):
    """Two sites that know each other, and reach each other's stores through *server*."""
    async with (
        party(urls[0], tmp_path / "a", "chajnantor", change=over(server)) as sender,
        party(urls[1], tmp_path / "b", "nersc", change=over(server)) as receiver,
    ):
        await acquaint(sender, receiver)
        yield sender, receiver


async def test_files_and_books_arrive_verified_and_are_known_at_the_source(pair):
    sender, receiver = pair
    await sender.upload({"a/one": b"one" * 1000, "a/empty": b"", "big": b"x" * 3_000_000})
    await sender.upload_book("book", {"x": b"1", "deep/y": b"2" * 2_000_000, "deep/er/z": b""})

    await sender.replicates_to(receiver, engines=("rsync",))

    names = ["a/one", "a/empty", "big", "book"]
    await sender.knows_copies_at(receiver, names)
    assert [(await sender.file(name)).checksum for name in names] == [
        (await receiver.file(name)).checksum for name in names
    ]
    assert (receiver.folder / "fast" / "book" / "deep" / "y").read_bytes() == b"2" * 2_000_000
    assert await sender.dues(names) == ()


async def test_a_rule_that_names_no_engine_goes_by_rsync_before_local_and_http(pair):
    sender, receiver = pair
    await sender.upload({"one": b"one"})

    await sender.replicates_to(receiver, engines=())

    await sender.knows_copies_at(receiver, ["one"])
    async with sender.site.catalog.read() as tx:
        batches = await tx.batches.with_ids([1, 2, 3])
    assert {batch.engine for batch in batches.values()} == {"rsync"}


async def test_a_host_key_that_changed_raises_an_alert_and_the_batch_goes_on_when_it_is_mended(pair, server):
    sender, receiver = pair
    server.is_not_trusted()
    await sender.upload({"one": b"one"})
    await sender.replicates_to(receiver, engines=("rsync",))

    async def is_told() -> bool:
        return any("known_hosts_file" in (alert.remedy or "") for alert in await sender.alerts())

    await until(is_told)
    server.is_trusted()

    await sender.knows_copies_at(receiver, ["one"])


async def test_a_batch_goes_on_after_a_restart_of_the_sender(urls, tmp_path, server):
    change = over(server)
    async with party(urls[1], tmp_path / "b", "nersc", change=change) as receiver:
        async with party(urls[0], tmp_path / "a", "chajnantor", change=change) as sender:
            await acquaint(sender, receiver)
            port = sender.port
            server.lets_nobody_in()
            await sender.upload({"one": b"one"})
            await sender.replicates_to(receiver, engines=("rsync",))

            async def is_told() -> bool:
                return bool(await sender.alerts())

            await until(is_told)

        server.lets_in()
        async with party(urls[0], tmp_path / "a", "chajnantor", port=port, change=change) as sender:
            await sender.knows_copies_at(receiver, ["one"])


async def test_an_account_that_moved_holds_the_peer_until_somebody_has_looked(urls, tmp_path, server):
    async with party(urls[0], tmp_path / "a", "chajnantor", change=over(server)) as sender:
        async with party(urls[1], tmp_path / "b", "nersc", change=over(server)) as receiver:
            await acquaint(sender, receiver)
            port = receiver.port
        async with party(
            urls[1], tmp_path / "b", "nersc", port=port, change=over(server, staging="/elsewhere")
        ) as receiver:
            await sender.site.neighbours.forget(receiver.name)
            await sender.upload({"one": b"one"})
            await sender.replicates_to(receiver, engines=("rsync", "http"))

            async def is_told() -> bool:
                return any("entry points" in alert.message for alert in await sender.alerts())

            await until(is_told)
            assert await receiver.incoming() == ()
