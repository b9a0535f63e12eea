"""What the rsync engine does about keys, hosts, full disks, its own death, and addresses that are none."""

import asyncio
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from librarian.transfers.base import Phase
from tests.contracts.roads import MIB, rsync_road
from tests.crash.harness import until
from tests.fakes.sshd import sshd
from tests.fakes.tcp_proxy import tcp_proxy

#: Bytes per second at which nothing of a MiB ends by itself.
CRAWL = 20_000

SENDER = """
import asyncio, os, signal, sys
from pathlib import Path
from librarian.names import SiteName, StoreName, Token
from librarian.states import Kind
from librarian.transfers.base import Item, Job
from librarian.transfers.rsync import RsyncEngine
from librarian.transfers.rsync_run import Ssh

async def main(ends, key, hosts, folder, address, staging, token, source):
    engine = RsyncEngine(Ssh(key_file=Path(key), known_hosts_file=Path(hosts)), folder=Path(folder))
    item = Item(uuid="u", token=Token(token), source=Path(source), kind=Kind.FILE, size=1048576)
    job = Job(peer=SiteName("nersc"), store=StoreName("fast"), address=address, staging=staging, items=(item,),
              rate_limit=20000)
    await engine.submit(job, "key")
    payload = Path(staging, token, "payload")
    while not payload.exists():
        await asyncio.sleep(0.01)
    if ends == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    os.execvp("sleep", ["sleep", "3600"])

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def server(tmp_path):
    async with sshd(tmp_path / "sshd") as made:
        yield made


@pytest.fixture
def folders(tmp_path):
    for name in ("sources", "staging"):
        (tmp_path / name).mkdir()
    return tmp_path / "sources", tmp_path / "staging"


@pytest.fixture
async def road(server, folders):
    async with rsync_road(*folders, asyncio.Event(), server) as made:
        yield made


async def stalled(road, handle):
    """What the engine says once it has something to say."""
    await until(lambda: say(road, handle))
    return await road.says(handle)


async def say(road, handle):
    return (await road.says(handle)).reason


async def has_begun(road, *items):
    """Wait until bytes of one of *items* arrive."""

    async def is_there():
        return any(road.payload(item).exists() for item in items)

    await until(is_there)


async def has_arrived(path, size):
    """Wait until *path* holds *size* bytes."""

    async def is_there():
        return path.exists() and path.stat().st_size >= size

    await until(is_there)


async def are_gone(folder):
    """Wait until no run that speaks of *folder* is left."""

    async def none():
        return not runs_in(folder)

    await until(none)


def runs_in(folder: Path) -> list[str]:
    """The command lines of processes that speak of *folder*."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"--files-from={folder}/" in line:
            found.append(line)
    return found


async def test_what_has_arrived_is_not_sent_again(road):
    item = road.has_file("one", b"x" * MIB)
    road.payload(item).write_bytes(b"y" * 1000)

    progress = await road.runs()

    assert (progress.phase, progress.bytes_done) == (Phase.SUCCEEDED, MIB)
    assert road.payload(item).read_bytes() == b"y" * 1000 + b"x" * (MIB - 1000)


async def test_what_arrives_may_be_written_again_though_the_source_is_read_only(road):
    item = road.has_book("book", {"deep/a": b"a"})
    (road.staging / item.token).chmod(0o710)
    for path in (item.source / "deep/a", item.source / "deep", item.source):
        path.chmod(0o555)

    await road.runs()

    payload = road.payload(item)
    modes = [oct(path.stat().st_mode) for path in (payload, payload / "deep/a")]
    assert modes == ["0o42775", "0o100664"]
    assert oct(payload.parent.stat().st_mode) == "0o40710"


@pytest.mark.parametrize(
    ("spoil", "mend", "word"),
    [
        ("is_not_trusted", "is_trusted", "known_hosts_file"),
        ("lets_nobody_in", "lets_in", "public key"),
    ],
)
async def test_a_wrong_key_at_either_end_is_held_until_somebody_has_mended_it(road, server, spoil, mend, word):
    item = road.has_file("one", b"one")
    getattr(server, spoil)()

    handle = await road.starts()
    held = await road.until(handle, Phase.HELD)
    getattr(server, mend)()
    progress = await road.ends(handle)

    assert word in held.remedy
    assert (progress.phase, road.payload(item).read_bytes()) == (Phase.SUCCEEDED, b"one")


async def test_a_server_that_is_away_holds_up_and_fails_nothing(road):
    road.has_file("one", b"one")
    road.address = road.address.rpartition(":")[0] + ":1"

    progress = await stalled(road, await road.starts())

    assert progress.phase is Phase.ACTIVE
    assert "Connection refused" in progress.reason


async def test_a_link_that_breaks_again_and_again_still_gets_everything_across(server, road):
    content = random.Random(5).randbytes(3 * MIB)
    item = road.has_book("book", {"large": content, "small": b"small"})
    async with tcp_proxy(f"http://127.0.0.1:{server.port}") as proxy:
        port = int(proxy.url.rpartition(":")[2])
        server.is_trusted(at=port)
        road.address = f"{server.address.target}:{port}"

        handle = await road.engine.submit(replace(road.job, rate_limit=2 * MIB), "key")
        for size in (MIB, 2 * MIB):
            await has_arrived(road.payload(item) / "large", size)
            proxy.reset_all()
        progress = await road.ends(handle)

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})
    assert (road.payload(item) / "large").read_bytes() == content
    assert (road.payload(item) / "large").stat().st_mode & 0o777 == 0o664
    # A break costs what was on its way, and never what had arrived.
    assert proxy.bytes_up < 5 * MIB


