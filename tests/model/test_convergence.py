"""Sites that lose, double, delay and reorder what they say, crash and come back from backups: in the end they agree."""

import asyncio
import contextlib
import os
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from librarian.errors import LibrarianError
from tests.model.engine import Luck
from tests.model.place import TASKS
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
PROFILES = {"ci": (8, 25), "deep": (int(os.environ.get("LIBRARIAN_MODEL_EXAMPLES", "300")), 50)}
EXAMPLES, STEPS = PROFILES[os.environ.get("LIBRARIAN_MODEL", "ci")]
#: Making a failure small takes minutes: that is for whoever looks into it.
PHASES = (Phase.generate, Phase.shrink) if "LIBRARIAN_MODEL_SHRINK" in os.environ else (Phase.generate,)
#: Where a site at work may be lost; see docs/explanation/failure-model.md.
STEPS_OF_WORK = (
    "row written",
    "directory made",
    "first barrier",
    "k of n renames",
    "second barrier",
    "recorded but not answered",
    "offer sent",
    "verdict unrecorded",
    "key stored",
    "submitted without handle",
    "delivered without notice",
    "notice applied but unacknowledged",
)
NAMES = ("a", "b", "c", "a/x")
CONTENTS = (b"truth", b"lie", b"", {"x": b"one", "y": b"two"})
SPANS = tuple(timedelta(seconds=seconds) for seconds in (1, 30, 130, 700, 4000))

#: How much of a round is done; the rest follows another time, or never.
PARTS = ("plan", "act", "all", "all", "all")

number = st.integers(0, 7)


class Sites(RuleBasedStateMachine):
    """Everything that may happen to the sites of a plan, one step at a time."""

    plan: Plan
    template = None

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.world = World(self.plan, self.template)
        self.failed = False
        self.run(self.world.open())

    def run(self, coroutine):
        try:
            return self.runner.run(coroutine)
        except BaseException:
            self.failed = True
            raise

    def one_of(self, which: int):
        places = list(self.world.places.values())
        return places[which % len(places)]

    @rule(
        uploads=st.lists(st.tuples(number, st.sampled_from(NAMES), st.sampled_from(CONTENTS)), min_size=1, max_size=3)
    )
    def upload(self, uploads):
        self.run(self._upload(uploads))

    async def _upload(self, uploads):
        for which, name, content in uploads:
            place = self.one_of(which)
            async with place.may_crash():
                await self.world.upload(place.name, name, content)
            await place.work("ingest", "")

    @rule(
        jobs=st.lists(
            st.tuples(number, st.sampled_from([*TASKS, "housekeeping"]), number, st.sampled_from(PARTS)),
            min_size=1,
            max_size=8,
        )
    )
    def work(self, jobs):
        self.run(self._work(jobs))

    async def _work(self, jobs):
        for which, task, lane, part in jobs:
            place = self.one_of(which)
            if place.site is None:
                continue
            lanes = await place.lanes(task)
            lane = lanes[lane % len(lanes)]
            if await place.begin(task, lane) and part != "plan":
                await (place.act if part == "act" else place.finish)(task, lane)

    @rule(which=number)
    def work_on(self, which):
        self.run(self._work_on([self.one_of(which)]))

    @rule()
    def all_work_on(self):
        self.run(self._work_on(self.world.places.values()))

    async def _work_on(self, places):
        for place in places:
            for task, lane in list(place.doings):
                if place.site is not None:
                    await place.finish(task, lane)
            await place.work_on()

    @rule(fates=st.lists(st.sampled_from(Fate), min_size=1, max_size=4))
    def bad_post(self, fates):
        self.world.post.fates.extend(fates)

    @rule(which=number, luck=st.lists(st.sampled_from(Luck), min_size=1, max_size=3))
    def bad_luck(self, which, luck):
        engine = self.one_of(which).engine
        if engine is not None:
            engine.luck.extend(luck)

    @precondition(lambda self: self.world.post.delayed)
    @rule(which=number)
    def a_late_letter_comes(self, which):
        letters = self.world.post.delayed
        self.run(self._deliver(letters.pop(which % len(letters))))

    async def _deliver(self, letter):
        # Nobody waits for the answer any more, or for a refusal.
        with contextlib.suppress(LibrarianError):
            await self.world.post.hand_over(letter)

    @rule(which=number)
    def crash(self, which):
        self.run(self.one_of(which).restart())

    @rule(which=number, step=st.sampled_from(STEPS_OF_WORK))
    def crash_at(self, which, step):
        self.world.post.trap = (self.one_of(which).name, step)

    @precondition(lambda self: any(place.site is None for place in self.world.places.values()))
    @rule()
    def come_back(self):
        self.run(self._come_back())

    async def _come_back(self):
        for place in self.world.places.values():
            if place.site is None:
                await place.open()

    @rule(which=number)
    def back_up(self, which):
        self.run(self.one_of(which).back_up())

    @precondition(lambda self: any(place.backups for place in self.world.places.values()))
    @rule(which=number)
    def restore(self, which):
        self.run(self.world.restore(self.one_of(which).name))

    @rule(which=number, is_enabled=st.booleans(), peer=number)
    def switch_a_peer(self, which, peer, is_enabled):
        self.run(self._switch(self.one_of(which), peer, is_enabled))

    async def _switch(self, place, peer, is_enabled):
        if place.site is not None:
            peers = await place.peers()
            await place.enable(peers[peer % len(peers)], is_enabled=is_enabled)

    @rule(span=st.sampled_from(SPANS))
    def time_passes(self, span):
        self.world.move_clock(span)

    @rule()
    def faults_stop(self):
        self.run(self.world.agree())

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
                self.run(self.world.agree())
        finally:
            self.runner.run(self.world.close())
            self.runner.close()


@pytest.mark.timeout(0 if "LIBRARIAN_MODEL" in os.environ else 180)
@pytest.mark.parametrize("plan", PLANS)
def test_sites_agree_once_faults_stop(plan, databases, tmp_path):
    catalog = tmp_path / "empty.sqlite"
    databases.new_sqlite(catalog)
    template = asyncio.run(make_template(PLANS[plan], catalog, tmp_path / "template"))
    machine = type("Machine", (Sites,), {"plan": PLANS[plan], "template": template})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="LIBRARIAN_MODEL" not in os.environ,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=PHASES,
        ),
    )
