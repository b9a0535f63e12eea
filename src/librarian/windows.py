"""Windows: the hours in which bytes may flow, as the clock on a wall somewhere shows them.

``20:00-06:00 America/Santiago`` is open while the clock of that place shows a time from 20:00 up to, not including,
06:00. That clock alone decides, so that daylight saving needs no further rule: what begins in the hour that is skipped
begins when the clock has been put forward, what lies wholly within it is not open on that day, and what lies in the
hour that comes twice is open twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from librarian.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORM: Final = re.compile(r"\s*([01]\d|2[0-3]):([0-5]\d)\s*-\s*([01]\d|2[0-4]):([0-5]\d)\s+(\S+)\s*")
_MIDNIGHT: Final = 24 * 60
#: Within this span every window opens and closes, even where a day's part is skipped.
_HORIZON: Final = timedelta(days=3)
#: Openings and closings that an estimate looks at: a few days of one window.
_TURNS_WALKED: Final = 8
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class Window:
    """Hours of every day: from *start* up to, not including, *end*, in minutes of the day by the clock of *zone*."""

    start: int
    end: int
    zone: ZoneInfo

    def __str__(self) -> str:
        return f"{_clock(self.start)}-{_clock(self.end)} {self.zone.key}"

    @classmethod
    def parse(cls, text: str) -> Window:
        """The window that *text* describes: ``20:00-06:00 America/Santiago``, or ``00:00-24:00 UTC``.

        Raises
        ------
        BadRequest
            It is not in that form, it is empty, or this machine does not know the zone.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise BadRequest(
                f"{text!r} is not a window", remedy="Write '<from>-<to> <zone>', as '20:00-06:00 America/Santiago'."
            )
        start, end = (60 * int(found[hours]) + int(found[hours + 1]) for hours in (1, 3))
        if end > _MIDNIGHT or start == end:
            raise BadRequest(
                f"{text!r} is not a window: it has no hours", remedy="Let it end after its start, at 24:00 the latest."
            )
        return cls(start=start, end=end, zone=_zone(found[5]))

    def is_open(self, now: datetime) -> bool:
        """Whether the clock of the place shows a time within the window."""
        there = now.astimezone(self.zone)
        minute = 60 * there.hour + there.minute
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def turns(self, after: datetime) -> list[datetime]:
        """Every instant soon *after* at which the window may open or close, in any order."""
        today = after.astimezone(self.zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        found = [
            (today + timedelta(days=day, minutes=minute)).replace(tzinfo=self.zone, fold=fold).astimezone(UTC)
            for day in range(-1, _HORIZON.days + 1)
            for minute in (self.start, self.end)
            for fold in (0, 1)
        ]
        put = _when_put(self.zone, after, after + _HORIZON)
        return [instant for instant in (*found, *([put] if put else [])) if instant > after]


def are_open(windows: Sequence[Window], now: datetime) -> bool:
    """Whether one of *windows* is open; without any there is no restraint."""
    return not windows or any(window.is_open(now) for window in windows)


def next_change(windows: Sequence[Window], now: datetime) -> datetime | None:
    """When *windows* open (or, while one is open, all are closed) next; None when they never do."""
    is_open = are_open(windows, now)
    turns = sorted(turn for window in windows for turn in window.turns(now))
    return next((turn for turn in turns if are_open(windows, turn) is not is_open), None)


def wall_seconds(windows: Sequence[Window], now: datetime, moving: int) -> int:
    """How long it takes from *now* until *windows* have been open for *moving*, both in seconds.

    Some days are looked at one by one, what is left goes by what those were like.
    """
    at, left = now, float(moving)
    for _ in range(_TURNS_WALKED):
        turn = next_change(windows, at)
        if turn is None:
            break
        span = (turn - at).total_seconds()
        if are_open(windows, at):
            if left <= span:
                break
            left -= span
        at = turn
    else:
        walked = (at - now).total_seconds()
        left *= walked / (moving - left)
    return int((at - now).total_seconds() + left)


@lru_cache(maxsize=256)
def parsed(texts: tuple[str, ...]) -> tuple[Window, ...]:
    """The windows that *texts* describe; raises BadRequest as ``Window.parse`` does."""
    return tuple(map(Window.parse, texts))


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadRequest(
            f"no time zone is called {name!r} on this machine",
            remedy="Use a name of the tz database, as 'America/Santiago', or 'UTC'; it may have to be installed.",
        ) from error


def _when_put(zone: ZoneInfo, after: datetime, before: datetime) -> datetime | None:
    """The instant between *after* and *before* at which the clock of *zone* was put forward or back, if it was."""
    low, high = after.astimezone(UTC).replace(microsecond=0), before.astimezone(UTC)
    offset = low.astimezone(zone).utcoffset()
    if high.astimezone(zone).utcoffset() == offset:
        return None
    while high - low > _SECOND:
        middle = low + (high - low) // 2 // _SECOND * _SECOND
        if middle.astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return low + _SECOND
