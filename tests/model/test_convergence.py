"""Sites that lose, double, delay and reorder what they say, crash and come back from backups: in the end they agree."""

import asyncio
import contextlib
import os
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from librarian.checksum_pool import ChecksumPool
from librarian.errors import LibrarianError
from tests.model.engine import Luck
from tests.model.post import Fate
from tests.model.world import Plan, World, make_template

PLANS = {
    "pair": Plan(("a", "b"), (("a", "b"),)),
    "both ways": Plan(("a", "b"), (("a", "b"), ("b", "a"))),
    "chain": Plan(("a", "b", "c"), (("a", "b"), ("b", "c"))),
    "two sources": Plan(("a", "b", "c"), (("a", "c"), ("b", "c"))),
    "ring": Plan(("a", "b", "c"), (("a", "b"), ("b", "c"), ("c", "a"))),
}
#: (examples, steps): what every run can afford, and what is worth a night.
PROFILES = {"ci": (8, 12), "deep": (int(os.environ.get("LIBRARIAN_MODEL_EXAMPLES", "300")), 25)}
EXAMPLES, STEPS = PROFILES[os.environ.get("LIBRARIAN_MODEL", "ci")]
#: Making a failure small takes minutes: that is for whoever looks into it.
PHASES = (Phase.generate, Phase.shrink) if "LIBRARIAN_MODEL_SHRINK" in os.environ else (Phase.generate,)
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize="LIBRARIAN_MODEL" not in os.environ,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=PHASES,
)
NAMES = ("a", "a", "b", "a/x")
CONTENTS = (b"truth", b"truth", b"truth", {"x": b"one", "y": b"two"}, b"lie", b"")
SPANS = tuple(timedelta(seconds=seconds) for seconds in (1, 30, 130, 700, 4000))


class Part(Enum):
    """How much of a round is done; the rest follows another time, or never."""

    PLAN = "plan"
    ACT = "act"
    ALL = "all"
    PLAN_AND_CRASH = "plan, and crash"
    ACT_AND_CRASH = "act, and crash"


@dataclass(frozen=True)
class Lot:
    """What befalls one round of work."""

    part: Part = Part.ALL
    luck: Luck = Luck.DELIVERS
    fate: Fate = Fate.ARRIVES
    #: Whether who works crashes, or who is spoken to, and after how many of its named steps.
    trap: tuple[str, int] | None = None


GOOD = Lot()
_CRASHES = [
    *(Lot(part=part) for part in (Part.PLAN_AND_CRASH, Part.ACT_AND_CRASH)),
    *(Lot(trap=("here", steps)) for steps in range(4)),
]
_CRASHES_THERE = [Lot(trap=("there", steps)) for steps in range(3)]
_SPEAKING = [Lot(fate=fate) for fate in Fate]
#: What may go wrong with a round of each task; while all is calm, sites crash and nothing else.
CALM = {task: [*_CRASHES, *_CRASHES_THERE] for task in ("send", "deliver", "reconcile")}
ROUGH = {task: [*lots, *_SPEAKING, Lot(part=Part.PLAN), Lot(part=Part.ACT)] for task, lots in CALM.items()}
ROUGH["poll"] = [*_CRASHES, *(Lot(luck=luck) for luck in Luck), Lot(part=Part.ACT)]

number = st.integers(0, 999)
#: Rounds of work: which of those that there are, and whether and in which way they go wrong.
works = st.lists(st.tuples(number, st.sampled_from((True, True, False)), number), min_size=2, max_size=8)


