"""Random faults on two real sites, by seed: ``scripts/soak --seeds 20``. See CONTRIBUTING.md."""

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.harness import free_port
from tests.fakes.tcp_proxy import tcp_proxy
from tests.soak.faults import FAULTS
from tests.soak.run import DESTINATION, SOURCE, Run, busy
from tests.soak.sites import SoakSite, acquaint

#: Of each seed.
MOST_FAULTS = 3
DISK_BYTES = 48 * 1024**2
RULE = f'\n[[rules]]\nname = "everything"\npeer = "{DESTINATION}"\nengines = ["http"]\nbatch_files = 3\n'


@contextlib.contextmanager
def small_disk(folder: Path):
    """A disk for the destination that can be filled."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "librarian-soak", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.asynccontextmanager
async def opened(folder: Path):
    """Two sites that know each other, with a link between them that can be broken."""
    source, destination = (SoakSite(name, folder / name, free_port(), folder) for name in (SOURCE, DESTINATION))
    source.rules = RULE
    source.disk_folder.mkdir(parents=True)
    with small_disk(destination.disk_folder):
        async with tcp_proxy(destination.url) as link:
            try:
                await acquaint(source, destination, url=link.url)
                yield Run(source, destination, link, folder)
            finally:
                source.kill()
                destination.kill()


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


async def live_through(run: Run, seed: int) -> None:
    """Some uploads, some faults, and peace at the end."""
    dice = random.Random(seed)
    # Whatever fired least so far is likelier: every fault is seen, however few seeds there are.
    names = sorted(FAULTS, key=lambda name: run.fired[name] + dice.random())[:MOST_FAULTS]
    for site in run.sites:
        site.back_up()
    say(f"seed {seed}: {', '.join(names)}")
    started = time.monotonic()
    for name in names:
        async with busy(run, dice, seed) if name == names[0] else contextlib.nullcontext():
            await FAULTS[name](run, dice)
        run.fired[name] += 1
    await run.bring_again()
    await run.agree()
    run.check()
    say(f"  agreed: {len(run.brought)} files, {time.monotonic() - started:.1f} s")


async def soak(seeds: range) -> int:
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    async with opened(folder) as run:
        for seed in seeds:
            try:
                await live_through(run, seed)
            except BaseException:
                say(f"seed {seed} failed; what the sites wrote is in {folder}")
                raise
        say("fired: " + ", ".join(f"{name} {run.fired[name]}" for name in FAULTS))
        never = [name for name in FAULTS if not run.fired[name]]
    shutil.rmtree(folder)
    if never:
        say(f"never fired: {', '.join(never)}")
        return 1
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many (20)")
    parser.add_argument("--first", type=int, default=None, help="the first seed (any, which is printed)")
    given = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("scripts/soak mounts a small disk to fill it: run it as root")
    first = random.SystemRandom().randrange(1_000_000) if given.first is None else given.first
    say(f"seeds {first} to {first + given.seeds - 1}; the same: scripts/soak --first {first} --seeds {given.seeds}")
    sys.exit(asyncio.run(soak(range(first, first + given.seeds))))


if __name__ == "__main__":
    main()
