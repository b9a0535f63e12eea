"""One connection to a librarian: typed requests, streams, retries and the translation of every failure.

A request is sent again after a lost answer only when a repeat cannot hurt: GET, HEAD, PUT and DELETE by their
nature, and those POSTs whose caller says so (opening and committing an upload, offers and notices are made to be
repeated).
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast
from urllib.parse import quote
from weakref import WeakSet

import aiohttp
from pydantic import BaseModel, TypeAdapter
from yarl import URL

from librarian.client import answers
from librarian.client.address import API, Address
from librarian.client.socket_path import short_path
from librarian.errors import LibrarianError, PeerUnavailable, Unavailable
from librarian.guard import forbid_io_in_transaction
from librarian.timing import retry_delay
from librarian.wire.base import PROTOCOL, PROTOCOL_HEADER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
    from types import TracebackType

T = TypeVar("T")

#: How long a request is repeated when the librarian is away, unless the caller knows better.
PATIENCE: Final = timedelta(seconds=30)
#: Longest silence within one answer.
SILENCE: Final = timedelta(seconds=60)
CONNECT: Final = timedelta(seconds=10)
#: How long closing waits for bytes that were written and that the other side has yet to take.
CLOSING: Final = timedelta(seconds=1)
#: No pause between two tries is longer.
LONGEST_PAUSE: Final = timedelta(seconds=8)
_JSON: Final = {"Content-Type": "application/json"}
_SAFE: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_UNREACHED: Final = (aiohttp.ClientError, OSError, TimeoutError)


@cache
def _cached_reader(kind: Hashable) -> TypeAdapter[object]:
    return TypeAdapter(cast("type[object]", kind))


def _reader(kind: type[T]) -> TypeAdapter[T]:
    # Building one takes a millisecond; there are as many as there are models.
    return cast("TypeAdapter[T]", _cached_reader(cast("Hashable", kind)))


def write_body(body: BaseModel | Sequence[BaseModel]) -> bytes:
    """The JSON of a request body: a model, or an array of models."""
    if isinstance(body, BaseModel):
        return body.model_dump_json(exclude_none=True).encode()
    return b"[" + b",".join(item.model_dump_json(exclude_none=True).encode() for item in body) + b"]"


def segment(name: str) -> str:
    """*name* as the tail of a path: slashes stay, everything else that means something in a URL is escaped."""
    return quote(name, safe="/")


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """A streamed answer: read ``chunks`` to the end, within the ``async with`` that gave it."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Connection:
    """A pool of HTTP connections to one librarian. Open it with ``async with``."""

    def __init__(self, address: Address, *, patience: timedelta = PATIENCE, connections: int = 8) -> None:
        self.address = address
        self._patience = patience
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._sockets: WeakSet[socket.socket] = WeakSet()
        #: Requests sent so far, repeats included; for benchmarks and tests.
        self.requests = 0

    async def __aenter__(self) -> Self:
        headers = {PROTOCOL_HEADER: str(PROTOCOL), "Accept": "application/json"}
        if (authorization := self.address.authorization) is not None:
            headers["Authorization"] = authorization
        self._session = aiohttp.ClientSession(
            connector=self._connector(),
            headers=headers,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT.total_seconds(), sock_read=SILENCE.total_seconds()
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=1024**2,
        )
        return self

    def _connector(self) -> aiohttp.BaseConnector:
        if self.address.socket is not None:
            return aiohttp.UnixConnector(path=short_path(self.address.socket), limit=self._connections)
        return aiohttp.TCPConnector(
            ssl=self.address.tls, limit=self._connections, keepalive_timeout=30, socket_factory=self._new_socket
        )

    def _new_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        made = socket.socket(*address[:3])
        self._sockets.add(made)
        return made

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection. A repeat does nothing."""
        session, self._session = self._session, None
        if session is None:
            return
        closing = asyncio.create_task(session.close(), name=f"close {self.address.url}")
        await asyncio.wait([closing], timeout=CLOSING.total_seconds())
        if not closing.done():
            # What was written waits for a side that takes no more; it would wait for as long as that side is there.
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        await closing

    def url_of(self, path: str) -> str:
        """The full URL of *path*: below the API unless it is a full URL path of its own (``/healthz``)."""
        start = "" if path.startswith((API, "/healthz", "/readyz")) else API
        return f"{self.address.url}{start}{path}"

    async def request(
        self,
        method: str,
        path: str,
        *,
        answer: type[T],
        body: BaseModel | Sequence[BaseModel] | None = None,
        query: Mapping[str, str] | None = None,
        repeats: bool | None = None,
        patience: timedelta | None = None,
        silence: timedelta | None = None,
        answer_bytes: int = answers.ANSWER_BYTES,
    ) -> T:
        """Send one request and return its answer as *answer*.

        Parameters
        ----------
        path: below ``/api/v1``, already escaped (see ``segment``).
        repeats: whether a repeat is harmless; by default for GET, HEAD, PUT and DELETE alone.
        patience: how long to go on repeating while the librarian is away.
        silence: longest wait for the first byte of the answer.
        answer_bytes: longest answer that is read.

        Raises
        ------
        LibrarianError
            The leaf that the librarian's problem document names; PeerUnavailable when it cannot be reached.
        """
        raw = None if body is None else write_body(body)
        url = self.url_of(path)

        async def once() -> T:
            async with self._send(method, url, data=raw, query=query, headers=_JSON, silence=silence) as response:
                content = await _read_whole(response, url, limit=answer_bytes)
                if response.status >= 300:
                    raise answers.refusal(content, status=response.status, url=url)
                return answers.read_answer(content or b"null", _reader(answer), url=url)

        return await self._insist(once, method=method, repeats=repeats, patience=patience)

    async def stream_up(
        self,
        method: str,
        path: str,
        chunks: AsyncIterator[bytes] | bytes,
        *,
        answer: type[T],
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        silence: timedelta | None = None,
        answer_bytes: int = answers.ANSWER_BYTES,
    ) -> T:
        """Send *chunks* as the body. Never repeated here: the caller knows where to resume."""
        url = self.url_of(path)
        typed = {"Content-Type": "application/octet-stream", **(headers or {})}
        async with self._send(method, url, data=chunks, query=query, headers=typed, silence=silence) as response:
            content = await _read_whole(response, url, limit=answer_bytes)
            if response.status >= 300:
                raise answers.refusal(content, status=response.status, url=url)
            return answers.read_answer(content or b"null", _reader(answer), url=url)

    @asynccontextmanager
    async def stream_down(
        self,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        chunk_size: int = 1024**2,
    ) -> AsyncIterator[Streamed]:
        """GET *path* and read the answer as it comes; statuses of 300 and above raise, 304 and 416 included."""
        url = self.url_of(path)
        async with self._send("GET", url, query=query, headers=headers) as response:
            if response.status >= 300:
                raise answers.refusal(await _read_whole(response, url), status=response.status, url=url)
            yield Streamed(
                status=response.status, headers=response.headers, chunks=_chunks(response, url, chunk_size=chunk_size)
            )

    async def head(self, path: str, *, query: Mapping[str, str] | None = None) -> tuple[int, Mapping[str, str]]:
        """Status and headers of *path*. A refusal has no body to tell why, so that it is returned, not raised."""
        url = self.url_of(path)

        async def once() -> tuple[int, Mapping[str, str]]:
            async with self._send("HEAD", url, query=query) as response:
                if response.status in answers.PASSING:
                    raise answers.refusal(b"", status=response.status, url=url)
                return response.status, response.headers

        return await self._insist(once, method="HEAD", repeats=True, patience=None)

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        url: str,
        *,
        data: AsyncIterator[bytes] | bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        silence: timedelta | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send once, and translate every failure to reach the librarian (the one place where that happens)."""
        forbid_io_in_transaction("request")
        if self._session is None:
            raise Unavailable("the connection is closed", remedy="Open the client with 'async with' first.")
        self.requests += 1
        timeout = self._session.timeout
        if silence is not None:
            timeout = aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT.total_seconds(), sock_read=silence.total_seconds()
            )
        try:
            response = await self._session.request(
                method,
                URL(url, encoded=True),
                data=data,
                params=query,
                headers=headers,
                allow_redirects=False,
                timeout=timeout,
            )
        except _UNREACHED as error:
            raise unreached(error, url) from error
        # Outside the "try": what the reader of the answer raises about its own disk is not ours to translate.
        async with response:
            yield response

    async def _insist(
        self,
        once: Callable[[], Awaitable[T]],
        *,
        method: str,
        repeats: bool | None,
        patience: timedelta | None,
    ) -> T:
        may_repeat = method in _SAFE if repeats is None else repeats
        limit = self._patience if patience is None else patience
        gives_up_at = time.monotonic() + (limit.total_seconds() if may_repeat else 0.0)
        attempts = 0
        while True:
            try:
                return await once()
            except Unavailable as error:
                attempts += 1
                pause = retry_delay(attempts, cap=LONGEST_PAUSE).total_seconds()
                if not is_passing(error) or time.monotonic() + pause > gives_up_at:
                    raise
                await asyncio.sleep(pause)


