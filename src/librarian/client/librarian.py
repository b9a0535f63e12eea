"""The public client: everything a user, a script, an admin command or another site asks of a librarian."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar

from librarian.client.address import Address
from librarian.client.connection import PATIENCE, Connection, Streamed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta
    from pathlib import Path
    from types import TracebackType

    from pydantic import BaseModel

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
    ) -> None:
        address = (
            where
            if isinstance(where, Address)
            else Address.parse(where, user=user, password=password, ca_file=ca_file)
        )
        self.connection = Connection(address, patience=patience, connections=connections)

    async def __aenter__(self) -> Self:
        await self.connection.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
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
    ) -> T:
        """Send *chunks* as the body; see ``Connection.stream_up``."""
        return await self.connection.stream_up(
            method, path, chunks, answer=answer, query=query, headers=headers, silence=silence
        )

    def stream_down(
        self, path: str, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[Streamed]:
        """GET *path* as a stream; see ``Connection.stream_down``."""
        return self.connection.stream_down(path, query=query, headers=headers)
