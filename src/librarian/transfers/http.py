"""The ``http`` engine: pushes content into the receiver's staging, many payloads per request, several at once.

Before it sends it asks what has arrived (of small files only when they were sent before), so that a dropped connection
costs what was in flight and nothing more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from librarian.errors import NoRoom, PeerUnavailable, SourceChanged
from librarian.guard import forbid_io_in_transaction
from librarian.names import Token
from librarian.states import Kind
from librarian.transfers import pieces
from librarian.transfers.tasks import InProcessEngine, Running, side_by_side
from librarian.wire.base import LIST_ITEMS
from librarian.wire.clones import ContentWritten, FrameRefusal, FrameTokens, StagedContents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from librarian.names import SiteName
    from librarian.transfers.base import Item
    from librarian.transfers.pace import Pace

#: Requests at once per job: two fill a core of Python; more help only where the link is long.
STREAMS: Final = 3
#: A request carries at least this much where there is so much, so that requests are few ...
LEAST_REQUEST_BYTES: Final = 4 * 1024**2
#: ... and at most this much, so that streams end together.
MOST_REQUEST_BYTES: Final = 256 * 1024**2
#: A file of so many bytes is sent at first without a look at what has arrived of it.
SMALL: Final = 64 * 1024
#: Refusals that the same bytes will meet again; the others pass.
_FINAL: Final = frozenset(
    {"not_found", "wrong_state", "too_large", "bad_name", "bad_request", "unsupported_member", "conflict"}
)


class PeerPort(Protocol):
    """What the engine needs of those who can call peers."""

    async def staged_content(self, peer: SiteName, tokens: Sequence[Token]) -> StagedContents:
        """What has arrived under *tokens*."""

    async def send_content(self, peer: SiteName, chunks: AsyncIterator[bytes]) -> ContentWritten:
        """Send one content stream."""


@dataclass(frozen=True, kw_only=True)
class _Request:
    """The pieces that one request carries, and the tokens they refer to by position."""

    tokens: tuple[Token, ...]
    pieces: tuple[pieces.Piece, ...]


class HttpEngine(InProcessEngine):
    """Pushes framed content to a reachable peer, and resumes in the middle of a member."""

    name: ClassVar[str] = "http"

    def __init__(
        self,
        port: PeerPort,
        *,
        on_change: Callable[[], None] = lambda: None,
        longest_pause: timedelta = timedelta(minutes=1),
        streams: int = STREAMS,
    ) -> None:
        super().__init__(on_change=on_change, longest_pause=longest_pause)
        self._port = port
        self._streams = streams

    async def move(self, running: Running) -> None:
        """Send what has not arrived yet."""
        forbid_io_in_transaction("send content")
        wanted = await self._missing(running)
        requests = iter(_requests(wanted, streams=self._streams))
        refused: list[FrameRefusal] = []

        async def stream() -> None:
            for request in requests:
                refused.extend(await self._send(running, request))

        await side_by_side([stream() for _ in range(self._streams)], name="http stream")
        _judge(running, refused)

    async def _missing(self, running: Running) -> list[pieces.Piece]:
        """The pieces that the receiver does not have yet; items it will not take are failed."""
        items = running.left
        # Small files are sent sooner than asked about; when that was cut off, only what is missing is sent again.
        whole = {item.token for item in items if running.tries == 1 and item.kind is Kind.FILE and item.size <= SMALL}
        asked = [item.token for item in items if item.token not in whole]
        there: dict[str, dict[str | None, int]] = {token: {} for token in whole}
        for start in range(0, len(asked), LIST_ITEMS):
            tokens = asked[start : start + LIST_ITEMS]
            answer = await self._port.staged_content(running.job.peer, tokens)
            there |= {c.token: {member.path: member.size for member in c.members} for c in answer.contents}
        arrived = {token: sum(members.values()) for token, members in there.items()}
        # Whatever the receiver says, no more than there is.
        running.bytes_done = sum(min(arrived.get(item.token, 0), item.size) for item in items)
        taken: list[Item] = []
        for item in items:
            if item.token in there:
                taken.append(item)
            else:
                running.fail(item, "the receiver takes no bytes for it any more")
        found, failures = await running.in_thread(pieces.missing, taken, there)
        for item, reason in failures:
            running.fail(item, reason)
        return found

    async def _send(self, running: Running, request: _Request) -> list[FrameRefusal]:
        written = await self._port.send_content(running.job.peer, self._body(running, request))
        return written.refused

    async def _body(self, running: Running, request: _Request) -> AsyncIterator[bytes]:
        yield FrameTokens.model_construct(tokens=list(request.tokens)).model_dump_json().encode() + b"\n"
        places = {token: place for place, token in enumerate(request.tokens)}
        chunks = pieces.Chunks(request.pieces, places)
        # One chunk is read ahead while the one before is sent.
        ahead = running.in_thread(chunks.read)
        while (chunk := await _read(ahead, chunks, running)) is not None:
            ahead = running.in_thread(chunks.read)
            async for part in _at_pace(chunk.data, running.pace):
                yield part
            running.moved(chunk.payload_bytes)


async def _at_pace(data: bytes, pace: Pace) -> AsyncIterator[bytes]:
    """*data* as fast as *pace* lets it go."""
    size = pace.part_bytes
    if size is None:
        yield data
        return
    for start in range(0, len(data), size):
        part = data[start : start + size]
        await asyncio.sleep(pace.book(len(part)))
        yield part


async def _read(
    ahead: asyncio.Future[pieces.Chunk | None], chunks: pieces.Chunks, running: Running
) -> pieces.Chunk | None:
    """The chunk that is being read; items that turn out to be unreadable are failed.

    Raises
    ------
    SourceChanged
        A source failed within a frame: the stream is broken off, and the rest is sent in another.
    """
    try:
        return await ahead
    except pieces.SourceFailed as error:
        raise SourceChanged(str(error), remedy="Verify that copy at the sender.") from error
    finally:
        for item, reason in chunks.take_failures():
            running.fail(item, reason)


def _requests(wanted: Sequence[pieces.Piece], *, streams: int) -> list[_Request]:
    """Deal *wanted* out into requests, in order; a large member is alone in its own."""
    total = sum(piece.left for piece in wanted)
    limit = min(max(total // streams + 1, LEAST_REQUEST_BYTES), MOST_REQUEST_BYTES)
    requests: list[_Request] = []
    batch: list[pieces.Piece] = []
    size = 0
    for piece in wanted:
        if batch and size + piece.left > limit:
            requests.append(_request(batch))
            batch, size = [], 0
        batch.append(piece)
        size += piece.left
    if batch:
        requests.append(_request(batch))
    return requests


def _request(batch: Sequence[pieces.Piece]) -> _Request:
    tokens = tuple(dict.fromkeys(piece.item.token for piece in batch))
    return _Request(tokens=tokens, pieces=tuple(batch))


def _judge(running: Running, refused: Sequence[FrameRefusal]) -> None:
    """Fail what would be refused again; let everything else be tried again.

    Raises
    ------
    PeerUnavailable, NoRoom
        Something was refused that may be taken later.
    """
    items = {item.token: item for item in running.left}
    passing: FrameRefusal | None = None
    for refusal in refused:
        item = items.get(Token(refusal.token)) if refusal.token else None
        if item is not None and refusal.problem.code in _FINAL:
            running.fail(item, f"{refusal.path or 'it'} was refused: {refusal.problem.message}")
        else:
            passing = refusal
    if passing is not None:
        kind = NoRoom if passing.problem.code == NoRoom.code else PeerUnavailable
        raise kind(
            f"{running.job.peer} cannot take content now: {passing.problem.message}", remedy=passing.problem.remedy
        )
