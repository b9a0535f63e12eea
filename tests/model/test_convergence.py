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
PROFILES = {"ci": (6, 12), "deep": (int(os.environ.get("LIBRARIAN_MODEL_EXAMPLES", "300")), 25)}
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
_CRASHES = [Lot(part=Part.PLAN_AND_CRASH), Lot(part=Part.ACT_AND_CRASH), *(Lot(trap=("here", n)) for n in (0, 2))]
_BOTH = [*_CRASHES, *(Lot(trap=("there", n)) for n in (0, 1))]
#: What may go wrong with a round of each task; while all is calm, sites crash and nothing else.
CALM = {"send": _BOTH, "deliver": _BOTH, "reconcile": _BOTH}
_FATES = [Lot(fate=fate) for fate in (*Fate, Fate.DELAYED, Fate.ECHOED)]
_SPEAKING = [*_BOTH, *_FATES, Lot(part=Part.PLAN), Lot(part=Part.ACT)]
ROUGH = {
    "send": _SPEAKING,
    "deliver": _SPEAKING,
    "reconcile": _SPEAKING,
    "poll": [*_CRASHES, *(Lot(luck=luck) for luck in Luck), Lot(luck=Luck.SPOILS), Lot(part=Part.ACT)],
}

number = st.integers(0, 999)
#: Rounds of work: which of those that there are, and whether and in which way they go wrong.
works = st.lists(st.tuples(number, st.sampled_from((True, True, False)), number), min_size=2, max_size=8)


#: What happens between rounds of work, to which site or copy, and how; uploads are the most of it.
events = st.one_of(
    *(
        st.tuples(st.just(kind), number, st.tuples(*details))
        for kind, *details in (
            ("nothing",),
            ("upload", st.sampled_from(NAMES), st.sampled_from(CONTENTS)),
            ("upload", st.sampled_from(NAMES), st.sampled_from(CONTENTS)),
            ("damage", st.booleans(), st.sampled_from((0, 1, 2, 3, 3, 3))),
            ("damage", st.booleans(), st.sampled_from((0, 1, 2, 3, 3, 3))),
            ("late_letters",),
            ("restore", st.booleans()),
            ("switch", st.booleans()),
            ("cancel",),
            ("time_passes", st.sampled_from(SPANS)),
        )
    )
)
CALM_EVENTS = ("nothing", "upload", "time_passes")


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
            place, jobs = await self.who_works(pick)
            if not jobs:
                await self._upload(pick, NAMES[which % len(NAMES)], CONTENTS[which // 7 % len(CONTENTS)])
                continue
            task, lane = jobs[pick // 3 % len(jobs)]
            lots = (CALM if self.is_calm else ROUGH).get(task, _CRASHES)
            lot = GOOD if goes_well else lots[which % len(lots)]
            note(f"{place.name} {task} {lane}: {lot}")
            await self.round(place, task, lane, lot)
            self.world.faults_stop()

    async def who_works(self, pick):
        """A site that has something to do, and what; any, if none has."""
        for turn in range(len(self.world.places)):
            place = await self.one_of(pick + turn)
            if jobs := await place.jobs():
                break
        return place, jobs

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

    @rule(event=events, works=works)
    def go_on(self, event, works):
        kind, which, details = event
        if kind in CALM_EVENTS or not self.is_calm:
            self.run(getattr(self, f"_{kind}")(which, *details))
        self.run(self.work(works))

    async def _nothing(self, which):
        """Work goes on."""

    async def _upload(self, which, name, content):
        place = await self.one_of(which)
        if self.is_calm:
            name, content = f"{name}-{which}", f"{name}-{which}".encode()
        note(f"{place.name} takes {name}: {content}")
        await self.world.upload(place.name, name, content)
        await place.work("ingest", "")

    async def _damage(self, which, spoils, news):
        """A copy is damaged; how far the news of it go at once, and whether others come late just then."""
        place = await self.world.damage(which, spoils=spoils)
        if place is None:
            return
        note(f"{place.name} is damaged, {news}")
        if news > 0:
            await place.work("reread", "")
        if news > 1:
            for peer in await place.peers():
                await place.work("deliver", peer)
        if news > 2:
            await self._late_letters(len(self.world.post.delayed))

    async def _late_letters(self, which):
        for _ in range(min(which, len(self.world.post.delayed))):
            letter = self.world.post.delayed.pop()
            note(f"late: {letter}")
            # Nobody waits for the answer any more, or for a refusal.
            with contextlib.suppress(LibrarianError):
                await self.world.post.hand_over(letter)

    async def _restore(self, which, is_backed_up):
        place = await self.one_of(which)
        note(f"{place.name} is {'backed up' if is_backed_up else 'restored'}")
        if is_backed_up:
            await place.back_up()
        else:
            await self.world.restore(place.name, which // 3)

    async def _switch(self, which, is_enabled):
        place = await self.one_of(which)
        peers = await place.peers()
        await place.enable(peers[which // 3 % len(peers)], is_enabled=is_enabled)

    async def _cancel(self, which):
        place = await self.one_of(which)
        note(f"{place.name} cancels")
        await place.cancel(which // 3)

    async def _time_passes(self, which, span):
        # Too short, while all is calm, for anybody to ask why something does not move.
        self.world.move_clock(SPANS[0] if self.is_calm else span)

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
