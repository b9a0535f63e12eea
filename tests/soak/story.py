"""The story of one run: two sites that live through the faults of one seed after the other."""

import asyncio
import contextlib
import random
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from tests.crash.harness import free_port
from tests.fakes.tcp_proxy import tcp_proxy
from tests.soak.faults import FAULTS
from tests.soak.run import DESTINATION, SOURCE, Disagreement, Run, busy
from tests.soak.sites import SoakSite, acquaint

#: Of each seed.
MOST_FAULTS = 3
#: What the destination's disk holds: something at first, and more for each seed.
DISK_BYTES, BYTES_PER_SEED = 16 * 1024**2, 6 * 1024**2
RULE = f'\n[[rules]]\nname = "everything"\npeer = "{DESTINATION}"\nengines = ["http"]\nbatch_files = 3\n'

Say = Callable[[str], None]


def some_seeds(count: int, *, first: int | None = None) -> range:
    """*count* seeds that nobody has chosen, unless *first* is given."""
    start = random.SystemRandom().randrange(1_000_000) if first is None else first
    return range(start, start + count)


async def soak(seeds: range, folder: Path, say: Say) -> None:
    """Live through *seeds*, in the empty *folder*; *say* is told what happens.

    Raises
    ------
    Disagreement
        Something that must hold does not, or some kind of fault never happened.
    """
    say(f"seeds {seeds[0]} to {seeds[-1]}; the same: scripts/soak --first {seeds[0]} --seeds {len(seeds)}")
    async with _opened(folder, disk_bytes=DISK_BYTES + len(seeds) * BYTES_PER_SEED) as run:
        for seed in seeds:
            await _live_through(run, seed, say)
    say("fired: " + ", ".join(f"{name} {run.fired[name]}" for name in FAULTS))
    never = [name for name in FAULTS if not run.fired[name]]
    if never:
        raise Disagreement(f"never fired: {', '.join(never)}")


@contextlib.asynccontextmanager
async def _opened(folder: Path, *, disk_bytes: int) -> AsyncIterator[Run]:
    """Two sites that know each other, with a link between them that can be broken."""
    source, destination = (SoakSite(name, folder / name, free_port(), folder) for name in (SOURCE, DESTINATION))
    source.rules = RULE
    source.disk_folder.mkdir(parents=True)
    with _small_disk(destination.disk_folder, disk_bytes):
        async with tcp_proxy(destination.url) as link:
            try:
                await acquaint(source, destination, url=link.url)
                yield Run(source, destination, link, folder)
            finally:
                source.kill()
                destination.kill()


@contextlib.contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[None]:
    """A disk for the destination that can be filled."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "librarian-soak", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


async def _live_through(run: Run, seed: int, say: Say) -> None:
    """Some uploads, some faults, and peace at the end."""
    dice = random.Random(seed)
    # Whatever was drawn least so far is likelier: every fault is seen, however few seeds there are.
    names = sorted(FAULTS, key=lambda name: run.drawn[name] + dice.random())[:MOST_FAULTS]
    run.drawn.update(names)
    for site in run.sites:
        site.back_up()
    say(f"seed {seed}: {', '.join(names)}")
    started = time.monotonic()
    async with busy(run, seed):
        for name in names:
            run.fired[name] += await FAULTS[name](run, dice)
    struck = time.monotonic()
    await run.bring_again()
    await run.agree()
    await asyncio.to_thread(run.check)
    say(f"  agreed: {len(run.brought)} files, {struck - started:.1f} s and {time.monotonic() - struck:.1f} s of peace")