async def test_a_folder_that_the_receiver_took_away_fails_alone_and_is_not_made_anew(road):
    gone, stays = road.has_file("gone", b"gone"), road.has_file("stays", b"stays")
    road.payload(gone).parent.rmdir()

    progress = await road.runs()

    assert set(progress.failed_items) == {gone.uuid}
    assert [path.name for path in road.staging.iterdir()] == [stays.token]


async def test_a_staging_that_is_not_mounted_is_not_filled(road):
    item = road.has_file("one", b"one")
    road.payload(item).parent.rmdir()

    progress = await stalled(road, await road.starts())

    assert progress.phase is Phase.ACTIVE
    assert list(road.staging.iterdir()) == []


async def test_a_key_that_may_write_into_one_folder_alone_is_enough(server, folders):
    server.lets_in(f'command="rrsync -wo {folders[1]}",restrict')
    async with rsync_road(*folders, asyncio.Event(), server, sees_staging="/") as road:
        file, book = road.has_file("one", b"one"), road.has_book("book", {"deep/a": b"a"})

        progress = await road.runs()

    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})
    assert road.payload(file).read_bytes() == b"one"
    assert (road.payload(book) / "deep/a").read_bytes() == b"a"


async def test_a_link_within_a_book_is_not_followed_and_its_book_fails_alone(road):
    odd, good = road.has_book("odd", {"a": b"a"}), road.has_file("good", b"good")
    (odd.source / "passwd").symlink_to("/etc/passwd")

    progress = await road.runs()

    assert set(progress.failed_items) == {odd.uuid}
    assert not road.payload(odd).exists()
    assert road.payload(good).read_bytes() == b"good"


async def test_a_source_that_is_not_as_large_as_promised_fails_alone_and_moves_nothing(road):
    short, good = road.has_book("short", {"a": b"a" * 1000, "b": b"b"}), road.has_file("good", b"good")
    (short.source / "a").write_bytes(b"a" * 999)

    progress = await road.runs()

    assert progress.failed_items == {short.uuid: "it has 1,000 bytes at the sender, and not the promised 1,001"}
    assert not road.payload(short).exists()
    assert road.payload(good).read_bytes() == b"good"


@pytest.mark.parametrize(
    ("address", "staging"),
    [
        ("-oProxyCommand=touch${IFS}here@host:22", "/staging"),
        ("user@host:22", "/staging;touch here"),
        ("user@host", "/staging"),
        ("user@host:22", "relative"),
    ],
)
async def test_what_is_no_place_for_ssh_is_never_handed_to_it(road, address, staging):
    road.has_file("one", b"one")
    road.address, road.sees_staging = address, staging

    held = await road.until(await road.starts(), Phase.HELD)

    assert "peer check" in held.remedy


async def test_a_cancelled_run_is_gone_with_its_ssh(road, tmp_path):
    item = road.has_file("one", b"x" * MIB)
    handle = await road.engine.submit(replace(road.job, rate_limit=CRAWL), await road.engine.prepare())
    await has_begun(road, item)

    await road.engine.cancel(handle)

    assert runs_in(tmp_path / "links") == []
    assert list((tmp_path / "links").iterdir()) == []


@pytest.mark.parametrize("ends", ["killed", "began anew"])
async def test_nothing_of_it_survives_its_process_and_the_next_one_goes_on(road, server, tmp_path, ends):
    item = road.has_file("one", bytes(range(256)) * 4096)
    ssh, links = server.ssh, tmp_path / "links"
    given = (ssh.key_file, ssh.known_hosts_file, links, road.address, road.staging, item.token, item.source)
    process = subprocess.Popen([sys.executable, "-c", SENDER, ends, *map(os.fspath, given)])

    await has_begun(road, item)
    await are_gone(links)
    process.kill()
    process.wait()
    progress = await road.ends(await road.engine.submit(road.job, "key"))

    assert progress.phase is Phase.SUCCEEDED
    assert road.payload(item).read_bytes() == item.source.read_bytes()
    assert list(links.iterdir()) == []


async def test_with_a_limit_the_runs_to_one_peer_take_turns(road, tmp_path):
    for name in ("one", "two"):
        item = road.has_file(name, b"x" * MIB)
        await road.engine.submit(replace(road.job, items=(item,), rate_limit=CRAWL), name)

    await has_begun(road, *road.items)

    assert len({line.partition("--files-from=")[2].split()[0] for line in runs_in(tmp_path / "links")}) == 1


async def test_without_rsync_on_the_machine_it_is_held(road, monkeypatch):
    road.has_file("one", b"one")
    monkeypatch.setenv("PATH", "/nowhere")

    held = await road.until(await road.starts(), Phase.HELD)

    assert held.remedy == "Install rsync and ssh at both ends."