def is_passing(error: LibrarianError) -> bool:
    """Whether the same request may soon succeed: nobody answers, draining, database away; not for lack of room."""
    return isinstance(error, Unavailable) and error.status in answers.PASSING


def unreached(error: BaseException, url: str) -> PeerUnavailable:
    """What a failure below HTTP means to the caller."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return PeerUnavailable(
            f"cannot trust {url}: {error.certificate_error}",
            remedy="Give the certificate authority that signed it: 'ca' in client.toml, '--ca-file' of a command.",
        )
    reason = "no answer in time" if isinstance(error, TimeoutError) else _reason(error)
    return PeerUnavailable(
        f"cannot reach {url}: {reason}", remedy="Check the URL, the network, and that the librarian runs."
    )


def _reason(error: BaseException) -> str:
    """What the system says, without what aiohttp adds to it for programmers."""
    if not isinstance(error, aiohttp.ClientConnectorError):
        return str(error) or type(error).__name__
    cause = error.os_error
    if isinstance(cause, ssl.SSLError) or not cause.errno or cause.errno < 0:
        return str(cause.strerror or cause)
    return os.strerror(cause.errno)


async def _read_whole(response: aiohttp.ClientResponse, url: str, *, limit: int = answers.ANSWER_BYTES) -> bytearray:
    content = bytearray()
    async for chunk in _chunks(response, url, chunk_size=64 * 1024):
        content += chunk
        if len(content) > limit:
            raise PeerUnavailable(
                f"{url} answered with more than {limit:,} bytes of JSON",
                remedy="Check that the URL leads to a librarian.",
            )
    return content


async def _chunks(response: aiohttp.ClientResponse, url: str, *, chunk_size: int) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_chunked(chunk_size):
            yield chunk
    except _UNREACHED as error:
        raise unreached(error, url) from error
