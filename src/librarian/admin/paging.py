"""Reading lists that the server gives page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

T = TypeVar("T")

#: Items of one page.
PAGE: Final = 1000


async def pages(
    read: Callable[[dict[str, str]], Awaitable[tuple[list[T], str | None]]],
    query: Mapping[str, str],
    *,
    limit: int | None = None,
) -> tuple[list[T], bool]:
    """At most *limit* of what *read* gives page by page, each with the next one's cursor; and whether there is more."""
    found: list[T] = []
    asked = {**query, "limit": str(PAGE if limit is None else min(limit + 1, PAGE))}
    while True:
        page, cursor = await read(asked)
        found += page
        if cursor is None or (limit is not None and len(found) > limit):
            return (found, False) if limit is None else (found[:limit], len(found) > limit)
        asked["cursor"] = cursor
