"""A TCP proxy that breaks connections in the ways real networks do, on command.

::

    async with tcp_proxy(live.url) as proxy:
        proxy.cut_after_upload(1_000_000)      # the next connection is reset after so many bytes from the client
        proxy.lose_answer()                    # the next answer never arrives: reset at its first byte
        client = LibrarianClient(proxy.url, …)
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class TcpProxy:
    """Forwards to ``host:port``; counts connections and bytes; breaks what it was told to break, once each."""

    host: str
    port: int
    url: str = ""
    connections: int = 0
    #: Ends of connections that were reset.
    resets: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    _cut_up: int | None = None
    _cut_down: int | None = None
    _cut_every: int | None = None
    answers: int = 0
    _lost_answer: int | None = None
    _is_down: bool = False
    _freeze_up: int | None = None
    _may_pass: asyncio.Event = field(default_factory=asyncio.Event)
    _froze: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _serving: set[asyncio.Task] = field(default_factory=set)

    def cut_after_upload(self, count: int) -> None:
        """Reset the connection over which the *count*-th byte from now on comes up."""
        self._cut_up = self.bytes_up + count

    def cut_every_upload(self, count: int | None) -> None:
        """Reset a connection each time that *count* more bytes have come up; None: no more."""
        self._cut_every = count
        self._cut_up = None if count is None else self.bytes_up + count

    def cut_after_download(self, count: int) -> None:
        """Reset the connection over which the *count*-th byte from now on comes down."""
        self._cut_down = self.bytes_down + count

    def lose_answer(self, *, after: int = 0) -> None:
        """Let the request through, and reset its connection when the answer begins; *after* others were answered."""
        self._lost_answer = self.answers + after + 1

    def go_down(self) -> None:
        """Reset everything that is open, and every new connection at once."""
        self._is_down = True
        self.reset_all()

    def come_up(self) -> None:
        """Accept connections again."""
        self._is_down = False

    def freeze(self) -> None:
        """Let no more bytes pass; connections stay open."""
        self._may_pass.clear()

    def freeze_after_upload(self, count: int) -> None:
        """Freeze when the *count*-th byte from now on has come up."""
        self._froze.clear()
        self._freeze_up = self.bytes_up + count

    async def frozen(self) -> None:
        """Wait until so many bytes have come up."""
        await self._froze.wait()

    def thaw(self) -> None:
        """Let bytes pass again."""
        self._may_pass.set()

    def reset_all(self) -> None:
        """Reset every open connection."""
        for writer in tuple(self._open):
            self._reset(writer)

    async def end(self) -> None:
        """Reset every open connection, and wait until nobody serves one any more."""
        self.go_down()
        if self._serving:
            await asyncio.wait(self._serving)

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        self.resets += 1
        _reset(writer)

    async def serve(self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        """Forward one connection until either side ends it."""
        serving = asyncio.current_task()
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        self.connections += 1
        if self._is_down:
            self._reset(client_writer)
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(self.host, self.port)
        except ConnectionError:
            _reset(client_writer)
            return
        self._open |= {client_writer, server_writer}
        asked = asyncio.Event()
        ways = [
            asyncio.create_task(self._pass_up(client_reader, server_writer, asked), name="proxy-up"),
            asyncio.create_task(self._pass_down(server_reader, client_writer, asked), name="proxy-down"),
        ]
        try:
            _, pending = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in pending:
                way.cancel()
            await asyncio.wait(ways)
        finally:
            is_broken = any(not way.cancelled() and way.result() for way in ways)
            for writer in (client_writer, server_writer):
                self._open.discard(writer)
                if is_broken:
                    self._reset(writer)
                else:
                    writer.close()

    async def _pass_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: asyncio.Event) -> bool:
        """Forward until the end (False) or a break (True)."""
        with suppress(ConnectionError):
            while chunk := await reader.read(65536):
                await self._may_pass.wait()
                asked.set()
                self.bytes_up += len(chunk)
                if self._cut_up is not None and self.bytes_up >= self._cut_up:
                    writer.write(chunk[: len(chunk) - (self.bytes_up - self._cut_up)])
                    await writer.drain()
                    self._cut_up = None if self._cut_every is None else self.bytes_up + self._cut_every
                    return True
                writer.write(chunk)
                await writer.drain()
                if self._freeze_up is not None and self.bytes_up >= self._freeze_up:
                    self._freeze_up = None
                    self.freeze()
                    self._froze.set()
        return False

    async def _pass_down(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: asyncio.Event
    ) -> bool:
        with suppress(ConnectionError):
            while chunk := await reader.read(65536):
                await self._may_pass.wait()
                if asked.is_set():
                    asked.clear()
                    self.answers += 1
                    if self.answers == self._lost_answer:
                        return True
                self.bytes_down += len(chunk)
                if self._cut_down is not None and self.bytes_down >= self._cut_down:
                    writer.write(chunk[: len(chunk) - (self.bytes_down - self._cut_down)])
                    await writer.drain()
                    self._cut_down = None
                    return True
                writer.write(chunk)
                await writer.drain()
        return False


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a router that forgot the connection does."""
    transport_socket = writer.get_extra_info("socket")
    if transport_socket is not None:
        with suppress(OSError):
            transport_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


@asynccontextmanager
async def tcp_proxy(url: str) -> AsyncIterator[TcpProxy]:
    """A proxy on loopback before the server at *url*."""
    parts = urlsplit(url)
    proxy = TcpProxy(parts.hostname or "127.0.0.1", parts.port or 80)
    proxy.thaw()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"{parts.scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
        await server.wait_closed()
