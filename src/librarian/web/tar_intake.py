"""Tar intake: a book that comes as one tar stream is written into staging, many small members per trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian.web.untarring import Untar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from librarian.names import MemberPath, Token
    from librarian.stores.base import Store

#: Members up to this size are gathered; larger ones are streamed one by one.
SMALL_BYTES: Final = 256 * 1024
#: What is gathered at most before it is written.
GATHER_BYTES: Final = 4 * 1024**2
GATHER_ENTRIES: Final = 500


async def receive_tar(store: Store, token: Token, chunks: AsyncIterator[bytes], *, limit: int) -> None:
    """Write the members of the tar stream *chunks* into the book staged under *token*.

    Members that a stream names are overwritten, others stay. What arrived of a broken stream is kept, and may be
    sent again.

    Raises
    ------
    UnsupportedMember, TooLarge, BadRequest
        About the stream; see ``Untar.entries``.
    NoRoom, StoreUnavailable
        About the store.
    """
    tar = Untar(chunks, limit=limit)
    gathered = _Gathered(store, token)
    await store.make_book_directories(token, [])
    async for entry in tar.entries():
        if entry.is_directory:
            await gathered.add_directory(entry.path)
        elif entry.size <= SMALL_BYTES:
            await gathered.add_file(entry.path, await tar.whole())
        else:
            await store.write(token, entry.path, tar.content(), offset=0, limit=entry.size)
    await gathered.flush()


class _Gathered:
    """Small members and directories that are to be written in one trip."""

    def __init__(self, store: Store, token: Token) -> None:
        self._store = store
        self._token = token
        self._files: list[tuple[Token, MemberPath | None, bytes]] = []
        self._directories: list[MemberPath] = []
        self._bytes = 0

    async def add_directory(self, path: MemberPath) -> None:
        self._directories.append(path)
        await self._flush_if_full()

    async def add_file(self, path: MemberPath, content: bytes) -> None:
        self._files.append((self._token, path, content))
        self._bytes += len(content)
        await self._flush_if_full()

    async def _flush_if_full(self) -> None:
        if self._bytes >= GATHER_BYTES or len(self._files) + len(self._directories) >= GATHER_ENTRIES:
            await self.flush()

    async def flush(self) -> None:
        """Write what is gathered; raises the first refusal."""
        files, self._files, self._bytes = self._files, [], 0
        directories, self._directories = self._directories, []
        if directories:
            await self._store.make_book_directories(self._token, directories)
        if files:
            for refusal in await self._store.write_small(files):
                if refusal is not None:
                    raise refusal
