"""The link between the two sites of the demonstration: all that they say to each other, until it is cut."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

_CHUNK: Final = 256 * 1024


class Link:
    """Ways in to servers on this machine. While it is cut every connection over it is closed at once."""

    def __init__(self) -> None:
        self.is_cut = False
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Close everything, and let nothing new through."""
        self.is_cut = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        """Let everything through again."""
        self.is_cut = False

    @asynccontextmanager
    async def way_in(self, near: socket.socket, port: int) -> AsyncIterator[None]:
        """Pass on to *port* what comes to *near* while the block runs."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._pass(reader, writer, port)
            writer.transport.abort()

        server = await asyncio.start_server(serve, sock=near)
        try:
            yield
        finally:
            server.close()
            self.cut()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        if self.is_cut:
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        both = {writer, far_writer}
        self._open |= both
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, far_writer))
                group.create_task(_pump(far_reader, writer))
        except* OSError:
            pass
        finally:
            self._open -= both
            far_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def free_socket() -> socket.socket:
    """A socket that listens at a port of its own."""
    near = socket.socket()
    near.bind(("127.0.0.1", 0))
    return near


@asynccontextmanager
async def linked(ways: Sequence[tuple[socket.socket, int]]) -> AsyncIterator[Link]:
    """One link with all of *ways* in."""
    link = Link()
    async with AsyncExitStack() as stack:
        for near, port in ways:
            await stack.enter_async_context(link.way_in(near, port))
        yield link
