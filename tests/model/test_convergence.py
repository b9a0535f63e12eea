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
PROFILES = {"ci": (6, 25), "deep": (int(os.environ.get("LIBRARIAN_MODEL_EXAMPLES", "300")), 50)}
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
PARTS = ("plan", "act", "all", "all", "all", "all")

number = st.integers(0, 7)
troubles = st.one_of(
    st.tuples(st.just("bad_luck"), st.lists(st.sampled_from(Luck), min_size=1, max_size=3)),
    st.tuples(st.just("late_letter"), number),
    st.tuples(st.just("crash"), st.sampled_from([None, *STEPS_OF_WORK])),
    st.tuples(st.just("backup"), st.booleans()),
    st.tuples(st.just("switch"), st.tuples(number, st.booleans())),
)


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

    @rule(picks=st.lists(st.tuples(st.integers(0, 999), st.sampled_from(PARTS)), min_size=1, max_size=8))
    def work(self, picks):
        self.run(self._work(picks))

    async def _work(self, picks):
        jobs = [(place, *job) for place in self.world.places.values() for job in await place.jobs()]
        for pick, part in picks if jobs else ():
            place, task, lane = jobs[pick % len(jobs)]
            if place.site is not None and await place.begin(task, lane) and part != "plan":
                await (place.act if part == "act" else place.finish)(task, lane)

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

    @rule(which=number, trouble=troubles)
    def trouble(self, which, trouble):
        kind, detail = trouble
        self.run(getattr(self, f"_{kind}")(self.one_of(which), detail))

    async def _bad_luck(self, place, luck):
        if place.engine is not None:
            place.engine.luck.extend(luck)

    async def _late_letter(self, place, which):
        letters = self.world.post.delayed
        if letters:
            # Nobody waits for the answer any more, or for a refusal.
            with contextlib.suppress(LibrarianError):
                await self.world.post.hand_over(letters.pop(which % len(letters)))

    async def _crash(self, place, step):
        if step is None:
            await place.restart()
        else:
            self.world.post.trap = (place.name, step)

    async def _backup(self, place, is_put_back):
        if is_put_back:
            await self.world.restore(place.name)
        else:
            await place.back_up()

    async def _switch(self, place, switched):
        peer, is_enabled = switched
        if place.site is not None:
            peers = await place.peers()
            await place.enable(peers[peer % len(peers)], is_enabled=is_enabled)

    @precondition(lambda self: any(place.site is None for place in self.world.places.values()))
    @rule()
    def come_back(self):
        self.run(self._come_back())

    async def _come_back(self):
        for place in self.world.places.values():
            if place.site is None:
                await place.open()

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


@pytest.mark.timeout(0 if "LIBRARIAN_MODEL" in os.environ else 600)
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
