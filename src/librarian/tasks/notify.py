"""Notify: tells people in Slack what waits to be told, gathered into few messages."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from librarian.notifier import LONGEST
from librarian.tasks.base import Cadence, Task
from librarian.timing import retry_delay, utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.records import Notification
    from librarian.catalog.transaction import Transaction
    from librarian.notifier import Reply
    from librarian.site import Site

log = logging.getLogger(__name__)

#: Between two messages; what comes meanwhile is gathered. Slack takes one a second in the long run.
#: Source: docs.slack.dev, "Rate limits", "Posting messages".
GAP: Final = timedelta(seconds=10)
#: Told one by one in a message; of more, only how many there are of each kind.
ONE_BY_ONE: Final = 10
#: A text in a message of several is cut to this.
_SHORT: Final = 300
#: What is summed up in one message.
_MOST: Final = 10_000
#: Slack is believed to want us to wait, but not for ever.
_LONGEST_WAIT: Final = timedelta(hours=1)
#: People are alerted when nobody could be told for so long.
_SILENT: Final = timedelta(hours=1)
_FORGET_EVERY: Final = timedelta(hours=1)
#: That nobody can be told is told there once somebody can; until then it is seen in the list of alerts.
CAUSE: Final = "slack"


@dataclass(frozen=True, kw_only=True)
class Message:
    """What one message tells."""

    told: tuple[Notification, ...]
    text: str


class Notify(Task[Message, "Reply"]):
    """Tells people; at least once, in order of age, and never in anybody's way."""

    name: ClassVar[str] = "notify"

    def __init__(self, site: Site, *, gap: timedelta = GAP) -> None:
        super().__init__(site)
        self.cadence = Cadence(interval=timedelta(seconds=5))
        self._gap = gap
        #: On the monotonic clock.
        self._silent_until = 0.0
        self._forgot_at: float | None = None
        self._failures = 0

    async def plan(self, tx: Transaction) -> Message | None:
        """One message of all that waits. Where nobody is told, what waits grows old like anything else."""
        now = utc_now()
        if self._forgot_at is None or time.monotonic() - self._forgot_at > _FORGET_EVERY.total_seconds():
            self._forgot_at = time.monotonic()
            lost = await tx.notifications.forget(now)
            if lost and self.site.notifier is not None:
                log.warning("Gave up telling people of %d things that are days old", lost)
        if self.site.notifier is None or time.monotonic() < self._silent_until:
            return None
        waiting = await tx.notifications.waiting(now, limit=_MOST)
        return Message(told=waiting, text=compose(self.site.name, waiting)) if waiting else None

    async def act(self, plan: Message) -> Reply:
        """Post it."""
        assert self.site.notifier is not None  # noqa: S101 - planned only then
        return await self.site.notifier.send(plan.text)

    async def record(self, tx: Transaction, plan: Message, result: Reply) -> None:
        """It is told, or is tried again: when Slack asks for it, or later and later."""
        now = utc_now()
        if result.is_taken:
            self._rest(self._gap)
            self._failures = 0
            await tx.notifications.told(plan.told, now=now)
            await tx.alerts.acknowledge([CAUSE])
            log.info("Told %d things in Slack", len(plan.told), extra={"event": "notified"})
            return
        self._failures += 1
        asked = result.retry_after
        wait = max(min(retry_delay(self._failures) if asked is None else asked, _LONGEST_WAIT), self._gap)
        self._rest(wait)
        log.warning("Cannot tell people in Slack, tried again in %.0f s: %s", wait.total_seconds(), result.said)
        since = plan.told[0].first_at
        if result.needs_a_person or now - since > _SILENT:
            await tx.alerts.raise_alert(
                CAUSE,
                message=f"nobody could be told in Slack since {since:%Y-%m-%d %H:%M} UTC: {result.said}",
                remedy=result.remedy,
            )

    def _rest(self, span: timedelta) -> None:
        self._silent_until = time.monotonic() + span.total_seconds()


def compose(site: str, waiting: Sequence[Notification]) -> str:
    """The message that tells *waiting*: one as it is, some each in short, and of many how many of each kind."""
    if len(waiting) == 1:
        return f"{site}: {_text(waiting[0], LONGEST // 2)}"
    lines = [f"{site}: {len(waiting):,} things to know"]
    lines += [f"• {_text(each, _SHORT)}" for each in waiting[:ONE_BY_ONE]]
    rest = Counter(each.cause.partition(":")[0][:40] for each in waiting[ONE_BY_ONE:])
    if rest:
        kinds = ", ".join(f"{count:,} of {kind}" for kind, count in rest.most_common(10))
        # What happens to drives is no alert.
        where = "'alert list' and 'drive list'" if "drive" in rest else "'alert list'"
        lines.append(f"• and {rest.total():,} more: {kinds}; see {where} of 'python -m librarian.admin'")
    return "\n".join(lines)


def _text(each: Notification, longest: int) -> str:
    text = each.message if len(each.message) <= longest else f"{each.message[: longest - 1]}…"
    return text if each.count == 1 else f"{text} ({each.count:,} times since {each.first_at:%Y-%m-%d %H:%M} UTC)"
