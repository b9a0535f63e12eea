"""Questions that may take too long: whoever asks goes on without the answer, and the question ends by itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import timedelta

T = TypeVar("T")


async def unless_slow(question: Awaitable[T], *, patience: timedelta) -> T:
    """The answer to *question*.

    Raises
    ------
    TimeoutError
        It takes longer than *patience*. It is not cancelled: who cancels a trip to a store waits for its thread.
    """
    asking = asyncio.ensure_future(question)
    # Looked at, so that asyncio does not report what nobody fetched.
    asking.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
    await asyncio.wait((asking,), timeout=patience.total_seconds())
    if not asking.done():
        raise TimeoutError
    return asking.result()
