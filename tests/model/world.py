"""Two or three sites of a model with the post between them, and a clock that is moved by hand."""

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import time_machine

from librarian import guard
from librarian.checksum_pool import ChecksumPool
from tests.model.invariants import Ledger
from tests.model.place import Place
from tests.model.post import Post
from tests.uploading import checksum_of

#: How far the clock moves between two rounds, once faults have stopped.
ROUND = timedelta(minutes=10)
#: In so many of them an operator lets everything be tried again.
ROUNDS_OF_OPERATOR = 3
#: The same for what nothing is in the way of: long before anybody would ask.
TURN, MOST_TURNS = timedelta(seconds=5), 6
#: Sites that do not agree after so many rounds never will: retries are at most an hour apart.
MOST_ROUNDS = 20
#: In memory where there is such a disk: thousands of commits are worth it.
DISK = Path("/dev/shm") if Path("/dev/shm").is_dir() else None

_observed: list[Post] = []
guard.observe_steps(lambda step: [post.on_step(step) for post in _observed])


@dataclass(frozen=True)
class Plan:
    """Who the sites of a world are, and who replicates to whom."""

    names: tuple[str, ...]
    rules: tuple[tuple[str, str], ...]


@dataclass
class World:
    """Sites that know each other, opened from a template that was made once per plan."""

    plan: Plan
    template: Path
    pool: ChecksumPool | None = None
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="model-", dir=DISK)))
    post: Post = field(default_factory=Post)
    places: dict[str, Place] = field(default_factory=dict)
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    #: Whatever was brought, as (name, checksum).
    brought: set = field(default_factory=set)
    #: What was present at a site, as (name, checksum), since its catalog was restored last.
    held: dict[str, set] = field(default_factory=dict)
    #: Bytes in stores by path, and their inodes.
    published: dict = field(default_factory=dict)
    #: Restored since the sites agreed last.
    doubtful: set = field(default_factory=set)
    #: (site, name) of copies that were damaged, until a good one is there.
    damaged: set = field(default_factory=set)
    #: The same, until the sites agree: others may not have heard.
    shaken: set = field(default_factory=set)

    def __post_init__(self) -> None:
        # Disks have a clock of their own, which nobody moves: ours starts with it.
        self.clock = time_machine.travel(datetime.now(UTC), tick=False)
        self.time = self.clock.start()
        _observed.append(self.post)
        for name in self.plan.names:
            self.places[name] = Place(name, self.folder / name, self.post, self.pool)
            self.ledgers[name] = self.places[name].ledger()
            self.held[name] = set()
        self.post.sites = self.places

    async def open(self) -> None:
        shutil.copytree(self.template, self.folder, dirs_exist_ok=True)
        for place in self.places.values():
            # Pinned where the template was.
            await place.open()
            await self._pin(place)
            await place.back_up()

    async def _pin(self, place: Place) -> None:
        async with place.site.catalog.begin() as tx:
            for peer in await tx.peers.all():
                await tx.peers.pin(peer.id, [self.places[peer.name].entry_point])

    async def close(self) -> None:
        for place in self.places.values():
            await place.drop()
        _observed.remove(self.post)
        self.clock.stop()
        shutil.rmtree(self.folder)

    async def upload(self, name: str, file: str, content) -> None:
        self.brought.add((file, str(checksum_of(content))))
        await self.places[name].upload(file, content)

    async def restore(self, name: str, which: int) -> None:
        """A backup of the site's catalog comes back. The oldest is from before anything was brought."""
        place = self.places[name]
        await place.restore(place.backups[which % len(place.backups)])
        self.ledgers[name].forget()
        self.held[name].clear()
        self.doubtful.add(name)
        # What was seen before is seen again.
        await place.doubt(file for site, file in self.damaged if site == name)

    async def damage(self, which: int, *, spoils: bool) -> Place | None:
        """One of all copies at sites that are up is not what it was, and somebody has seen that: the site, if any."""
        up = [name for name, place in self.places.items() if place.site is not None]
        copies = sorted({(name, file) for name in up for file in self.ledgers[name].present} - self.damaged)
        if not copies:
            return None
        name, file = copies[which % len(copies)]
        self.damaged.add((name, file))
        self.shaken.add((name, file))
        await self.places[name].damage(file, spoils=spoils)
        await self.places[name].doubt([file])
        return self.places[name]

    def move_clock(self, span: timedelta) -> None:
        self.time.shift(span)

    def check_step(self) -> None:
        """What must hold at every moment."""
        for name, ledger in self.ledgers.items():
            ledger.check_step()
            ledger.check_bytes()
            there = ledger.standing
            assert there <= self.brought, f"{name} has invented {there - self.brought}"
            lost = {(file, checksum) for file, checksum in self.held[name] - there if (name, file) not in self.damaged}
            assert not lost, f"{name} has lost {lost}"
            self.held[name] = there
            self._check_published(name)
            self.damaged -= {(name, file) for file in ledger.present}
        for name in self.places:
            self._check_claims_of(name)

    def _check_published(self, name: str) -> None:
        root = self.places[name].folder / "fast"
        for path in root.rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                content = path.read_bytes()
                before = self.published.setdefault(path, content)
                assert before == content or self._is_damaged(name, path), f"{path} has changed"
                self.published[path] = content
        gone = [path for path in self.published if path.is_relative_to(root) and not path.is_file()]
        for path in gone:
            assert self._is_damaged(name, path), f"bytes are gone from {path}"
            del self.published[path]

    def _is_damaged(self, name: str, path: Path) -> bool:
        file = str(path.relative_to(self.places[name].folder / "fast"))
        return any(site == name and f"{file}/".startswith(f"{other}/") for site, other in self.damaged)

    def _check_claims_of(self, name: str) -> None:
        for row in self.ledgers[name].remote:
            holder = row["peer"]
            has = (row["name"], row["checksum"]) in self.held[holder]
            may_be_late = holder in self.doubtful or (holder, row["name"]) in self.shaken
            assert has or may_be_late, f"{name} believes that {holder} holds {row['name']}"

    def faults_stop(self) -> None:
        """From here on nothing goes wrong but what is under way."""
        self.post.fates.clear()
        self.post.trap = None
        for place in self.places.values():
            if place.engine is not None:
                place.engine.luck.clear()

    async def agree(self) -> None:
        """Faults stop: within a bounded number of rounds every site is quiet, and they agree."""
        await self._come_to_rest()
        self.doubtful.clear()
        self.shaken.clear()
        for name in self.places:
            self._check_claims_of(name)

    async def agree_at_once(self) -> None:
        """The same, long before anybody asks why something does not move: nothing was lost but by crashes."""
        await self._come_to_rest(MOST_TURNS, span=TURN)

    async def work_at_once(self) -> None:
        """Sites that have agreed take new files, as quickly as ever."""
        for name in dict.fromkeys(sender for sender, _ in self.plan.rules):
            await self.upload(name, f"new/{name}", b"news")
        await self.agree_at_once()

    async def _come_to_rest(self, most: int = MOST_ROUNDS, *, span: timedelta = ROUND) -> None:
        self.faults_stop()
        self.post.delayed.clear()
        for place in self.places.values():
            if place.site is None:
                await place.open()
            for peer in await place.peers():
                await place.enable(peer, is_enabled=True)
        why = ""
        for count in range(most):
            await self._work_on()
            for place in self.places.values():
                if span >= ROUND:
                    await place.clean_up()
                if span >= ROUND and count < ROUNDS_OF_OPERATOR:
                    await place.try_again()
            self.check_step()
            why = self._why_not()
            if not why:
                break
            self.move_clock(span)
        assert not why, why

    async def _work_on(self) -> None:
        for place in self.places.values():
            for task, lane in list(place.doings):
                await place.finish(task, lane)
            await place.work_on()

    def _why_not(self) -> str:
        """Why the sites do not agree yet; nothing when they do."""
        try:
            for ledger in self.ledgers.values():
                ledger.check_quiet(self._stuck_on_way_to(ledger.name))
            for sender, receiver in self.plan.rules:
                self._check_copies(sender, receiver)
        except AssertionError as error:
            return str(error)
        return ""

    def _stuck_on_way_to(self, receiver: str) -> set[tuple[str, str]]:
        """(sender, name) of what *receiver* was promised, and no good copy of is left."""
        return {
            (name, due["name"])
            for name, ledger in self.ledgers.items()
            for due in ledger.dues
            if due["peer"] == receiver and due["state"] == "blocked"
        }

    def _check_copies(self, sender: str, receiver: str) -> None:
        ours, theirs = self.ledgers[sender], self.ledgers[receiver]
        there, dues = theirs.present, {row["name"]: row for row in ours.dues if row["peer"] == receiver}
        known = {row["name"] for row in ours.remote if row["peer"] == receiver}
        for name in known:
            assert name in there, f"{sender} believes that {receiver} holds {name}"
        came = {row["name"] for row in ours.ask(_CAME.format(receiver))}
        for name, row in ours.present.items():
            if name in there and there[name]["checksum"] == row["checksum"]:
                assert name in known or name in came, f"{sender} does not know that {receiver} holds {name}"
                assert name not in dues, f"{sender} still owes {name} to {receiver}: {dues[name]}"
            elif name not in came or name in dues:
                assert name in dues, f"{sender} has forgotten that {receiver} lacks {name}"
                assert self._is_in_the_way(receiver, name), f"{name} never came to {receiver}: {dues[name]}"
                assert dues[name]["state"] == "quarantined", f"{name} is tried for ever: {dues[name]}"

    def _is_in_the_way(self, receiver: str, name: str) -> bool:
        """Whether something else stands where *name* would: as a file of the catalog, or on the disk."""
        root = self.places[receiver].folder / "fast"
        names = {
            *(row["name"] for row in self.ledgers[receiver].ask("SELECT name FROM files")),
            *(str(p.relative_to(root)) for p in self.published if root in p.parents),
        }
        return any(name == other or name.startswith(f"{other}/") or other.startswith(f"{name}/") for other in names)


_CAME = (
    "SELECT t.name FROM incoming_transfers t JOIN peers p ON p.id = t.peer_id"
    " WHERE t.state = 'completed' AND p.name = '{}'"
)


async def make_template(plan: Plan, catalog: Path, folder: Path) -> Path:
    """The sites of *plan*, acquainted, with their rules; closed again."""
    folder.mkdir()
    world = Post()
    places = {name: Place(name, folder / name, world) for name in plan.names}
    for place in places.values():
        place.folder.mkdir()
        shutil.copyfile(catalog, place.database)
        await place.open()
    for place in places.values():
        for other in places.values():
            if other is not place:
                await place.knows(other)
    for sender, receiver in plan.rules:
        await places[sender].replicates_to(places[receiver])
    for place in places.values():
        await place.drop()
    return folder
