"""Turns: long lists are worked off in portions, and between two of them everything else has its turn on the loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
R = TypeVar("R")

#: Items of a portion: at ten to twenty microseconds each, a millisecond.
PORTION: Final = 64


async def in_turns(make: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """``make(item)`` of each of *items*, in order."""
    made: list[R] = []
    for number, item in enumerate(items, start=1):
        made.append(make(item))
        if number % PORTION == 0:
            await asyncio.sleep(0)
    return made
