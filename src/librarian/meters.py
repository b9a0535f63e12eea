"""Meters: how fast bytes have moved to each peer lately. Only for people: nothing is decided by it."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from librarian.names import BatchId, PeerId, ReceptionId

#: What moved before counts no more.
SPAN: Final = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """What moved within a while; those that end in the same second are kept as one."""

    begins_at: datetime
    ends_at: datetime
    moved: int


class Meters:
    """One meter per peer, read while engines work and forgotten with the process."""

    def __init__(self) -> None:
        self._readings: defaultdict[PeerId, deque[_Reading]] = defaultdict(deque)
        #: When each batch was read last, and what had been moved of it by then.
        self._seen: dict[BatchId, tuple[datetime, int]] = {}
        #: Bytes that were read of the entries of a drive which are being copied now.
        self.being_received: dict[ReceptionId, int] = {}

    def read(
        self, peer: PeerId, batch: BatchId, *, bytes_done: int, before: tuple[datetime, int], now: datetime
    ) -> None:
        """*bytes_done* of a batch to *peer* have been moved by *now*; *before*: the same, as the catalog last knew it.

        What begins anew, at a lower number, has moved nothing yet as far as this tells.
        """
        begins_at, was = self._seen.get(batch, before)
        self._seen[batch] = (now, bytes_done)
        reading = _Reading(begins_at=begins_at, ends_at=now, moved=max(bytes_done - was, 0))
        readings = self._readings[peer]
        if readings and readings[-1].ends_at.replace(microsecond=0) == now.replace(microsecond=0):
            last = readings.pop()
            begins_at = min(last.begins_at, begins_at)
            reading = _Reading(begins_at=begins_at, ends_at=now, moved=last.moved + reading.moved)
        readings.append(reading)
        while readings[0].ends_at < now - SPAN:
            readings.popleft()

    def forget(self, batch: BatchId) -> None:
        """The batch has ended. A repeat does nothing."""
        self._seen.pop(batch, None)

    def rate_of(self, peer: PeerId, *, now: datetime) -> int:
        """Bytes per second that have moved to *peer* lately, pauses included."""
        recent = [reading for reading in self._readings.get(peer, ()) if reading.ends_at >= now - SPAN]
        if not recent:
            return 0
        begins_at = max(min(reading.begins_at for reading in recent), now - SPAN)
        return int(sum(reading.moved for reading in recent) / max((now - begins_at) / timedelta(seconds=1), 1.0))
