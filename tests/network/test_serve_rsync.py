"""Two real servers with rsync between them: the sender is killed in the middle, and the next start goes on."""

import asyncio

import pytest

from librarian.admin.commands import main
from tests.commands import run_command
from tests.crash.harness import until
from tests.fakes.sshd import sshd
from tests.serving import servers
from tests.unit.test_rsync_engine import runs_in

PASSWORD = "correct horse battery"
#: Bytes per second at which nothing of the file ends by itself.
CRAWL = 50_000
CONTENT = bytes(range(256)) * 4 * 6 * 1024


@pytest.fixture
async def pair(tmp_path):
    """chajnantor, which must send everything to nersc with rsync, slowly; both are running."""
    async with sshd(tmp_path / "sshd") as ssh:
        with servers(tmp_path) as make:
            sends = f'[rsync]\nkey_file = "{ssh.ssh.key_file}"\nknown_hosts_file = "{ssh.ssh.known_hosts_file}"\n'
            rule = '[[rules]]\nname = "all"\npeer = "nersc"\nengines = ["rsync"]\n[clones]\ninterval = 0.2\n'
            staging = tmp_path / "nersc" / "fast" / "staging"
            lands = f'rsync = {{target = "{ssh.address.target}", port = {ssh.port}, staging = "{staging}"}}\n'
            sender, receiver = make("chajnantor", settings=sends + rule), make("nersc", each_store=lands)
            sender.start()
            receiver.start(LIBRARIAN__NAME="nersc")
            for server, other, role in ((sender, "nersc", "callback"), (receiver, "chajnantor", "upstream")):
                await server.ready()
                await asyncio.to_thread(at, server, "account", "create", other, "--role", role)
            await asyncio.to_thread(at, sender, "peer", "add", "nersc", receiver.url, "--user", "chajnantor")
            await asyncio.to_thread(at, receiver, "peer", "add", "chajnantor", sender.url, "--user", "nersc")
            await limit(sender, CRAWL)
            yield sender, receiver


def at(server, *command):
    done = run_command(main, "--config", server.config, *command, stdin=PASSWORD)
    assert done.code == 0, done


async def limit(sender, rate):
    reply = await sender.ask("PATCH", "/api/v1/peers/nersc", body={"rate_limit": rate})
    assert reply.status == 200, reply.raw


async def test_a_sender_that_is_killed_leaves_nothing_running_and_goes_on_after_its_next_start(pair, tmp_path):
    sender, receiver = pair
    (tmp_path / "source").write_bytes(CONTENT)
    links, staging = sender.folder / "state" / "rsync", receiver.folder / "fast" / "staging"

    async def has_begun():
        return [path for path in staging.glob("*/payload") if path.stat().st_size]

    async def is_gone():
        return not runs_in(links)

    async def is_known():
        async with sender.client() as client:
            return (await client.describe("one")).remote_instances

    async with sender.client() as client:
        await client.upload(tmp_path / "source", "one")
    (payload,) = await until(has_begun)
    inode = payload.stat().st_ino
    sender.kill()
    await until(is_gone)
    sender.start()
    await sender.ready()
    await limit(sender, 0)
    await until(is_known)

    published = receiver.folder / "fast" / "root" / "one"
    assert published.read_bytes() == CONTENT
    assert published.stat().st_ino == inode
    assert list(links.iterdir()) == []
