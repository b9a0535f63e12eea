"""One site of a model: the real one, its tasks stepped by hand, dropped and opened again at any point."""

import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from librarian import intake, replication, steering
from librarian.catalog.incoming_rows import Commit
from librarian.catalog.records import EntryPoint, Incoming
from librarian.checksum_pool import ChecksumPool
from librarian.errors import LibrarianError
from librarian.names import FileName, RuleName, SiteName, StoreName
from librarian.policies import ClonePolicy, HousekeepingPolicy, RulePolicy
from librarian.site import open_site
from librarian.states import Reach
from librarian.tasks.backfill import Backfill
from librarian.tasks.deliver import Deliver
from librarian.tasks.housekeeping import Housekeeping
from librarian.tasks.ingest import Ingest
from librarian.tasks.lanes import LaneTask
from librarian.tasks.poll import Poll
from librarian.tasks.reconcile import Reconcile
from librarian.tasks.reread import Reread
from librarian.tasks.send import Send
from librarian.tasks.submit import Submit
from librarian.timing import utc_now
from tests.holding import write_payload
from tests.model.engine import InstantEngine
from tests.model.invariants import Ledger
from tests.model.post import Crashed, Post, Postman, working
from tests.site_fixtures import settings_of
from tests.uploading import ANA, asking, checksum_of

POLICY = ClonePolicy(reconcile_after=timedelta(minutes=2), quarantine_after=2)
TASKS = ("ingest", "reread", "backfill", "send", "submit", "poll", "deliver", "reconcile")
#: Whether a task that has no lanes has something to do.
_WAITING = {
    "ingest": "SELECT 1 FROM incoming_transfers WHERE state = 'staged' LIMIT 1",
    "reread": "SELECT 1 FROM instances WHERE presence = 'suspect' LIMIT 1",
    "poll": "SELECT 1 FROM batches WHERE state IN ('active', 'held', 'queued') LIMIT 1",
    "backfill": "SELECT 1 FROM rules WHERE backfill_after IS NOT NULL LIMIT 1",
}
_LIVE = (
    "SELECT uuid FROM outgoing_transfers WHERE state IN ('initiated', 'ongoing', 'staged')"
    " UNION ALL SELECT uuid FROM incoming_transfers WHERE state IN ('initiated', 'ongoing', 'staged')"
)
#: More work than this in one go is work without end.
MOST_ROUNDS = 150


class Compiled(dict):
    """Statements as they were compiled for whichever site came first: all have SQLite."""

    def get(self, key):
        return super().get(key[1:])

    def __setitem__(self, key, compiled):
        super().__setitem__(key[1:], compiled)


COMPILED = Compiled()


def all_tasks(site) -> dict:
    tasks = [
        Ingest(site),
        Reread(site),
        *(kind(site, POLICY) for kind in (Backfill, Send, Submit, Poll, Deliver, Reconcile)),
    ]
    tasks.append(Housekeeping(site, HousekeepingPolicy()))
    return {task.name: task for task in tasks}


@dataclass
class Doing:
    """A claim that a task has planned, and what came of acting on it."""

    plan: object
    has_acted: bool = False
    result: object = None
    error: Exception | None = None


