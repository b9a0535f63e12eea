"""Random faults on two real sites, by seed: ``scripts/soak --seeds 20``. See CONTRIBUTING.md."""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.soak.story import soak, some_seeds


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many (20)")
    parser.add_argument("--first", type=int, default=None, help="the first seed (any, which is printed)")
    given = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("scripts/soak mounts a small disk to fill it: run it as root")
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        asyncio.run(soak(some_seeds(given.seeds, first=given.first), folder, say))
    except BaseException:
        say(f"failed; what the sites wrote is in {folder}")
        raise
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