class Sites(RuleBasedStateMachine):
    """Everything that may happen to the sites of a plan, one step at a time, with work going on between."""

    plan: Plan
    template: Path
    runner: asyncio.Runner
    pool: ChecksumPool

    @initialize(is_calm=st.sampled_from((False, False, True)))
    def open(self, is_calm) -> None:
        #: Nothing goes wrong but that sites crash, and no two files have one name.
        self.is_calm = is_calm
        self.world = World(self.plan, self.template, self.pool)
        self.failed = False
        self.run(self.world.open())

    def run(self, *coroutines):
        try:
            for coroutine in coroutines:
                self.runner.run(coroutine)
        except BaseException:
            self.failed = True
            raise

    async def one_of(self, which: int):
        """One of the sites, up and running."""
        places = list(self.world.places.values())
        place = places[which % len(places)]
        if place.site is None:
            await place.open()
        return place

    async def work(self, works):
        for pick, goes_well, which in works:
            place = await self.one_of(pick)
            jobs = await place.jobs()
            if jobs:
                task, lane = jobs[pick // 3 % len(jobs)]
                lots = (CALM if self.is_calm else ROUGH).get(task, _CRASHES)
                lot = GOOD if goes_well else lots[which % len(lots)]
                note(f"{place.name} {task} {lane}: {lot}")
                await self.round(place, task, lane, lot)
                self.world.faults_stop()

    async def round(self, place, task, lane, lot):
        place.engine.luck.append(lot.luck)
        self.world.post.fates.append(lot.fate)
        if lot.trap is not None:
            victim, steps = lot.trap
            self.world.post.trap = (place.name if victim == "here" else lane, steps)
        if await place.begin(task, lane):
            if lot.part in (Part.ACT, Part.ACT_AND_CRASH):
                await place.act(task, lane)
            if lot.part is Part.ALL:
                await place.finish(task, lane)
        if lot.part in (Part.PLAN_AND_CRASH, Part.ACT_AND_CRASH):
            await place.drop()

    @rule(which=number, name=st.sampled_from(NAMES), content=st.sampled_from(CONTENTS), works=works)
    def upload(self, which, name, content, works):
        self.run(self._upload(which, name, content), self.work(works))

    async def _upload(self, which, name, content):
        place = await self.one_of(which)
        if self.is_calm:
            name, content = f"{name}-{which}", f"{name}-{which}".encode()
        note(f"{place.name} takes {name}: {content}")
        await self.world.upload(place.name, name, content)
        await place.work("ingest", "")

    @rule(works=works)
    def go_on(self, works):
        self.run(self.work(works))

    def rough(self, trouble, works):
        """What is not for calm stories, and work."""
        if self.is_calm:
            trouble.close()
            self.run(self.work(works))
        else:
            self.run(trouble, self.work(works))

    @rule(which=number, spoils=st.booleans(), news=st.integers(0, 3), works=works)
    def damage(self, which, spoils, news, works):
        self.rough(self._damage(which, spoils=spoils, news=news), works)

    async def _damage(self, which, *, spoils, news):
        """A copy is damaged; how far the news of it go at once, and whether others come late just then."""
        place = await self.one_of(which)
        note(f"{place.name} is damaged, {news}")
        await self.world.damage(place.name, which // 3, spoils=spoils)
        if news > 0:
            await place.work("reread", "")
        if news > 1:
            for peer in await place.peers():
                await place.work("deliver", peer)
        if news > 2:
            await self._late_letters(len(self.world.post.delayed))

    @rule(most=st.integers(1, 3), works=works)
    def late_letters(self, most, works):
        self.rough(self._late_letters(most), works)

    async def _late_letters(self, most):
        for _ in range(min(most, len(self.world.post.delayed))):
            letter = self.world.post.delayed.pop()
            note(f"late: {letter}")
            # Nobody waits for the answer any more, or for a refusal.
            with contextlib.suppress(LibrarianError):
                await self.world.post.hand_over(letter)

    @rule(which=number, is_backed_up=st.booleans(), works=works)
    def restore(self, which, is_backed_up, works):
        self.rough(self._restore(which, is_backed_up=is_backed_up), works)

    async def _restore(self, which, *, is_backed_up):
        place = await self.one_of(which)
        note(f"{place.name} is {'backed up' if is_backed_up else 'restored'}")
        if is_backed_up:
            await place.back_up()
        else:
            await self.world.restore(place.name, which // 3)

    @rule(which=number, is_enabled=st.booleans(), works=works)
    def switch(self, which, is_enabled, works):
        self.rough(self._switch(which, is_enabled=is_enabled), works)

    async def _switch(self, which, *, is_enabled):
        place = await self.one_of(which)
        peers = await place.peers()
        await place.enable(peers[which // 3 % len(peers)], is_enabled=is_enabled)

    @rule(which=number, works=works)
    def cancel(self, which, works):
        self.rough(self._cancel(which), works)

    async def _cancel(self, which):
        place = await self.one_of(which)
        note(f"{place.name} cancels")
        await place.cancel(which // 3)

    @rule(span=st.sampled_from(SPANS), works=works)
    def time_passes(self, span, works):
        note(f"time passes: {span}")
        self.world.move_clock(span)
        self.run(self.work(works))

    @invariant()
    def all_is_well(self):
        try:
            self.world.check_step()
        except BaseException:
            self.failed = True
            raise

    def teardown(self):
        try:
            if not self.failed:
                self.run(self.world.agree_at_once() if self.is_calm else self.world.agree())
                self.run(self.world.work_at_once())
        finally:
            self.runner.run(self.world.close())


@pytest.mark.timeout(0 if "LIBRARIAN_MODEL" in os.environ else 600)
@pytest.mark.parametrize("plan", PLANS)
def test_sites_agree_once_faults_stop(plan, databases, tmp_path):
    catalog = tmp_path / "empty.sqlite"
    databases.new_sqlite(catalog)
    # Stories follow from the name: each plan has its own.
    machine = type(f"Sites of {plan}", (Sites,), {"plan": PLANS[plan]})

    with asyncio.Runner() as runner:
        machine.runner, machine.pool = runner, ChecksumPool(1)
        runner.run(machine.pool.__aenter__())
        machine.template = runner.run(make_template(PLANS[plan], catalog, tmp_path / "template"))
        try:
            run_state_machine_as_test(machine, settings=SETTINGS)
        finally:
            runner.run(machine.pool.__aexit__())
