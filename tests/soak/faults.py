"""What may go wrong while files are on their way; each fault ends before its coroutine does.

Each returns how often it struck: connections that broke, servers that were killed, notices that were heard again.
"""

import asyncio
import contextlib
import random
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from librarian.errors import NameBusy, NameHeld
from tests.soak.run import Run
from tests.soak.sites import SoakSite, restarted

#: How long a fault lasts, in seconds: real processes on a real link need some time to run into it.
SPAN = 0.6


async def _a_while(dice: random.Random) -> None:
    await asyncio.sleep(dice.uniform(0.1, SPAN))


async def kill_the_source(run: Run, dice: random.Random) -> int:
    return await _kill(run.source, dice=dice)


async def kill_the_destination(run: Run, dice: random.Random) -> int:
    return await _kill(run.destination, dice=dice)


async def kill_both(run: Run, dice: random.Random) -> int:
    return await _kill(*run.sites, dice=dice)


async def _kill(*sites: SoakSite, dice: random.Random) -> int:
    await _a_while(dice)
    for site in sites:
        site.kill()
    await restarted(*sites)
    return len(sites)


async def drop_the_link(run: Run, dice: random.Random) -> int:
    before = run.link.resets
    run.link.cut_every_upload(dice.choice((3_000, 30_000, 300_000)))
    await asyncio.sleep(2 * SPAN)
    run.link.cut_every_upload(None)
    return run.link.resets - before


async def cut_the_link_for_a_week(run: Run, dice: random.Random) -> int:
    before = run.link.resets
    run.link.go_down()
    await _a_while(dice)
    for site in run.sites:
        site.move_clock()
    await _a_while(dice)
    run.link.come_up()
    return run.link.resets - before


async def move_one_clock(run: Run, dice: random.Random) -> int:
    dice.choice(run.sites).move_clock()
    return 1


async def disable_the_peer(run: Run, dice: random.Random) -> int:
    site, peer = dice.choice([(run.source, run.destination), (run.destination, run.source)])
    await site.switch(peer.name, is_enabled=False)
    await _a_while(dice)
    await site.switch(peer.name, is_enabled=True)
    return 1


async def repeat_notices(run: Run, dice: random.Random) -> int:
    """Everything that each site ever said about its files and transfers is heard again, twice and in any order."""
    ours, theirs = (run.ledgers[site.name] for site in run.sites)
    (epoch,) = [row["epoch"] for row in ours.ask("SELECT epoch FROM site")]
    seqs = ours.ask("SELECT sent_seq FROM peers")[0]["sent_seq"]
    staged = ours.ask(
        "SELECT o.uuid AS subject, 'staged' AS state, f.name, f.size, f.checksum FROM outgoing_transfers o"
        " JOIN files f ON f.id = o.file_id WHERE o.state IN ('staged', 'completed')"
    )
    repeated = await _repeat(run.destination, run.source.name, staged, epoch=epoch, seqs=seqs, dice=dice)
    (epoch,) = [row["epoch"] for row in theirs.ask("SELECT epoch FROM site")]
    seqs = theirs.ask("SELECT sent_seq FROM peers")[0]["sent_seq"]
    held = [{**row, "subject": row["name"], "state": "held"} for row in theirs.present.values()]
    held = [row for row in held if row["name"] not in run.taken]
    return repeated + await _repeat(run.source, run.destination.name, held, epoch=epoch, seqs=seqs, dice=dice)


async def _repeat(site: SoakSite, sender: str, notices: list[dict], *, epoch: int, seqs: int, dice) -> int:
    heard = 0
    for _ in range(2):
        dice.shuffle(notices)
        said = [{**notice, "seq": seq} for seq, notice in enumerate(notices[:seqs], start=1)]
        dice.shuffle(said)
        body = {"site": sender, "epoch": epoch, "notices": said}
        status = await site.say("POST", "/api/v1/clones/notices", user=sender, body=body)
        heard += len(said) if status == 200 else 0
    return heard


async def fill_the_destination(run: Run, dice: random.Random) -> int:
    """Full to the last block; after a while an operator makes room."""
    ballast = run.destination.disk_folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 1024**2)
    is_full = shutil.disk_usage(ballast.parent).free == 0
    await asyncio.sleep(2 * SPAN)
    ballast.unlink()
    return int(is_full)


async def spoil_one_copy(run: Run, dice: random.Random) -> int:
    """The bytes of one file turn at the source before it is sent, and are mended after it was refused."""
    await run.source.switch(run.destination.name, is_enabled=False)
    name = f"spoiled/{dice.getrandbits(40)}"
    path = run.folder / "payloads" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dice.randbytes(50_000))
    await run.bring(path, name)
    copy = run.source.disk_folder / "store" / name
    content = copy.read_bytes()
    _write(copy, content[:-1] + bytes([content[-1] ^ 0xFF]))
    await run.source.switch(run.destination.name, is_enabled=True)
    await _refused(run, name)
    _write(copy, content)
    return 1


def _write(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)


async def _refused(run: Run, name: str) -> None:
    asked = f"SELECT state FROM incoming_transfers WHERE name = '{name}' AND state = 'failed'"
    async with asyncio.timeout(60):
        while not run.ledgers[run.destination.name].ask(asked):
            await asyncio.sleep(0.1)


async def take_a_name(run: Run, dice: random.Random) -> int:
    """The destination holds something else under the name of a file that then comes to the source."""
    name = f"taken/{dice.getrandbits(40)}"
    ours, theirs = run.folder / "payloads" / name, run.folder / "theirs" / name
    for path in (ours, theirs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(1000))
    run.taken.add(name)
    await run.bring(theirs, name, to=run.destination)
    await run.bring(ours, name)
    return 1


async def restore_the_source(run: Run, dice: random.Random) -> int:
    await _restore(run, run.source, dice)
    await run.bring_again()
    return 1


async def restore_the_destination(run: Run, dice: random.Random) -> int:
    await _restore(run, run.destination, dice)
    # Whoever brought something there alone brings it again as well.
    for name in sorted(run.taken):
        await _bring_back(run, name)
    return 1


async def _bring_back(run: Run, name: str) -> None:
    """What of that name was the destination's alone; the source's may come first, now that it is forgotten there."""
    async with asyncio.timeout(60):
        while True:
            try:
                await run.bring(run.folder / "theirs" / name, name, to=run.destination)
            except NameBusy:
                await asyncio.sleep(0.1)
            except NameHeld:
                run.taken.remove(name)
                return
            else:
                return


async def _restore(run: Run, site: SoakSite, dice: random.Random) -> None:
    site.kill()
    site.put_back(dice.choice(site.backups[-3:]))
    run.ledgers[site.name].forget()
    await restarted(site)


FAULTS: dict[str, Callable[[Run, random.Random], Awaitable[int]]] = {
    fault.__name__: fault
    for fault in (
        kill_the_source,
        kill_the_destination,
        kill_both,
        drop_the_link,
        cut_the_link_for_a_week,
        move_one_clock,
        disable_the_peer,
        repeat_notices,
        fill_the_destination,
        spoil_one_copy,
        take_a_name,
        restore_the_source,
        restore_the_destination,
    )
}
