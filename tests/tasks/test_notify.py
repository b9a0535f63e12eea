"""Notify: few messages of much, when Slack takes them and when it does not; nobody waits for it."""

from datetime import timedelta

import pytest

from librarian.catalog.records import Notification
from librarian.notifier import LONGEST, Notifier
from librarian.notifying import notify
from librarian.tasks.notify import CAUSE, Notify, compose
from librarian.timing import plenty_of_time, utc_now
from tests.fakes.slack import SECRET, slack
from tests.uploading import alerts_of

SOON = {"Retry-After": "0"}


@pytest.fixture
async def hook(site, tmp_path):
    """Slack, as the site knows it."""
    async with slack(tmp_path) as running:
        site.notifier = Notifier(running.settings, patience=timedelta(milliseconds=200))
        yield running


@pytest.fixture
def tell(site):
    """One pass of the task; as the same process goes on, it is the same task."""
    task = Notify(site, gap=timedelta(0))

    async def run() -> int:
        return await task.run_pass(plenty_of_time())

    return run


async def put(site, *causes: str) -> None:
    async with site.catalog.begin() as tx:
        for cause in causes:
            await notify(tx, cause=cause, text=f"{cause} is so")


async def test_an_alert_is_told(site, hook, tell):
    async with site.catalog.begin() as tx:
        await tx.alerts.raise_alert("no-room", message="no store has room", remedy="Open another one.")

    await tell()
    await tell()

    assert hook.shown == ["chajnantor: no store has room\nOpen another one."]


async def test_what_waits_together_is_one_message(site, hook, tell):
    await put(site, "drive:A07:full", "drive:A08:full")

    await tell()

    assert hook.shown == ["chajnantor: 2 things to know\n• drive:A07:full is so\n• drive:A08:full is so"]


async def test_what_comes_after_a_message_is_gathered(site, hook):
    task = Notify(site)
    await put(site, "one")
    await task.run_pass(plenty_of_time())

    await put(site, "two")
    await task.run_pass(plenty_of_time())

    assert hook.shown == ["chajnantor: one is so"]


async def test_what_slack_does_not_take_is_told_later(site, hook, tell):
    hook.will(500, "rollup_error", SOON)
    hook.will(429, "rate_limited", SOON)
    await put(site, "one")

    rounds = await tell()

    assert (rounds, len(hook.bodies), hook.shown) == (3, 3, ["chajnantor: one is so"])
    assert await alerts_of(site) == []


@pytest.mark.parametrize(
    "answer",
    [(429, "rate_limited", {"Retry-After": "3600"}), (503, ""), (404, "no_service"), ("hang",), ("close",)],
    ids=lambda answer: str(answer[0]),
)
async def test_nobody_presses_slack(site, hook, answer, tell):
    hook.will(*answer)
    await put(site, "one")

    await tell()
    await tell()

    assert len(hook.bodies) == 1


async def test_a_restart_forgets_nothing(site, hook, tell):
    hook.will(429, "rate_limited", {"Retry-After": "3600"})
    await put(site, "one")
    await tell()

    await Notify(site).run_pass(plenty_of_time())

    assert hook.shown == ["chajnantor: one is so"]


async def test_a_webhook_that_is_gone_is_an_alert_until_there_is_another(site, hook, tell):
    hook.will(404, "no_service", SOON)
    await put(site, "one")
    hook.will(404, "no_service", {"Retry-After": "3600"})

    await tell()
    async with site.catalog.read() as tx:
        (alert,) = await tx.alerts.open_ones()
    await Notify(site).run_pass(plenty_of_time())

    assert (alert.cause, alert.count) == (CAUSE, 2)
    assert "no_service" in alert.message
    assert "Make a new incoming webhook" in alert.remedy
    assert SECRET not in alert.message + alert.remedy
    assert await alerts_of(site) == []
    assert hook.shown[0].startswith("chajnantor: 2 things to know\n• one is so\n• nobody could be told in Slack since")


async def test_where_nobody_is_to_be_told_nothing_is_sent(site, tell):
    await put(site, "one")

    assert await tell() == 0


def waiting(cause: str, *, message="it is so", count=1) -> Notification:
    return Notification(cause=cause, message=message, count=count, first_at=utc_now())


def test_of_a_burst_the_kinds_are_counted():
    told = compose("chajnantor", [waiting(f"checksum:{number}") for number in range(500)] + [waiting("store:fast")])

    assert told.count("\n") == 11
    assert told.endswith("• and 491 more: 490 of checksum, 1 of store; see 'alert list' of 'python -m librarian.admin'")


def test_many_things_that_happen_to_drives_are_to_be_seen_where_drives_are_listed():
    told = compose("chajnantor", [waiting(f"drive:A{number:02}:sealed") for number in range(20)])

    assert told.endswith("• and 10 more: 10 of drive; see 'alert list' and 'drive list' of 'python -m librarian.admin'")


def test_what_was_reported_often_says_so():
    assert "it is so (7 times since " in compose("chajnantor", [waiting("one", count=7)])


def test_no_message_is_too_long():
    long = [waiting(f"{number}" * 100, message="x" * 5000) for number in range(1000)]

    assert len(compose("chajnantor", long[:1])) < LONGEST
    assert len(compose("chajnantor", long)) < LONGEST
