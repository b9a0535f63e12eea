"""The process that hashes: serves one job after another from the socket on its standard input.

A frame is two lengths, a JSON header and a body. Jobs: ``look`` measures files that are small, ``plan`` walks a book
into chunks, ``hash`` reads one chunk, ``fold`` makes a book's lines into its checksum. Chunks and lines pass through
the pool unopened, so the event loop never works through a hundred thousand members at once.

Started as ``python -m librarian.checksum_worker <pid of the pool>``, by the pool only.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import stat
import struct
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from librarian.checksum import (
    Algorithm,
    Checksum,
    Measured,
    MemberDigest,
    Reader,
    Seen,
    lines_checksum,
    look_at,
    measured_book,
    measured_file,
    member_line,
    open_beneath,
    open_book,
    walk_book,
)
from librarian.errors import Bug, LibrarianError, NotFound, SourceChanged, Unavailable, UnsupportedMember
from librarian.states import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: A measured payload, why not, or that it is not small: as seen for a file, None for a book.
Found: TypeAlias = "Measured | LibrarianError | Seen | None"
Header: TypeAlias = dict[str, str | int | None]

#: A payload up to this many bytes is measured in a thread: the trip to a process would cost more than its bytes.
SMALL_BYTES: Final = 1024 * 1024
#: ... and a book up to this many members.
SMALL_MEMBERS: Final = 256
#: Lengths of header and body in front of each frame.
LENGTHS: Final = struct.Struct(">II")
#: A chunk ends at the first member that brings it to this many bytes: about a second of a disk.
CHUNK_BYTES: Final = 128 * 1024 * 1024
#: ... or to this many members, about as long where each costs a millisecond to open.
CHUNK_MEMBERS: Final = 1000
#: Lines per frame of a fold's answer: what the event loop reads into members in about a millisecond.
SLICE_LINES: Final = 256
#: Seconds between two words about progress.
PROGRESS_SECONDS: Final = 0.1
#: Whoever hashes gives way to whoever serves.
NICENESS: Final = 10

_PR_SET_PDEATHSIG: Final = 1
_REFUSALS: Final = {each.code: each for each in (NotFound, SourceChanged, Unavailable, UnsupportedMember)}


def frame(header: Header, body: bytes = b"") -> bytes:
    """The bytes that carry *header* and *body*."""
    text = json.dumps(header).encode()
    return LENGTHS.pack(len(text), len(body)) + text + body


def pack_chunk(members: list[Seen]) -> bytes:
    """The body of a ``hash`` job for *members*."""
    return json.dumps(members).encode()


def measure_small(
    items: Sequence[tuple[Path, Algorithm]], stop: threading.Event, limit: int = SMALL_BYTES
) -> list[Found]:
    """Measure those of *items* with at most *limit* bytes, in this thread, until *stop*; answers per item, in order."""
    readers = {algorithm: Reader(algorithm) for algorithm in {algorithm for _, algorithm in items}}
    answers: list[Found] = []
    for path, algorithm in items:
        if stop.is_set():
            break
        try:
            answers.append(_measure_if_small(path, algorithm, readers[algorithm], limit))
        except LibrarianError as error:
            answers.append(error)
    return answers


def _measure_if_small(path: Path, algorithm: Algorithm, reader: Reader, limit: int) -> Measured | Seen | None:
    status = look_at(path)
    if stat.S_ISREG(status.st_mode):
        seen = Seen.of(str(path), status)
        if seen.size > limit:
            return seen
        return measured_file(seen.size, algorithm, reader.digest(seen, str(path)))
    root = open_book(path)
    try:
        members: list[MemberDigest] = []
        left = limit
        with closing(walk_book(root)) as walk:
            for seen, name, directory in walk:
                left -= seen.size
                if left < 0 or len(members) >= SMALL_MEMBERS:
                    return None
                members.append(reader.member(seen, name, directory))
        return measured_book(members, algorithm)
    finally:
        os.close(root)


def pack_found(found: Found) -> list[str | int] | None:
    """What a worker writes of *found*: a file's size and checksum, a refusal, a large file; None for any book."""
    if isinstance(found, Measured):
        return ["measured", found.size, found.checksum] if found.kind is Kind.FILE else None
    if isinstance(found, LibrarianError):
        return ["refused", found.code, found.message, found.remedy]
    return None if found is None else ["seen", *found]


def refusal_of(code: str, message: str, remedy: str) -> LibrarianError:
    """The refusal that a worker wrote."""
    return _REFUSALS.get(code, Bug)(message, remedy=remedy)


def unpack_found(written: list[str | int] | None) -> Found:
    """What ``pack_found`` was given, any book being None; raises Bug when it wrote no such thing."""
    match written:
        case None:
            return None
        case ["measured", int(size), str(checksum)]:
            return Measured(kind=Kind.FILE, size=size, checksum=Checksum.trusted(checksum))
        case ["seen", str(path), int(size), int(mtime_ns)]:
            return Seen(path, size, mtime_ns)
        case ["refused", str(code), str(message), str(remedy)]:
            return refusal_of(code, message, remedy)
    raise Bug(f"a worker answered {written!r:.120}")


