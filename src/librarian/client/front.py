"""The synchronous front for scripts: the same client, driven from a background thread; no second implementation."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, TypeVar, Unpack

from librarian.checksum import Algorithm
from librarian.client import connections, searching
from librarian.client.librarian import LibrarianClient

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from librarian.client.address import Address
    from librarian.client.outcomes import Downloaded, Uploaded, Verified
    from librarian.client.progress import OnProgress
    from librarian.client.searching import Conditions
    from librarian.wire.files import FileDescription, FilePage, FilesQuery, FileSummary, Member
    from librarian.wire.site import SiteDescription

T = TypeVar("T")

#: Seconds that closing connections may take when the interpreter exits.
_LAST_CALL: Final = 1.0


class _Engine:
    """One event loop in a daemon thread, shared by every front of the process and started when first needed.

    Nothing needs to be closed: at the interpreter's exit the connections are, quietly, and the loop stops.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._open: set[LibrarianClient] = set()
        # A fork copies the loop but not its thread: the child starts with its own.
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self._stop)

    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="librarian-client", daemon=True)
                self._thread.start()
            return self._loop

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run *work* in the loop's thread and wait for it; Ctrl-C cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def enter(self, client: LibrarianClient) -> None:
        """Open *client* and remember to close it."""
        await client.__aenter__()
        self._open.add(client)

    async def leave(self, client: LibrarianClient) -> None:
        """Close *client*. A repeat does nothing."""
        self._open.discard(client)
        await client.connection.close()

    async def _leave_all(self) -> None:
        for client in tuple(self._open):
            await self.leave(client)
        # Two rounds of the loop, in which the transports let go of their sockets.
        for _ in range(2):
            await asyncio.sleep(0)

    def _forget(self) -> None:
        # Sockets and epoll are shared with the parent: were these objects ever finalized here, the parent's
        # connections would go with them. One reference more than anybody knows keeps them for good.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object((self._loop, self._open)))
        self._lock = threading.Lock()
        self._loop = self._thread = None
        self._open = set()

    def _stop(self) -> None:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        with suppress(TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(self._leave_all(), loop).result(_LAST_CALL)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_LAST_CALL)
        if not thread.is_alive():
            loop.close()


_engine: Final = _Engine()


class Librarian:
    """A librarian for plain scripts: every method of ``LibrarianClient`` that scripts need, waiting for its result.

    May be used from several threads, and within a program that has an event loop of its own (a notebook). Progress
    is reported from a background thread.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._client: LibrarianClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Librarian at {self.address.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections now rather than at the interpreter's exit. A later call opens them again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None and self._loop is _engine.loop():
            _engine.run(_engine.leave(client))

    def _run(self, call: Callable[[LibrarianClient], Coroutine[object, object, T]]) -> T:
        return _engine.run(call(self._opened()))

    def _opened(self) -> LibrarianClient:
        loop = _engine.loop()
        with self._lock:
            if self._client is None or self._loop is not loop:
                client = LibrarianClient(self.address)
                _engine.run(_engine.enter(client))
                self._client, self._loop = client, loop
            return self._client

    def ping(self) -> SiteDescription:
        """Ask who answers, what it speaks, and who we are there."""
        return self._run(lambda client: client.ping())

    def upload(
        self,
        source: Path | str,
        name: str | Path,
        *,
        algorithm: Algorithm = Algorithm.XXH3,
        progress: OnProgress | None = None,
    ) -> Uploaded:
        """Upload a file, or a directory as a book, and return when the librarian has verified it."""
        return self._run(lambda client: client.upload(source, str(name), algorithm=algorithm, progress=progress))

    def upload_many(
        self,
        items: Iterable[tuple[Path | str, str]],
        *,
        algorithm: Algorithm = Algorithm.XXH3,
        progress: OnProgress | None = None,
    ) -> list[Uploaded]:
        """Upload many files, and return when all are verified; raises SomeFailed with an outcome for each."""
        return self._run(lambda client: client.upload_many(items, algorithm=algorithm, progress=progress))

    def download(self, name: str, target: Path | str, *, progress: OnProgress | None = None) -> Downloaded:
        """Fetch a file or book to *target*, verified against its checksum."""
        return self._run(lambda client: client.download(name, target, progress=progress))

    def search(self, wanted: str | FilesQuery | None = None, **conditions: Unpack[Conditions]) -> Iterator[FileSummary]:
        """Every file that matches *wanted* (a glob over whole names, or a query) and all *conditions*.

        Nothing is asked before the iteration begins, and page after page as it goes on.

        Examples
        --------
        ::

            for file in archive.search("2026/11/*", kind="book"):
                print(file.name, file.size)

        Raises
        ------
        BadRequest
            A condition makes no sense.
        """
        return self._every(searching.query_of(wanted, conditions))

    def _every(self, query: FilesQuery) -> Iterator[FileSummary]:
        while True:
            page = self.page(query)
            yield from page.files
            if page.next_cursor is None:
                return
            query = query.model_copy(update={"cursor": page.next_cursor})

    def page(self, query: FilesQuery | None = None) -> FilePage:
        """One page of a search; give ``next_cursor`` back as ``cursor`` for the next. It may be short or empty."""
        return self._run(lambda client: client.page(query))

    def describe(self, name: str) -> FileDescription:
        """Everything about one file: its copies with their paths, what it still owes, and its story."""
        return self._run(lambda client: client.describe(name))

    def members(self, name: str) -> Sequence[Member]:
        """Every member of a book, in the order of their paths."""
        return self._run(lambda client: client.members(name))

    def verify(self, path: Path | str, name: str, *, progress: OnProgress | None = None) -> Verified:
        """Compare a local file or book with the catalog; raises ChecksumMismatch or SizeMismatch."""
        return self._run(lambda client: client.verify(path, name, progress=progress))


def connect(where: str | None = None, *, user: str | None = None, password: str | None = None) -> Librarian:
    """A librarian by URL or by its name in ``~/.config/librarian/client.toml``; nothing is sent yet.

    Without *where* it is ``LIBRARIAN_URL`` or the default connection; ``LIBRARIAN_USER`` and ``LIBRARIAN_PASSWORD``
    fill in what is missing. It needs no closing.

    Examples
    --------
    ::

        from librarian.client import connect

        connect("nersc").upload("book", "2026/book")

    Raises
    ------
    ConfigurationError
        Nothing of that name, or a password that others could read.
    """
    return Librarian(connections.resolve(where, user=user, password=password))
