"""Reading request bodies: every read has a time limit, and a body that is cut off is a clear refusal."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from librarian.errors import BadRequest, LibrarianError, TooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Longest time for a whole JSON body: a client that drips bytes holds a connection no longer.
BODY_TIME: Final = timedelta(seconds=30)
#: What aiohttp raises when the other side goes away in the middle, or breaks the transfer encoding.
CUT_OFF: Final = (ClientError, HttpProcessingError, ConnectionError, EOFError)

#: Longest silence within a streamed body, and longest time for a whole JSON body.
READ_LIMITS: Final = web.AppKey("READ_LIMITS", tuple[timedelta, timedelta])


async def incoming(request: web.Request, *, silence: timedelta | None = None) -> AsyncIterator[bytes]:
    """The body of *request* in chunks, as they come.

    Raises
    ------
    BadRequest
        The body was cut off, or nothing came for *silence*.
    """
    content = request.content
    limit = (silence or request.app[READ_LIMITS][0]).total_seconds()
    while True:
        try:
            async with asyncio.timeout(limit):
                chunk = await content.readany()
        except TimeoutError as error:
            raise _too_slow(limit) from error
        except CUT_OFF as error:
            raise cut_off() from error
        if not chunk:
            return
        yield chunk


async def whole(request: web.Request, *, limit: int) -> bytes:
    """The whole body of *request*, at most *limit* bytes.

    Raises
    ------
    TooLarge
        It is longer.
    BadRequest
        It was cut off, or came too slowly.
    """
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    if not request.body_exists:
        return b""
    seconds = request.app[READ_LIMITS][1].total_seconds()
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while chunk := await request.content.readany():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                parts.append(chunk)
    except TimeoutError as error:
        raise _too_slow(seconds) from error
    except CUT_OFF as error:
        raise cut_off() from error
    return b"".join(parts)


async def invite(request: web.Request) -> None:
    """Send ``100 Continue`` to a client that waits for it; called only once the request is permitted."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # Else aiohttp believes that the answer itself has begun.
        request.writer.output_size = 0


async def do_not_invite_yet(_: web.Request) -> None:
    """What aiohttp does about ``Expect`` before it calls us: nothing, so that refusals come before the bytes."""


def cut_off() -> BadRequest:
    """The refusal of a body that ended too soon."""
    return BadRequest("the request's body was cut off", remedy="Send the request again.")


def _too_slow(seconds: float) -> LibrarianError:
    return BadRequest(
        f"the request's body stopped coming for {seconds:g} s", remedy="Send it again over a better connection."
    )


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"the request's body is longer than {limit:,} bytes",
        remedy="Split the list into several requests.",
        details={"limit": limit},
    )
