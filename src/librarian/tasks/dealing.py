"""Dealing: which staged transfers one ingest takes up together. No input, no output: candidates in, batches out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from librarian.policies import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from librarian.catalog.incoming_rows import Candidate
    from librarian.names import StoreName
    from librarian.policies import IngestPolicy

#: A batch that failed as a whole comes back in pieces this many times smaller, until a bad item is alone.
SHRINK: Final = 16
#: More bytes than any payload has.
BEYOND: Final = 2**63 - 1


class Weight(IntEnum):
    """How long a payload takes; the light are never behind the heavy."""

    LIGHT = 0
    MEDIUM = 1
    HEAVY = 2


class _Class(NamedTuple):
    at_least: int
    below: int
    #: Batches in flight per store.
    slots: int
    batch_bytes: int


_CLASSES: Final = {
    Weight.LIGHT: _Class(0, 4 * MIB, 1, GIB),
    Weight.MEDIUM: _Class(4 * MIB, 256 * MIB, 1, GIB),
    # One heavy payload is a batch: a bad one delays no other, and two keep a device busy.
    Weight.HEAVY: _Class(256 * MIB, BEYOND, 2, 0),
}


class Lane(NamedTuple):
    """What runs side by side: one batch per store, weight and slot."""

    store: StoreName
    weight: Weight
    slot: int = 0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one lane takes up."""

    lane: Lane
    candidates: tuple[Candidate, ...]


def weight_of(size: int) -> Weight:
    """The weight of a payload of *size* bytes."""
    return next(weight for weight in reversed(Weight) if size >= _CLASSES[weight].at_least)


def closed(busy: Collection[Lane], unwell: Iterable[StoreName]) -> list[tuple[StoreName, int, int]]:
    """The (store, from size, below size) for which no lane is free, stores that are *unwell* included."""
    ranges = [(store, 0, BEYOND) for store in unwell]
    for store, weight in {(lane.store, lane.weight) for lane in busy}:
        kind = _CLASSES[weight]
        if _free_slots(busy, store, weight) == []:
            ranges.append((store, kind.at_least, kind.below))
    return ranges


def _free_slots(busy: Collection[Lane], store: StoreName, weight: Weight) -> list[int]:
    return [slot for slot in range(_CLASSES[weight].slots) if Lane(store, weight, slot) not in busy]


def deal(candidates: Iterable[Candidate], *, busy: Collection[Lane], policy: IngestPolicy) -> list[Batch]:
    """Batches for free lanes, each of one store, one weight and one number of attempts, in the given order.

    A batch is bounded by files and bytes, of which a first candidate always fits. Those who failed with others
    come back with fewer others.
    """
    forming: dict[Lane, _Forming] = {}
    free: dict[tuple[StoreName, Weight], list[int]] = {}
    for candidate in candidates:
        weight = weight_of(candidate.size)
        key = candidate.store, weight
        for slot in free.setdefault(key, _free_slots(busy, *key)):
            lane = Lane(*key, slot)
            if forming.setdefault(lane, _Forming(weight, policy)).take(candidate):
                break
    return [Batch(lane=lane, candidates=tuple(batch.taken)) for lane, batch in forming.items()]


class _Forming:
    """A batch that is being put together."""

    def __init__(self, weight: Weight, policy: IngestPolicy) -> None:
        self.taken: list[Candidate] = []
        self._bytes = 0
        self._most_bytes = min(_CLASSES[weight].batch_bytes, policy.batch_bytes)
        self._policy = policy

    def take(self, candidate: Candidate) -> bool:
        if self.taken and not self._fits(candidate):
            return False
        self.taken.append(candidate)
        self._bytes += candidate.size
        return True

    def _fits(self, candidate: Candidate) -> bool:
        most_files = self._policy.batch_files // SHRINK ** min(candidate.attempts, 4)
        return (
            candidate.attempts == self.taken[0].attempts
            and len(self.taken) < most_files
            and self._bytes + candidate.size <= self._most_bytes
        )
