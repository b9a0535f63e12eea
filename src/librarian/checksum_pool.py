"""Measures payloads without holding up the event loop: large ones in worker processes, small ones in a thread.

Workers are exec'd, never forked (a forked orphan keeps locks and ports), run niced, start when first needed, stay,
and die with the thread that started them, which is the event loop's. The members of a book are hashed in chunks by
several workers side by side.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Self, cast

import anyio.to_thread
from anyio import CapacityLimiter

from librarian import guard
from librarian.checksum import Algorithm, Checksum, Measured, measured_file, parse_lines
from librarian.checksum_worker import (
    LENGTHS,
    SMALL_BYTES,
    Header,
    frame,
    measure_small,
    pack_chunk,
    refusal_of,
    unpack_found,
)
from librarian.errors import Draining, LibrarianError, Unavailable
from librarian.states import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from librarian.checksum import MemberDigest, Seen
    from librarian.checksum_worker import Found

log = logging.getLogger(__name__)

#: Payloads that one trip to a thread looks at. More go to the workers: two threads would wait for each other.
TRIP_ITEMS: Final = 1024
#: Payloads that one trip to a worker looks at; its answer is read within a millisecond.
SLICE_ITEMS: Final = 128
#: Files of many that are at most so large go to a worker in groups; a group ends when it has GROUP_BYTES.
GROUPED_BYTES: Final = 16 * 1024 * 1024
GROUP_BYTES: Final = 16 * 1024 * 1024
#: A chunk is given to this many workers before its loss is no accident.
ATTEMPTS: Final = 2
#: Seconds that a killed worker may take to end; one in a dead mount never does.
END_SECONDS: Final = 2.0


class _WorkerLost(Exception):
    """A worker ended in the middle of a job."""


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """The last frame of a job, and the frames before it."""

    done: str | int | None
    body: bytes
    frames: list[tuple[Header, bytes]]


@dataclass(kw_only=True)
class _Act:
    """One act of measuring as its caller sees it: bytes so far, and the step midway."""

    on_progress: Callable[[int], None] | None = None
    done: int = 0
    reported: int = 0
    is_midway: bool = False

    def advance(self, count: int) -> None:
        """Count bytes as hashed, or with a negative *count* as to be hashed again; the report never falls."""
        self.done += count
        self.pass_midway()
        if self.on_progress is not None and self.done > self.reported:
            self.on_progress(self.done)
        self.reported = max(self.reported, self.done)

    def pass_midway(self) -> None:
        """Pass the step at which crash tests cut the power, once per act."""
        if not self.is_midway:
            self.is_midway = True
            guard.step("half hashed")


def _hash_job(book: str | None, algorithm: Algorithm) -> Header:
    return {"job": "hash", "book": book, "algorithm": algorithm}


def _groups(large: Mapping[int, Seen | None]) -> Iterator[list[int]]:
    """The files of middling size in *large*, so many together as are worth a trip to a worker."""
    group: list[int] = []
    size = 0
    for index, seen in large.items():
        if seen is None or seen.size > GROUPED_BYTES:
            continue
        group.append(index)
        size += seen.size
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _await_ends(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("Cannot end worker %s: it hangs in the kernel, perhaps in a dead mount", process.pid)


class _Worker:
    """A worker process, and our end of the socket to it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        # -P: a file named like a library in the current directory is not that library.
        command = (sys.executable, "-P", "-m", "librarian.checksum_worker", str(os.getpid()))
        try:
            self.process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)  # noqa: S603 - ours
        except OSError as error:
            self._socket.close()
            raise Unavailable(
                f"Cannot start a worker that hashes: {error.strerror}",
                remedy="Look at the limits on processes, memory and open files of the server's account.",
            ) from error
        finally:
            theirs.close()

    async def ask(self, header: Header, bodies: Sequence[bytes], act: _Act, *, size: int) -> _Answer | LibrarianError:
        """Have one job done: *bodies* are its frames, *size* the bytes it reads. One that was cut off: end the worker.

        Raises
        ------
        _WorkerLost
            The process ended; what it had counted as hashed is taken back.
        """
        counted = 0
        frames: list[tuple[Header, bytes]] = []
        try:
            for body in bodies:
                await asyncio.get_running_loop().sock_sendall(self._socket, frame(header, body))
            while True:
                answer, body = await self._receive()
                if "error" in answer:
                    return refusal_of(str(answer["error"]), str(answer["message"]), str(answer["remedy"]))
                if "done" in answer:
                    act.advance(size - counted)
                    return _Answer(done=answer["done"], body=body, frames=frames)
                if "progress" in answer:
                    counted += cast("int", answer["progress"])
                    act.advance(cast("int", answer["progress"]))
                else:
                    frames.append((answer, body))
        except (OSError, EOFError) as error:
            act.advance(-counted)
            raise _WorkerLost(f"worker {self.process.pid}") from error

    async def _receive(self) -> tuple[Header, bytes]:
        header_length, body_length = LENGTHS.unpack(await self._read(LENGTHS.size))
        header = cast("Header", json.loads(await self._read(header_length)))
        return header, await self._read(body_length)

    async def _read(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        block = bytearray(count)
        view = memoryview(block)
        while view:
            arrived = await loop.sock_recv_into(self._socket, view)
            if not arrived:
                raise EOFError
            view = view[arrived:]
        return bytes(block)

    def end(self) -> None:
        """Kill the process, whatever it is doing. A repeat does nothing."""
        self.process.kill()
        self._socket.close()


class ChecksumPool:
    """Bounded worker processes and threads that measure; an async context manager.

    Every method may be cancelled: the work then stops, in the worker too. A payload on a dead mount holds up its
    own caller only, until that caller gives up.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._is_open = False
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._ended: list[subprocess.Popen[bytes]] = []
        self._slots = asyncio.Semaphore(workers)
        self._threads = CapacityLimiter(workers)

    async def __aenter__(self) -> Self:
        self._is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_open = False
        for worker in self._idle:
            self._end(worker)
        self._idle.clear()
        for worker in self._busy:
            # Its caller reads from the socket, meets the end of it, and is told that we are draining.
            worker.process.kill()
            self._ended.append(worker.process)
        await anyio.to_thread.run_sync(_await_ends, tuple(self._ended), abandon_on_cancel=True)

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """The process ids of all workers, idle and busy."""
        return tuple(worker.process.pid for worker in (*self._idle, *self._busy))

    @property
    def busy_pids(self) -> tuple[int, ...]:
        """The process ids of the workers that are at a job now."""
        return tuple(worker.process.pid for worker in self._busy)

    async def measure(
        self, path: Path, algorithm: Algorithm, *, on_progress: Callable[[int], None] | None = None
    ) -> Measured:
        """Read the payload at *path* and measure it; *on_progress* hears the bytes hashed so far, never fewer.

        Raises
        ------
        NotFound, UnsupportedMember, SourceChanged
            As ``measure_blocking`` does.
        Unavailable
            The file system refused to read, workers cannot start or keep dying, or the pool is closed (Draining).
        """
        guard.forbid_io_in_transaction("measure")
        act = _Act(on_progress=on_progress)
        (found,) = await self._look([(path, algorithm)])
        if isinstance(found, LibrarianError):
            raise found
        if isinstance(found, Measured):
            act.advance(found.size)
            return found
        return await self._measure_large(path, algorithm, found, act)

    async def measure_many(
        self, items: Sequence[Path | tuple[Path, Algorithm]], algorithm: Algorithm = Algorithm.XXH3
    ) -> list[Measured | LibrarianError]:
        """Measure many payloads, each in its own algorithm or else in *algorithm*; answers per item, in order."""
        guard.forbid_io_in_transaction("measure")
        act = _Act()
        pairs = [item if isinstance(item, tuple) else (item, algorithm) for item in items]
        answers: dict[int, Measured | LibrarianError] = {}
        large: dict[int, Seen | None] = {}

        async def look(ask: Callable[[list[tuple[Path, Algorithm]]], Awaitable[list[Found]]], batch: list[int]) -> None:
            for index, found in zip(batch, await ask([pairs[index] for index in batch]), strict=True):
                if isinstance(found, (Measured, LibrarianError)):
                    answers[index] = found
                else:
                    large[index] = found

        async def measure_one(index: int) -> None:
            try:
                answers[index] = await self._measure_large(*pairs[index], large[index], act)
            except LibrarianError as error:
                answers[index] = error

        everything = list(range(len(pairs)))
        if len(pairs) <= TRIP_ITEMS:
            await look(self._look, everything)
        else:
            slices = (everything[start : start + SLICE_ITEMS] for start in everything[::SLICE_ITEMS])
            await self._side_by_side([partial(look, self._look_in_worker, each) for each in slices])
        act.pass_midway()
        ask = partial(self._look_in_worker, limit=GROUPED_BYTES)
        await self._side_by_side([partial(look, ask, group) for group in _groups(large)])
        await self._side_by_side([partial(measure_one, index) for index in large if index not in answers])
        return [answers[index] for index in everything]

    async def _look(self, items: Sequence[tuple[Path, Algorithm]]) -> list[Found]:
        stop = threading.Event()
        try:
            return await anyio.to_thread.run_sync(
                measure_small, items, stop, limiter=self._threads, abandon_on_cancel=True
            )
        finally:
            stop.set()

    async def _look_in_worker(
        self, items: Sequence[tuple[Path, Algorithm]], *, limit: int = SMALL_BYTES
    ) -> list[Found]:
        body = json.dumps([(str(path), algorithm) for path, algorithm in items]).encode()
        try:
            answer = await self._run({"job": "look", "limit": limit}, [body], _Act(is_midway=True))
        except LibrarianError as error:
            return [error] * len(items)
        return [unpack_found(each) for each in json.loads(answer.body)]

    async def _measure_large(self, path: Path, algorithm: Algorithm, found: Seen | None, act: _Act) -> Measured:
        if found is not None:
            answer = await self._run(_hash_job(None, algorithm), [pack_chunk([found])], act, size=found.size)
            return measured_file(found.size, algorithm, answer.body.decode())
        plan = await self._run({"job": "plan", "book": str(path)}, [b""], act)
        lines: list[bytes] = []

        async def hash_chunk(size: int, chunk: bytes) -> None:
            answer = await self._run(_hash_job(str(path), algorithm), [chunk], act, size=size)
            lines.append(answer.body)

        # The largest first: a huge member is one chunk, and the others fit beside it.
        chunks = sorted(((cast("int", header["chunk"]), body) for header, body in plan.frames), reverse=True)
        await self._side_by_side([partial(hash_chunk, *each) for each in chunks])
        fold: Header = {"job": "fold", "algorithm": algorithm, "parts": len(lines)}
        folded = await self._run(fold, [b"", *lines], act)
        members: list[MemberDigest] = []
        for _, text in folded.frames:
            members.extend(parse_lines(text))
            await asyncio.sleep(0)
        size = sum(size for size, _ in chunks)
        checksum = Checksum.trusted(str(folded.done))
        return Measured(kind=Kind.BOOK, size=size, checksum=checksum, members=tuple(members))

    async def _run(self, header: Header, bodies: Sequence[bytes], act: _Act, *, size: int = 0) -> _Answer:
        for _ in range(ATTEMPTS):
            try:
                async with self._borrowed() as worker:
                    answer = await worker.ask(header, bodies, act, size=size)
            except _WorkerLost as lost:
                log.warning("Cannot finish a chunk: %s ended in the middle of it", lost)
                continue
            if isinstance(answer, LibrarianError):
                raise answer
            return answer
        raise Unavailable(
            f"{ATTEMPTS} workers in a row ended while they hashed",
            remedy="Look into the kernel's log for a process that was killed for want of memory.",
        )

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[_Worker]:
        async with self._slots:
            worker = self._next_worker()
            self._busy.add(worker)
            try:
                yield worker
            except BaseException:
                # Cancelled, or lost: it may still be reading, and what it says next answers nobody.
                self._end(worker)
                raise
            else:
                self._idle.append(worker)
            finally:
                self._busy.discard(worker)

    def _next_worker(self) -> _Worker:
        if not self._is_open:
            raise Draining("the pool that hashes is closed", remedy="Ask again when the server is back.")
        self._ended = [process for process in self._ended if process.poll() is None]
        while self._idle:
            worker = self._idle.pop()
            if worker.process.poll() is None:
                return worker
            self._end(worker)
        return _Worker()

    def _end(self, worker: _Worker) -> None:
        worker.end()
        self._ended.append(worker.process)

    async def _side_by_side(self, jobs: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Await *jobs*, as many at a time as there are workers; the first failure ends all, and is raised alone."""
        pending = iter(jobs)

        async def take() -> None:
            for job in pending:
                await job()

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(min(self._workers, len(jobs))):
                    group.create_task(take(), name=f"checksum-{number}")
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
