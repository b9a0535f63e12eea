"""Uploading many files: opened, copied and committed in lists.

One request and one durability barrier serve a thousand files; while one list is verified, the next one is copied.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from librarian.client import copying, uploading
from librarian.client.answers import error_of
from librarian.client.bringing import Way, checksum_of, shares_staging
from librarian.client.lanes import Halt, in_lanes
from librarian.client.outcomes import Uploaded
from librarian.client.progress import Meter, Phase
from librarian.client.uploading import ASK_AGAIN, WAIT, Task
from librarian.errors import LibrarianError, NameHeld
from librarian.states import Kind
from librarian.wire.uploads import CommitOne, Upload, UploadAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from librarian.checksum import Checksum
    from librarian.client.connection import Connection

#: Files per list: the librarian publishes and records a list at once.
LIST_FILES: Final = 1000
#: Bytes per list: so that large files do not wait for each other.
LIST_BYTES: Final = 4 * 1024**3
#: Lists under way at the same time: one being verified while the next is copied.
LISTS: Final = 2
#: Files that one trip to a thread copies.
TRIP_FILES: Final = 250
#: Threads that copy at the same time.
LANES: Final = 2

Outcome = Uploaded | LibrarianError


@dataclass(kw_only=True)
class _Item:
    """One task on its way through a list: opened, brought, committed, or ended early with an outcome."""

    task: Task
    upload: Upload | None = None
    checksum: Checksum | None = None
    outcome: Outcome | None = None


async def upload_many(connection: Connection, tasks: Sequence[Task], way: Way, meter: Meter) -> list[Outcome]:
    """Upload many sources; one outcome per task, in their order. Only an unreachable librarian raises."""
    items = [_Item(task=task) for task in tasks]

    async def one_list(some: Sequence[_Item]) -> None:
        await _open(connection, some)
        meter.enter(Phase.COPYING)
        await _bring(connection, some, way, meter)
        await _commit(connection, [item for item in some if item.checksum is not None])
        for _ in some:
            meter.add_file()

    await in_lanes(tuple(_lists(items)), one_list, lanes=LISTS)
    return [item.outcome for item in items if item.outcome is not None]


def _lists(items: Sequence[_Item]) -> Iterator[tuple[_Item, ...]]:
    some: list[_Item] = []
    size = 0
    for item in items:
        if some and (len(some) == LIST_FILES or size + item.task.source.size > LIST_BYTES):
            yield tuple(some)
            some, size = [], 0
        some.append(item)
        size += item.task.source.size
    if some:
        yield tuple(some)


async def _open(connection: Connection, items: Sequence[_Item]) -> None:
    answers = await connection.request(
        "POST", "/uploads", body=[item.task.opening for item in items], answer=list[UploadAnswer], repeats=True
    )
    for item, answer in zip(items, answers, strict=True):
        item.upload = answer.upload
        if answer.problem is not None:
            item.outcome = error_of(answer.problem, status=409)


async def _bring(connection: Connection, items: Sequence[_Item], way: Way, meter: Meter) -> None:
    """Bring what is open: small files in trips of many where the file system is shared, all else one by one."""
    together = await asyncio.to_thread(_shared_files, items, way)
    halt = Halt()

    def trip(some: Sequence[_Item]) -> None:
        for item in some:
            halt.check()
            _copy_one(item, way, meter)

    trips = [together[at : at + TRIP_FILES] for at in range(0, len(together), TRIP_FILES)]
    await in_lanes(trips, lambda some: halt.in_thread(trip, some), lanes=LANES)
    alone = [item for item in items if item.checksum is None and not _is_refused(item)]
    await in_lanes(alone, lambda item: _bring_alone(connection, item, way, meter), lanes=LANES)


def _is_refused(item: _Item) -> bool:
    return item.outcome is not None and not isinstance(item.outcome, NameHeld)


def _shared_files(items: Sequence[_Item], way: Way) -> list[_Item]:
    """The files among *items* that can be copied straight into staging; blocks on the disk."""
    by_store: dict[str, bool] = {}
    found: list[_Item] = []
    for item in items:
        opened, source = item.upload, item.task.source
        if opened is None or opened.state not in uploading.OPEN or source.kind is Kind.BOOK:
            continue
        if opened.store not in by_store:
            by_store[opened.store] = shares_staging(opened) if way.is_shared is None else way.is_shared
        if by_store[opened.store] and source.size < copying.LARGE:
            found.append(item)
    return found


def _copy_one(item: _Item, way: Way, meter: Meter) -> None:
    """Copy one file, in a thread; a failure is that file's alone."""
    source, opened = item.task.source, item.upload
    try:
        if opened is not None:
            digest = copying.copy_part(source.parts[0], opened.staging_path, way.algorithm, meter.add_bytes)
            item.checksum = checksum_of(source, way.algorithm, [digest])
    except LibrarianError as error:
        item.outcome = error


async def _bring_alone(connection: Connection, item: _Item, way: Way, meter: Meter) -> None:
    try:
        if isinstance(item.outcome, NameHeld):
            item.outcome = await uploading.settle_held(item.task, item.outcome, meter)
        elif item.upload is not None:
            item.checksum = await uploading.bring_or_measure(connection, item.task.source, item.upload, way, meter)
    except LibrarianError as error:
        item.outcome = error


async def _commit(connection: Connection, items: Sequence[_Item]) -> None:
    """Commit what was brought, and ask until each has its verdict."""
    pending = list(items)
    while pending:
        asked_at = asyncio.get_running_loop().time()
        answers = await connection.request(
            "POST",
            "/uploads/commit",
            body=[CommitOne(id=item.upload.id, checksum=item.checksum) for item in pending if item.upload],
            query={"wait": f"{WAIT.total_seconds():g}"},
            answer=list[UploadAnswer],
            repeats=True,
            silence=WAIT * 3,
        )
        for item, answer in zip(pending, answers, strict=True):
            _take_verdict(item, answer)
        pending = [item for item in pending if item.outcome is None]
        if pending and asyncio.get_running_loop().time() - asked_at < ASK_AGAIN.total_seconds():
            await asyncio.sleep(ASK_AGAIN.total_seconds())


def _take_verdict(item: _Item, answer: UploadAnswer) -> None:
    if answer.problem is not None:
        item.outcome = error_of(answer.problem, status=409)
    elif answer.upload is not None and answer.upload.state not in uploading.PENDING and item.checksum is not None:
        try:
            item.outcome = uploading.conclude(item.task, answer.upload, item.checksum)
        except LibrarianError as error:
            item.outcome = error
