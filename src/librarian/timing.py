"""Instants, backoff and budgets."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

#: The first retry of anything comes after at most one second.
FIRST_RETRY: Final = timedelta(seconds=1)
#: No retry waits longer than this, however often it failed.
LAST_RETRY: Final = timedelta(minutes=15)


def utc_now() -> datetime:
    """The current instant, aware, UTC."""
    return datetime.now(UTC)


def told_at(instant: datetime) -> str:
    """*instant*, which is UTC, for people."""
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def retry_delay(attempts: int, *, cap: timedelta = LAST_RETRY) -> timedelta:
    """How long to wait after the *attempts*-th failure (1 is the first): exponential, jittered by half.

    The first is between half a second and one second; none exceeds *cap*.
    """
    ceiling: timedelta = min(FIRST_RETRY * 2.0 ** min(max(attempts, 1) - 1, 20), cap)
    share: float = random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
    return ceiling * share


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A span of monotonic time that a pass may use; a soft deadline."""

    ends_at: float

    @classmethod
    def of(cls, span: timedelta) -> Budget:
        """A budget that starts now."""
        return cls(ends_at=time.monotonic() + span.total_seconds())

    @property
    def is_spent(self) -> bool:
        """Whether the span has passed."""
        return time.monotonic() >= self.ends_at


def plenty_of_time() -> Budget:
    """A budget that no test or command outlives: one day."""
    return Budget.of(timedelta(days=1))