@dataclass
class Place:
    """One site in *folder*: ``site`` is None while it is down."""

    name: str
    folder: Path
    post: Post
    #: That hashes for it; None: its own.
    pool: ChecksumPool | None = None
    site: object = None
    engine: InstantEngine | None = None
    tasks: dict = field(default_factory=dict)
    doings: dict = field(default_factory=dict)
    backups: list[Path] = field(default_factory=list)
    _stack: AsyncExitStack | None = None

    @property
    def database(self) -> Path:
        return self.folder / "catalog.sqlite"

    @property
    def staging(self) -> Path:
        return self.folder / "fast-staging"

    def ledger(self) -> Ledger:
        return Ledger(self.name, self.database, self.folder / "fast", self.staging)

    @property
    def entry_point(self) -> EntryPoint:
        return EntryPoint(store=StoreName("fast"), engine="local", address="", staging=str(self.staging))

    async def open(self) -> None:
        """Start, and recover what an earlier process left."""
        self._stack = AsyncExitStack()
        settings = settings_of(f"sqlite+aiosqlite:///{self.database}", self.folder, self.name, ("fast",))
        settings = settings.model_copy(update={"clones": POLICY})
        site = await self._stack.enter_async_context(open_site(settings))
        site.catalog._engine.sync_engine._compiled_cache = COMPILED
        site.pool = self.pool or site.pool
        site.neighbours = Postman(self.post, site.neighbours, self.name)
        self.engine = InstantEngine()
        site.engines = {"local": self.engine}
        self.tasks = all_tasks(site)
        for task in self.tasks.values():
            async with site.catalog.begin() as tx:
                await task.recover(tx)
        self.site = site

    async def drop(self) -> None:
        """The process is gone, with all that it only remembered. A repeat does nothing."""
        self.site, self.tasks, self.doings, self.engine = None, {}, {}, None
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    async def restart(self) -> None:
        await self.drop()
        await self.open()

    async def back_up(self) -> None:
        """Copy the catalog as it is now."""
        copy = self.folder / f"backup-{len(self.backups)}.sqlite"
        with closing(sqlite3.connect(self.database)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        self.backups.append(copy)

    async def restore(self, backup: Path) -> None:
        """Put *backup* in the place of the catalog; the stores stay as they are."""
        await self.drop()
        for rest in self.folder.glob("catalog.sqlite*"):
            if not rest.name.endswith("-lock"):
                rest.unlink()
        shutil.copyfile(backup, self.database)
        await self.open()

    async def knows(self, other: "Place") -> None:
        """*other* becomes a peer, its store reached over the shared disk."""
        async with self.site.catalog.begin() as tx:
            await tx.peers.add(
                SiteName(other.name),
                url=f"http://{other.name}",
                username=self.name,
                secret=self.site.neighbours.secrets.encrypt("secret"),
                reach=Reach.PUSH,
                accepts=[""],
                entry_points=[other.entry_point],
            )

    async def replicates_to(self, other: "Place", *, name: str = "") -> None:
        policy = RulePolicy(peer=other.name, engines=("local",), batch_files=2)
        async with self.site.catalog.begin() as tx:
            await replication.put_rule(tx, RuleName(name or f"to-{other.name}"), policy=policy, who="admin")

    async def enable(self, peer: str, *, is_enabled: bool) -> None:
        async with self.site.catalog.begin() as tx:
            await tx.peers.enable((await tx.peers.get(peer)).id, is_enabled=is_enabled)

    async def try_again(self) -> None:
        """An operator lets everything be tried once more that was put into quarantine."""
        await steering.retry(self.site, ANA, names=(), peer_name=None, dry_run=False)

    async def cancel(self, which: int) -> None:
        """An operator ends one of the transfers, whichever way it goes."""
        uuids = [row["uuid"] for row in self.ledger().ask(_LIVE)]
        if uuids:
            await steering.cancel(self.site, ANA, [uuids[which % len(uuids)]], dry_run=False)

    async def damage(self, name: str, *, spoils: bool) -> None:
        """The bytes of a copy become others, or are gone. Nobody knows of it yet."""
        path = self.path_of(name)
        path.chmod(0o755)
        first = next(iter(sorted(path.iterdir())), path) if path.is_dir() else path
        if spoils:
            first.chmod(0o644)
            first.write_bytes(first.read_bytes() + b"!")
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    async def doubt(self, names: Iterable[str]) -> None:
        """Somebody has seen that the copies of *names* are not what they were."""
        async with self.site.catalog.begin() as tx:
            files = await tx.files.named([FileName(name) for name in names])
            await tx.suspects.mark([file.id for file in files.values()])

    async def upload(self, name: str, content) -> bool:
        """Bring *content* and commit it; whether it was taken."""
        (opened,) = await intake.open_uploads(self.site, ANA, [asking(name, content)])
        if not isinstance(opened, Incoming) or opened.state.value != "initiated":
            return False
        place = self.site.stores.lookup(opened.store).staging_path(opened.token)
        if not place.exists():
            write_payload(place, content)
        (answer,) = await intake.commit_uploads(
            self.site, ANA, [Commit(uuid=opened.uuid, checksum=checksum_of(content))]
        )
        return isinstance(answer, Incoming)

    async def peers(self) -> list[str]:
        async with self.site.catalog.read() as tx:
            return [peer.name for peer in await tx.peers.all()]

    async def begin(self, task: str, lane: str) -> bool:
        """Let *task* claim work for *lane*, unless it has some in hand; whether it has some now."""
        if (task, lane) not in self.doings:
            plan = await self._plan(self.tasks[task], lane)
            if plan is None:
                return False
            self.doings[task, lane] = Doing(plan)
        return True

    async def _plan(self, task, lane: str):
        async with self.site.catalog.begin() as tx:
            if isinstance(task, Reread):
                # Each round of the model is a pass.
                task._after = (0, 0)
            if not isinstance(task, LaneTask):
                return await task.plan(tx)
            peer = await tx.peers.get(lane)
            wanted = await task.peers_with_work(tx, now=utc_now())
            return await task.plan_for(tx, peer) if task.admits(peer) and peer.id in wanted else None

    async def act(self, task: str, lane: str) -> None:
        """Act on the claim in hand; nothing is written down yet."""
        doing = self.doings.get((task, lane))
        if doing is None or doing.has_acted or task == "ingest":
            return
        doing.has_acted = True
        worker = self.tasks[task]
        try:
            async with self.may_crash():
                doing.result = await worker.act(doing.plan)
        except LibrarianError as error:
            doing.error = error

    async def finish(self, task: str, lane: str) -> None:
        """Act where that was not done, and record."""
        if task == "ingest":
            doing = self.doings.pop((task, lane), None)
            if doing is not None:
                async with self.may_crash():
                    await self.tasks[task].carry_out(doing.plan)
            return
        await self.act(task, lane)
        doing = self.doings.pop((task, lane), None)
        if doing is None:
            return
        worker = self.tasks[task]
        async with self.may_crash(), self.site.catalog.begin() as tx:
            if doing.error is not None:
                await worker.give_up(tx, doing.plan, doing.error)
            else:
                await worker.record(tx, doing.plan, doing.result)

    async def work(self, task: str, lane: str) -> bool:
        """One whole round; whether there was anything to do, and no trouble doing it."""
        if self.site is None or not await self.begin(task, lane):
            return False
        await self.act(task, lane)
        doing = self.doings.get((task, lane))
        had_trouble = doing is None or doing.error is not None
        await self.finish(task, lane)
        return not had_trouble

    async def work_on(self) -> None:
        """Every task, until it finds nothing more or meets trouble."""
        idle: set[tuple[str, str]] = set()
        rounds = 0
        while busy := [job for job in await self.jobs() if job not in idle]:
            for task, lane in busy:
                rounds += 1
                assert rounds < MOST_ROUNDS, f"{task} at {self.name} never comes to an end"
                if not await self.work(task, lane) or task == "poll":
                    idle.add((task, lane))

    async def jobs(self) -> list[tuple[str, str]]:
        """The tasks and lanes that have work in hand, or may find some."""
        if self.site is None:
            return []
        found: list[tuple[str, str]] = []
        ledger = self.ledger()
        async with self.site.catalog.read() as tx:
            names = {peer.id: peer.name for peer in await tx.peers.all()}
            for task in TASKS:
                worker = self.tasks[task]
                if isinstance(worker, LaneTask):
                    found += [(task, names[peer]) for peer in await worker.peers_with_work(tx, now=utc_now())]
                elif ledger.ask(_WAITING[task]):
                    found.append((task, ""))
        return list(dict.fromkeys([*self.doings, *found]))

    async def clean_up(self) -> None:
        """A pass of housekeeping, with a survey."""
        keeper = self.tasks["housekeeping"]
        keeper._looked_up_to = keeper._cleared_up_to = 0
        keeper._surveyed_at = None
        while await self.work("housekeeping", ""):
            pass

    def may_crash(self) -> "_MayCrash":
        return _MayCrash(self)

    def path_of(self, name: str) -> Path:
        return self.site.stores.lookup(StoreName("fast")).path_of(FileName(name))


class _MayCrash:
    """Within it the site is at work; where it crashes, it is dropped, and what it was about to do is forgotten."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._working = working(place.name)

    async def __aenter__(self) -> None:
        await self._working.__aenter__()

    async def __aexit__(self, kind, error, at) -> bool:
        await self._working.__aexit__(None, None, None)
        if error is not None and _has_crashed(error):
            await self._place.drop()
            return True
        return False


def _has_crashed(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_has_crashed, error.exceptions))
    return isinstance(error, Crashed)
