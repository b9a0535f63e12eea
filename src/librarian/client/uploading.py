"""Uploading: open, bring the bytes, commit, and wait until the librarian has verified.

Every step may be repeated: an upload that was interrupted anywhere, even by the death of the caller, goes on when
the same source is uploaded again under the same name.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from librarian.checksum import Checksum
from librarian.client.answers import error_of
from librarian.client.bringing import bring, measure
from librarian.client.outcomes import Uploaded
from librarian.client.progress import Phase
from librarian.errors import Bug, ChecksumMismatch, Conflict, NameHeld, NotFound, SizeMismatch
from librarian.states import Kind, TransferState
from librarian.wire.uploads import CommitUpload, OpenUpload, Upload

if TYPE_CHECKING:
    from librarian.client.bringing import Way
    from librarian.client.connection import Connection
    from librarian.client.progress import Meter
    from librarian.client.sources import Source


#: How long one commit waits for the verdict before it asks again.
WAIT: Final = timedelta(seconds=30)
#: Between two questions when the librarian answers at once without a verdict.
ASK_AGAIN: Final = timedelta(seconds=0.2)
#: An upload that takes bytes.
OPEN: Final = (TransferState.INITIATED, TransferState.ONGOING)
#: An upload whose verdict is still to come.
PENDING: Final = (TransferState.STAGED, TransferState.INGESTING)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One source under one name."""

    source: Source
    name: str

    @property
    def opening(self) -> OpenUpload:
        """The request that opens it."""
        return OpenUpload(name=self.name, size=self.source.size, kind=self.source.kind.value)


async def upload(connection: Connection, task: Task, way: Way, meter: Meter) -> Uploaded:
    """Upload one source, and return when the librarian has verified it.

    Raises
    ------
    LibrarianError
        What the librarian refused, SourceChanged, or PeerUnavailable.
    """
    try:
        return await _upload_once(connection, task, way, meter)
    except (ChecksumMismatch, SizeMismatch, NotFound):
        # What an earlier, interrupted try left in staging may have been of another source; and a librarian whose
        # catalog came back from a backup may have forgotten the upload: begin afresh, once.
        meter.restart()
        return await _upload_once(connection, task, way, meter)


async def _upload_once(connection: Connection, task: Task, way: Way, meter: Meter) -> Uploaded:
    try:
        opened = await connection.request("POST", "/uploads", body=task.opening, answer=Upload, repeats=True)
    except NameHeld as held:
        return await settle_held(task, held, meter)
    checksum = await bring_or_measure(connection, task.source, opened, way, meter)
    meter.enter(Phase.VERIFYING)
    return conclude(task, await commit(connection, opened, checksum), checksum)


async def bring_or_measure(connection: Connection, source: Source, opened: Upload, way: Way, meter: Meter) -> Checksum:
    """Bring the bytes; where the last caller went away after its commit they are there, and are only compared."""
    if opened.state in OPEN:
        return await bring(connection, source, opened, way, meter)
    theirs = Checksum(opened.checksum).algorithm if opened.checksum else way.algorithm
    return await measure(source, theirs, meter)


async def settle_held(task: Task, held: NameHeld, meter: Meter) -> Uploaded:
    """The name is held: success when the source is the very same, else the refusal.

    Raises
    ------
    NameHeld
        It differs, in size or (measured in the librarian's algorithm) in checksum.
    """
    size, stated = held.details.get("size"), held.details.get("checksum")
    if size != task.source.size or not isinstance(stated, str):
        raise held
    theirs = Checksum(stated)
    if theirs.is_book is not (task.source.kind is Kind.BOOK):
        raise held
    if await measure(task.source, theirs.algorithm, meter) != theirs:
        raise held
    return Uploaded(name=task.name, kind=task.source.kind, size=task.source.size, checksum=theirs, was_held=True)


async def commit(connection: Connection, opened: Upload, checksum: Checksum) -> Upload:
    """Commit an upload and wait for the verdict, however long the librarian measures."""
    while True:
        asked_at = asyncio.get_running_loop().time()
        found = await connection.request(
            "POST",
            f"/uploads/{opened.id}/commit",
            body=CommitUpload(checksum=checksum),
            query={"wait": f"{WAIT.total_seconds():g}"},
            answer=Upload,
            repeats=True,
            silence=WAIT * 3,
        )
        if found.state not in PENDING:
            return found
        if asyncio.get_running_loop().time() - asked_at < ASK_AGAIN.total_seconds():
            await asyncio.sleep(ASK_AGAIN.total_seconds())


def conclude(task: Task, final: Upload, checksum: Checksum) -> Uploaded:
    """What a settled upload means to the caller.

    Raises
    ------
    LibrarianError
        Why it failed; ChecksumMismatch when the librarian holds something else than the source.
    """
    match final.state:
        case TransferState.COMPLETED:
            if final.checksum is not None and Checksum(final.checksum).algorithm is checksum.algorithm:
                _refuse_other(task, Checksum(final.checksum), checksum)
            return Uploaded(name=task.name, kind=task.source.kind, size=task.source.size, checksum=checksum)
        case TransferState.FAILED if final.problem is not None:
            raise error_of(final.problem, status=422)
        case TransferState.CANCELLED:
            raise Conflict(f"the upload of {task.name!r} was cancelled", remedy="Upload it again.")
        case _:
            raise Bug(f"the upload of {task.name!r} ended as {final.state} without a reason")


def _refuse_other(task: Task, theirs: Checksum, ours: Checksum) -> None:
    if theirs != ours:
        raise ChecksumMismatch(
            f"{task.name!r} was uploaded meanwhile with the checksum {theirs}, the source has {ours}",
            remedy="Choose another name, or compare the two.",
        )
