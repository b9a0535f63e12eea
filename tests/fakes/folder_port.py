"""A receiver of content streams that writes into a plain folder, and misbehaves on cue."""

from collections.abc import AsyncIterator
from pathlib import Path

from librarian.errors import PeerUnavailable
from librarian.web.frames import FrameReader
from librarian.wire.clones import (
    FRAME_HEADER_BYTES,
    ContentWritten,
    FrameHeader,
    FrameRefusal,
    FrameTokens,
    StagedContent,
    StagedContents,
    StagedMember,
)
from librarian.wire.problems import Problem


class FolderPort:
    """Stands for a peer: ``<staging>/<token>/payload`` is where content goes."""

    def __init__(self, staging: Path) -> None:
        self.staging = staging
        #: Connections still to be dropped, each after so many bytes of content.
        self.drops: list[int] = []
        #: Calls still to fail before anything is heard.
        self.away = 0
        #: Codes with which frames for a token are refused.
        self.refuses: dict[str, str] = {}
        #: Tokens of which this receiver knows nothing.
        self.forgotten: set[str] = set()
        self.received = 0
        self.streams = 0

    async def staged_content(self, peer, tokens) -> StagedContents:
        self._answer()
        contents = [
            StagedContent(token=token, members=list(self._members(token)))
            for token in tokens
            if token not in self.forgotten
        ]
        return StagedContents(contents=contents)

    async def send_content(self, peer, chunks: AsyncIterator[bytes]) -> ContentWritten:
        self._answer()
        self.streams += 1
        drop_after = self.drops.pop(0) if self.drops else None
        reader = FrameReader(aiter(chunks))
        tokens = FrameTokens.model_validate_json(await reader.line(2**20) or b"").tokens
        refused = []
        frames = size = 0
        while (line := await reader.line(FRAME_HEADER_BYTES)) is not None:
            header = FrameHeader.model_validate_json(line)
            token = tokens[header.token]
            code = "not_found" if token in self.forgotten else self.refuses.get(token)
            if code is not None:
                problem = Problem(code=code, message="refused on cue")
                refused.append(FrameRefusal(token=token, path=header.path, problem=problem))
                await reader.exactly(header.size)
                continue
            drop_after = await self._take(reader, token, header, drop_after)
            frames += 1
            size += header.size
        return ContentWritten(frames=frames, bytes=size, refused=refused)

    async def _take(self, reader: FrameReader, token: str, header: FrameHeader, drop_after: int | None) -> int | None:
        payload = self.staging / token / "payload"
        if header.directories is not None:
            for directory in ("", *header.directories):
                (payload / directory).mkdir(parents=True, exist_ok=True)
            return drop_after
        place = payload if header.path is None else payload / header.path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("r+b" if place.exists() else "wb") as file:
            assert header.offset <= file.seek(0, 2)
            file.seek(header.offset)
            file.truncate()
            async for piece in reader.pieces(header.size):
                if drop_after is not None and drop_after < len(piece):
                    file.write(piece[:drop_after])
                    raise PeerUnavailable("dropped on cue")
                file.write(piece)
                self.received += len(piece)
                if drop_after is not None:
                    drop_after -= len(piece)
        return drop_after

    def _members(self, token: str):
        payload = self.staging / token / "payload"
        if payload.is_file():
            yield StagedMember(path=None, size=payload.stat().st_size)
        elif payload.is_dir():
            for path in sorted(payload.rglob("*")):
                if path.is_file():
                    yield StagedMember(path=str(path.relative_to(payload)), size=path.stat().st_size)

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise PeerUnavailable("away on cue")