class Pipe:
    """The worker's end of the socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, header: Header, body: bytes = b"") -> None:
        """Send one frame; blocks while the pool is busy elsewhere."""
        self._connection.sendall(frame(header, body))

    def receive(self) -> tuple[Header, bytes]:
        """Wait for one frame; raises EOFError when the pool is gone."""
        header_length, body_length = LENGTHS.unpack(self._read(LENGTHS.size))
        header = cast("Header", json.loads(self._read(header_length)))
        return header, self._read(body_length)

    def _read(self, count: int) -> bytes:
        block = bytearray(count)
        view = memoryview(block)
        while view:
            arrived = self._connection.recv_into(view)
            if not arrived:
                raise EOFError
            view = view[arrived:]
        return bytes(block)


class _Progress:
    """Sends the bytes read since it last spoke, not more often than is worth a frame."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._unsaid = 0
        self._spoke_at = time.monotonic()

    def add(self, count: int) -> None:
        self._unsaid += count
        if time.monotonic() - self._spoke_at >= PROGRESS_SECONDS:
            self._pipe.send({"progress": self._unsaid})
            self._unsaid = 0
            self._spoke_at = time.monotonic()


def _look(pipe: Pipe, limit: int, body: bytes) -> None:
    items = [(Path(path), Algorithm(algorithm)) for path, algorithm in json.loads(body)]
    found = measure_small(items, threading.Event(), limit)
    pipe.send({"done": None}, json.dumps([pack_found(each) for each in found]).encode())


def _plan(pipe: Pipe, book: Path) -> None:
    root = open_book(book)
    try:
        for members in _chunks(root):
            pipe.send({"chunk": sum(seen.size for seen in members)}, pack_chunk(members))
    finally:
        os.close(root)
    pipe.send({"done": None})


def _chunks(root: int) -> Iterator[list[Seen]]:
    members: list[Seen] = []
    size = 0
    for seen, _, _ in walk_book(root):
        # A huge member is a chunk alone: it is read from beginning to end by one worker, beside the others.
        if seen.size >= CHUNK_BYTES:
            yield [seen]
            continue
        members.append(seen)
        size += seen.size
        if size >= CHUNK_BYTES or len(members) >= CHUNK_MEMBERS:
            yield members
            members, size = [], 0
    if members:
        yield members


def _hash(pipe: Pipe, book: str | None, algorithm: Algorithm, chunk: bytes) -> None:
    members = [Seen(*each) for each in json.loads(chunk)]
    reader = Reader(algorithm, _Progress(pipe).add)
    if book is None:
        pipe.send({"done": None}, b"\n".join(reader.digest(seen, seen.path).encode() for seen in members))
        return
    root = open_book(Path(book))
    try:
        lines = [member_line(member) for member in _digests(root, members, reader)]
    finally:
        os.close(root)
    pipe.send({"done": None}, b"".join(lines))


def _digests(root: int, members: list[Seen], reader: Reader) -> Iterator[MemberDigest]:
    prefix, directory = "", os.dup(root)
    try:
        for seen in members:
            cut = seen.path.rfind("/") + 1
            # Members come directory by directory, so that one descriptor serves a whole run of them.
            if seen.path[:cut] != prefix and cut < len(seen.path):
                deeper = open_beneath(root, seen.path[:cut])
                os.close(directory)
                prefix, directory = seen.path[:cut], deeper
            yield reader.member(seen, seen.path[cut:], directory)
    finally:
        os.close(directory)


def _fold(pipe: Pipe, algorithm: Algorithm, parts: int) -> None:
    lines: list[bytes] = []
    for _ in range(parts):
        _, text = pipe.receive()
        lines.extend(text.splitlines(keepends=True))
    lines.sort()
    for start in range(0, len(lines), SLICE_LINES):
        pipe.send({"lines": start}, b"".join(lines[start : start + SLICE_LINES]))
    pipe.send({"done": lines_checksum(lines, algorithm)})


def serve_job(pipe: Pipe) -> None:
    """Wait for one job and carry it out; what librarian refuses is answered, anything else ends the process."""
    header, body = pipe.receive()
    try:
        match header["job"]:
            case "look":
                _look(pipe, cast("int", header["limit"]), body)
            case "plan":
                _plan(pipe, Path(str(header["book"])))
            case "hash":
                book = header["book"]
                _hash(pipe, None if book is None else str(book), Algorithm(str(header["algorithm"])), body)
            case "fold":
                _fold(pipe, Algorithm(str(header["algorithm"])), cast("int", header["parts"]))
    except LibrarianError as error:
        pipe.send({"error": error.code, "message": error.message, "remedy": error.remedy})


def _die_with(parent: int) -> None:
    # A worker that outlives a killed server would go on reading for hours. The second look is for a
    # parent that was gone before the kernel was asked.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    """Serve jobs until the pool closes the socket."""
    # Ctrl-C and a service manager reach the whole group; when to end is the pool's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with(int(sys.argv[1]))
    os.nice(NICENESS)
    pipe = Pipe(socket.socket(fileno=0))
    while True:
        try:
            serve_job(pipe)
        except (EOFError, ConnectionError):
            return


if __name__ == "__main__":
    main()
