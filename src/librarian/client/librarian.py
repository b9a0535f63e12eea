"""The public client: everything a user, a script, an admin command or another site asks of a librarian."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar, Unpack

from librarian.checksum import Algorithm, Checksum
from librarian.client import bringing, downloading, many, searching, uploading
from librarian.client.address import Address
from librarian.client.answers import ANSWER_BYTES
from librarian.client.connection import PATIENCE, Connection, Streamed, segment
from librarian.client.outcomes import Downloaded, SomeFailed, Uploaded, Verified
from librarian.client.progress import Meter, Phase
from librarian.client.sources import survey
from librarian.errors import ChecksumMismatch, LibrarianError, SizeMismatch
from librarian.names import FileName
from librarian.wire.files import FileDescription, FilePage, FilesQuery, FileSummary, Member
from librarian.wire.site import SiteDescription

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from pydantic import BaseModel

    from librarian.client.progress import OnProgress
    from librarian.client.searching import Conditions

#: How long a broken connection is resumed without any progress before an upload or download gives up.
RESUME_FOR: Final = timedelta(minutes=2)

T = TypeVar("T")


class LibrarianClient:
    """A librarian, as seen from elsewhere. Open it with ``async with``; use it from one event loop.

    Every method raises the LibrarianError that the librarian named (``NameHeld``, ``NoRoom``, …), or
    PeerUnavailable when it cannot be reached.

    Examples
    --------
    ::

        async with LibrarianClient("https://archive.example.org", user="ana", password=secret) as librarian:
            await librarian.upload(Path("book"), "2026/11/book-001")
    """

    def __init__(
        self,
        where: str | Address,
        *,
        user: str | None = None,
        password: str | None = None,
        ca_file: Path | None = None,
        patience: timedelta = PATIENCE,
        connections: int = 8,
        shared: bool | None = None,
    ) -> None:
        """Remember where; nothing is sent yet.

        Parameters
        ----------
        ca_file: the certificate authority that signed the librarian's certificate, when the system does not know it.
        patience: how long a request is repeated while the librarian is away.
        shared: whether its staging may be written directly; None: found out by looking for a probe file.
        """
        address = (
            where if isinstance(where, Address) else Address.parse(where, user=user, password=password, ca_file=ca_file)
        )
        self.connection = Connection(address, patience=patience, connections=connections)
        self._shared = shared
        self._resume_for = max(patience, RESUME_FOR) if patience else patience

    async def __aenter__(self) -> Self:
        await self.connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.connection.close()

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
        answer_bytes: int = ANSWER_BYTES,
    ) -> T:
        """Send one request; see ``Connection.request``."""
        return await self.connection.request(
            method,
            path,
            answer=answer,
            body=body,
            query=query,
            repeats=repeats,
            patience=patience,
            silence=silence,
            answer_bytes=answer_bytes,
        )

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
        answer_bytes: int = ANSWER_BYTES,
    ) -> T:
        """Send *chunks* as the body; see ``Connection.stream_up``."""
        return await self.connection.stream_up(
            method,
            path,
            chunks,
            answer=answer,
            query=query,
            headers=headers,
            silence=silence,
            answer_bytes=answer_bytes,
        )

    def stream_down(
        self, path: str, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[Streamed]:
        """GET *path* as a stream; see ``Connection.stream_down``."""
        return self.connection.stream_down(path, query=query, headers=headers)

    async def ping(self) -> SiteDescription:
        """Ask who answers, what it speaks, and who we are there."""
        return await self.request("GET", "/site", answer=SiteDescription)

    async def upload(
        self,
        source: Path | str,
        name: str,
        *,
        algorithm: Algorithm = Algorithm.XXH3,
        progress: OnProgress | None = None,
    ) -> Uploaded:
        """Upload a file, or a directory as a book, and return when the librarian has verified it.

        The source is read once: it is measured while it is copied. Where the librarian's staging is on a shared file
        system the bytes are copied there, else they are sent over HTTP; broken connections are resumed. A name that
        is held with the very same content is a success. A repeat after any interruption goes on where it stopped.

        Raises
        ------
        NameHeld, NameBusy, NameNested
            The name is not free.
        SourceChanged
            The source was written while it was read.
        LibrarianError
            Whatever else the librarian refused; PeerUnavailable when it cannot be reached.
        """
        task = uploading.Task(source=await asyncio.to_thread(survey, source), name=FileName(name))
        meter = Meter(progress, total_bytes=task.source.size)
        async with meter.reporting():
            done = await uploading.upload(self.connection, task, self._way(algorithm), meter)
            meter.add_file()
            meter.enter(Phase.DONE)
            return done

    async def upload_many(
        self,
        items: Iterable[tuple[Path | str, str]],
        *,
        algorithm: Algorithm = Algorithm.XXH3,
        progress: OnProgress | None = None,
    ) -> list[Uploaded]:
        """Upload many files (or books) in lists; far faster than one after the other when they are small.

        Returns
        -------
        One per item, in the order given, when all are verified.

        Raises
        ------
        SomeFailed
            After all others were brought to their end; ``outcomes`` tells about each.
        """
        wanted = [(source, FileName(name)) for source, name in items]
        tasks = await asyncio.to_thread(_survey_all, wanted)
        good = [task for task in tasks if isinstance(task, uploading.Task)]
        meter = Meter(progress, total_bytes=sum(task.source.size for task in good), total_files=len(wanted))
        async with meter.reporting():
            found = iter(await many.upload_many(self.connection, good, self._way(algorithm), meter))
            meter.enter(Phase.DONE)
        outcomes = [next(found) if isinstance(task, uploading.Task) else task for task in tasks]
        done = [outcome for outcome in outcomes if isinstance(outcome, Uploaded)]
        if len(done) < len(outcomes):
            raise SomeFailed(outcomes)
        return done

    def _way(self, algorithm: Algorithm) -> bringing.Way:
        return bringing.Way(algorithm=algorithm, is_shared=self._shared, patience=self._resume_for)

    async def download(self, name: str, target: Path | str, *, progress: OnProgress | None = None) -> Downloaded:
        """Fetch a file or book to *target*, verified against its checksum; see ``downloading.download``."""
        meter = Meter(progress)
        async with meter.reporting():
            done = await downloading.download(
                self.connection, FileName(name), Path(target), meter, patience=self._resume_for
            )
            meter.add_file()
            meter.enter(Phase.DONE)
            return done

    def search(
        self, wanted: str | FilesQuery | None = None, **conditions: Unpack[Conditions]
    ) -> AsyncIterator[FileSummary]:
        """Every file that matches *wanted* (a glob over whole names, or a query) and all *conditions*.

        Nothing is asked before the iteration begins, and page after page as it goes on.

        Examples
        --------
        ::

            async for file in librarian.search("2026/11/*", kind="book"):
                print(file.name, file.size)

        Raises
        ------
        BadRequest
            A condition makes no sense.
        """
        return self._every(searching.query_of(wanted, conditions))

    async def _every(self, query: FilesQuery) -> AsyncIterator[FileSummary]:
        while True:
            page = await self.page(query)
            for file in page.files:
                yield file
            if page.next_cursor is None:
                return
            query = query.model_copy(update={"cursor": page.next_cursor})

    async def page(self, query: FilesQuery | None = None) -> FilePage:
        """One page of a search; give ``next_cursor`` back as ``cursor`` for the next. It may be short or empty."""
        asked = (query or FilesQuery()).model_dump(mode="json", exclude_none=True)
        return await self.request(
            "GET", "/files", query={key: str(value) for key, value in asked.items()}, answer=FilePage
        )

    async def describe(self, name: str) -> FileDescription:
        """Everything about one file: its copies with their paths, what it still owes, and its story."""
        return await self.request("GET", f"/files/{segment(FileName(name))}", answer=FileDescription)

    async def members(self, name: str) -> Sequence[Member]:
        """Every member of a book, in the order of their paths."""
        return await downloading.list_members(self.connection, FileName(name))

    async def verify(self, path: Path | str, name: str, *, progress: OnProgress | None = None) -> Verified:
        """Measure a local file or book and compare it with what the catalog says about *name*.

        Raises
        ------
        SizeMismatch, ChecksumMismatch
            They differ.
        """
        described = await self.describe(name)
        expected = Checksum(described.checksum)
        source = await asyncio.to_thread(survey, path)
        if source.kind is not described.kind or source.size != described.size:
            raise SizeMismatch(
                f"{str(path)!r} is a {source.kind} of {source.size:,} bytes, {name!r} a {described.kind} of "
                f"{described.size:,}",
                remedy="Download it again, or look for the right name.",
            )
        meter = Meter(progress, total_bytes=source.size)
        async with meter.reporting():
            measured = await bringing.measure(source, expected.algorithm, meter)
            meter.add_file()
            meter.enter(Phase.DONE)
        if measured != expected:
            raise ChecksumMismatch(
                f"{str(path)!r} has the checksum {measured}, {name!r} has {expected}",
                remedy="Download it again, or look for the right name.",
            )
        return Verified(name=name, path=Path(path), size=source.size, checksum=expected)


def _survey_all(items: Sequence[tuple[Path | str, FileName]]) -> list[uploading.Task | LibrarianError]:
    found: list[uploading.Task | LibrarianError] = []
    for source, name in items:
        try:
            found.append(uploading.Task(source=survey(source), name=name))
        except LibrarianError as error:
            found.append(error)
    return found
