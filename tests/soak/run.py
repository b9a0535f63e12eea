"""One run: two sites, a link that breaks, and what was brought so far."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from librarian.checksum import Algorithm, measure_blocking
from librarian.errors import LibrarianError
from tests.fakes.tcp_proxy import TcpProxy
from tests.soak.sites import SoakSite

SOURCE, DESTINATION = "chajnantor", "nersc"
#: Files of one seed, at least and at most; pauses between them (seconds), and sizes among which it chooses (bytes).
FILES, MOST_FILES = 6, 12
PAUSE = 0.5
SIZES = (0, 1, 4_000, 70_000, 900_000)
#: Sites that have not agreed by then never will; seconds, of which the last ones are spent weeks later.
PATIENCE = 120.0
LATER = 8.0


class Disagreement(AssertionError):
    """The sites do not agree, or something that must hold does not."""


@dataclass
class Run:
    """What all seeds of a run share."""

    source: SoakSite
    destination: SoakSite
    link: TcpProxy
    folder: Path
    #: The checksum of each file that was brought to the source.
    brought: dict[str, str] = field(default_factory=dict)
    #: Files under whose name the destination holds something else.
    taken: set[str] = field(default_factory=set)
    #: How often each fault was to happen, and how often it did.
    drawn: Counter = field(default_factory=Counter)
    fired: Counter = field(default_factory=Counter)
    ledgers: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        for site in self.sites:
            self.ledgers[site.name] = site.ledger()

    @property
    def sites(self) -> tuple[SoakSite, SoakSite]:
        return self.source, self.destination

    def payload(self, dice: random.Random, name: str) -> Path:
        """A file, or now and then a book, of any size."""
        path = self.folder / "payloads" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if dice.random() < 0.2:
            (path / "inner").mkdir(parents=True)
            (path / "header").write_bytes(dice.randbytes(dice.choice(SIZES)))
            (path / "inner" / "visdata").write_bytes(dice.randbytes(dice.choice(SIZES)))
        else:
            path.write_bytes(dice.randbytes(dice.choice(SIZES)))
        return path

    async def bring(self, path: Path, name: str, *, to: SoakSite | None = None) -> None:
        """Upload, until it is held; where the server is lost meanwhile, the client tries again by itself."""
        async with (to or self.source).client() as client:
            await client.upload(path, name)
        if to is None or to is self.source:
            measured = await asyncio.to_thread(measure_blocking, path, Algorithm.XXH3)
            self.brought[name] = str(measured.checksum)

    async def bring_again(self) -> None:
        """What the source has forgotten with its catalog, its users bring again."""
        held = self.ledgers[self.source.name].present
        for name in [name for name in self.brought if name not in held]:
            await self.bring(self.folder / "payloads" / name, name)

    async def agree(self) -> None:
        """Wait until both sites are quiet and agree; every file is at both, or other content is in its way."""
        started = time.monotonic()
        was_late = False
        while why := self._why_not():
            waited = time.monotonic() - started
            if waited > PATIENCE:
                raise Disagreement(why)
            if waited > LATER and not was_late:
                # Pauses between retries grow; nobody wants to wait for them.
                was_late = True
                for site in self.sites:
                    site.move_clock()
            await asyncio.sleep(0.2)

    def _why_not(self) -> str:
        try:
            for ledger in self.ledgers.values():
                ledger.check_quiet(set())
                assert not ledger.staged(), f"{ledger.name}: strangers are left in staging"
            self._check_copies()
        except AssertionError as error:
            return str(error)
        return ""

    def _check_copies(self) -> None:
        ours, theirs = (self.ledgers[site.name] for site in self.sites)
        here, there = ours.present, theirs.present
        known = {row["name"] for row in ours.remote}
        for name, checksum in self.brought.items():
            assert name in here, f"the source has lost {name}"
            assert here[name]["checksum"] == checksum, f"the source has another {name}"
            if name in self.taken:
                assert there[name]["checksum"] != checksum
                continue
            assert name in there, f"{name} has not come to the destination"
            assert there[name]["checksum"] == checksum, f"the destination has another {name}"
            assert name in known, f"the source does not know that {name} is at the destination"
        invented = there.keys() - self.brought.keys()
        assert not invented, f"the destination has invented {invented}"

    def check(self) -> None:
        """What must hold at every moment, by catalogs and disks."""
        for ledger in self.ledgers.values():
            ledger.check_step()
            ledger.check_bytes()
        there = {(row["name"], row["checksum"]) for row in self.ledgers[self.destination.name].present.values()}
        for row in self.ledgers[self.source.name].remote:
            if (row["name"], row["checksum"]) not in there:
                raise Disagreement(f"the source believes in a copy of {row['name']} that is not there")


@contextlib.asynccontextmanager
async def busy(run: Run, seed: int) -> AsyncIterator[None]:
    """Uploads go on while something happens."""
    # Its own: what happens meanwhile takes its turns in no order.
    dice = random.Random(f"files of {seed}")
    is_over = asyncio.Event()

    async def bring_all() -> None:
        for number in range(MOST_FILES):
            if number >= FILES and is_over.is_set():
                break
            name = f"seed-{seed}/{number}"
            await run.bring(run.payload(dice, name), name)
            await asyncio.sleep(dice.uniform(0, PAUSE))

    bringing = asyncio.create_task(bring_all())
    try:
        yield
        is_over.set()
        await bringing
    finally:
        bringing.cancel()
        with contextlib.suppress(asyncio.CancelledError, LibrarianError):
            await bringing
