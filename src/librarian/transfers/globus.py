"""The ``globus`` engine: hands batches to Globus Transfer, which moves the bytes between collections.

Nothing runs here; Globus does the work, whether we live or not. What the process knows of a job is lost with it:
after a restart its handle is LOST, the job is submitted again under the same key, and Globus, which takes a
submission once, answers with the task that it has. See docs/how-to/connect-to-globus.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Final

import globus_sdk

from librarian.errors import Conflict, EngineFull, LibrarianError, PeerUnavailable
from librarian.states import Kind
from librarian.timing import utc_now
from librarian.transfers.base import Phase, Progress, TransferEngine
from librarian.transfers.globus_desk import full
from librarian.transfers.globus_hauls import Haul, Order, order_of
from librarian.transfers.globus_judge import LIFETIME, LONGEST_PAUSE, PATIENCE, Judge, Pages

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from librarian.names import SiteName, StoreName
    from librarian.transfers.base import Job
    from librarian.transfers.globus_desk import Desk
    from librarian.transfers.globus_documents import TaskNote
    from librarian.transfers.globus_places import Collection

log = logging.getLogger(__name__)

#: How long after a submission to ask early, in seconds: small batches end at once.
ASK_EARLY: Final = (0.2, 0.35, 0.5, 0.7, 0.9, 1.2, 1.5)
#: Tasks of one account that may wait at Globus at once.
MOST_TASKS: Final = 100
#: For so long nothing is submitted after Globus would take no more, in seconds.
FULL_REST: Final = 2.0
#: A submission whose answer was lost may still be on its way to Globus for so long.
SETTLING: Final = timedelta(minutes=1)
#: Ended or stopped jobs that were never asked for again; more are forgotten, and their batches submitted again.
MOST_ENDED: Final = 1000
#: Pages that are read in one round of questions of tasks that have ended; each tells of a thousand items.
MOST_PAGES: Final = 20


class GlobusEngine(TransferEngine):
    """Moves batches with Globus Transfer, as one account."""

    name: ClassVar[str] = "globus"

    def __init__(
        self,
        desk: Desk,
        *,
        site: str,
        collections: Sequence[Collection],
        on_change: Callable[[], None] = lambda: None,
        patience: timedelta = PATIENCE,
        longest_pause: timedelta = LONGEST_PAUSE,
        settling: timedelta = SETTLING,
    ) -> None:
        self._desk = desk
        self._site = site
        self._collections = tuple(collections)
        self._on_change = on_change
        self._judge = Judge(desk, patience=patience, longest_pause=longest_pause)
        self._settling = settling
        self._orders: dict[str, Order] = {}
        self._ended: dict[str, Progress] = {}
        self._stopped: dict[str, None] = {}
        #: When what has a label was last submitted without an answer.
        self._doubts: dict[str, float] = {}
        self._is_full_until = 0.0
        self._alarms: list[asyncio.TimerHandle] = []

    def reads(self, store: StoreName) -> bool:
        """Whether *store* is on a collection of ours."""
        return any(each.store == store for each in self._collections)

    async def look(self, job: Job) -> None:
        """See ``TransferEngine.look``: lists our collections, and the receiver's staging."""
        order = order_of(job, "", site=self._site, collections=self._collections)
        places = {(haul.source, str(PurePosixPath(load.source).parent)) for haul in order.hauls for load in haul.loads}
        for collection, path in [*sorted(places), (job.address, job.staging)]:
            await self._desk.see(collection, path)

    def keep_to(self, peer: SiteName, bytes_per_second: int | None) -> None:
        """Nothing: how fast Globus goes is for the collections' administrators to say."""

    async def prepare(self) -> str:
        """A submission id of Globus': it is taken once, however often it is sent."""
        return await self._desk.submission_id()

    async def submit(self, job: Job, key: str) -> str:
        """Have Globus start *job* under *key*, which is the handle as well. A repeat starts nothing."""
        if key in self._orders or key in self._ended:
            return key
        if time.monotonic() < self._is_full_until or sum(len(o.hauls) for o in self._orders.values()) >= MOST_TASKS:
            raise full()
        order = order_of(job, key, site=self._site, collections=self._collections)
        for haul in order.hauls:
            await self._start(haul)
        self._orders[key] = order
        self._stopped.pop(key, None)
        self._ask_early()
        return key

    async def inspect(self, handles: Sequence[str]) -> dict[str, Progress]:
        """How far the transfers are: one request for all, and more about those with news."""
        orders = {handle: self._orders[handle] for handle in handles if handle in self._orders}
        await self._look_at([haul for order in orders.values() for haul in order.hauls if not haul.has_ended])
        return {handle: self._progress(handle) for handle in handles}

    async def cancel(self, handle: str) -> None:
        """Stop its tasks, those that we never heard of as well.

        Raises
        ------
        PeerUnavailable
            Globus cannot be asked, or may be about to start what it was told before.
        """
        if handle in self._stopped or handle in self._ended:
            return
        hauls = self._orders[handle].hauls if handle in self._orders else []
        tasks = {haul.task_id for haul in hauls if haul.task_id is not None and not haul.has_ended}
        unheard_of: dict[str, str] = {}
        if not hauls or any(haul.task_id is None and not haul.has_ended for haul in hauls):
            notes = await self._desk.active()
            unheard_of = {note.label: note.task_id for note in notes if self._is_under(note.label, handle)}
        for task in tasks.union(unheard_of.values()):
            await self._desk.cancel(task)
        self._settle_doubts(handle, unheard_of)
        self._orders.pop(handle, None)
        self._stopped[handle] = None
        _forget_old(self._stopped)

    def _settle_doubts(self, key: str, found: Container[str]) -> None:
        """Forget what was in doubt about *key* and was *found*; raises PeerUnavailable while more of it may come."""
        for label in [label for label in self._doubts if self._is_under(label, key)]:
            if label not in found and time.monotonic() - self._doubts[label] < self._settling.total_seconds():
                raise PeerUnavailable(
                    f"Globus may yet start {label}, whose submission it did not answer",
                    remedy="It is looked for again by itself.",
                )
            del self._doubts[label]

    async def close(self) -> None:
        """Ask nothing more. What Globus has goes on."""
        for alarm in self._alarms:
            alarm.cancel()
        await self._desk.close()

    def _ask_early(self) -> None:
        for alarm in self._alarms:
            alarm.cancel()
        loop = asyncio.get_running_loop()
        self._alarms = [loop.call_later(delay, self._on_change) for delay in ASK_EARLY]

    def _is_under(self, label: str, key: str) -> bool:
        """Whether a task with *label* works for what was submitted under *key*."""
        ours = f"{self._site}:{key}"
        return label == ours or label.startswith(f"{ours}:")

    def _progress(self, handle: str) -> Progress:
        if handle in self._ended:
            return self._ended[handle]
        order = self._orders.get(handle)
        if order is None or any(haul.is_lost for haul in order.hauls):
            self._orders.pop(handle, None)
            return Progress(phase=Phase.LOST)
        progress = order.progress()
        if order.has_ended:
            # The items are many; how it ended is all that may be asked again.
            del self._orders[handle]
            self._ended[handle] = progress
            _forget_old(self._ended)
        return progress

    async def _look_at(self, hauls: Sequence[Haul]) -> None:
        """Bring *hauls* up to date."""
        asked = [haul.task_id for haul in hauls if haul.task_id is not None]
        try:
            notes = await self._desk.tasks(asked) if asked else {}
        except LibrarianError as error:
            for haul in hauls:
                haul.unknown = error
            return
        pages = Pages(left=MOST_PAGES)
        await asyncio.gather(*(self._look(haul, notes, pages) for haul in hauls))

    async def _look(self, haul: Haul, notes: dict[str, TaskNote], pages: Pages) -> None:
        try:
            if haul.task_id is None:
                if time.monotonic() >= haul.starts_at:
                    await self._start(haul)
            elif haul.task_id in notes:
                await self._judge.judge(haul, notes[haul.task_id], pages)
            else:
                haul.is_lost = True
        except LibrarianError as error:
            haul.unknown = error
        else:
            haul.unknown = None

    # Starting.

    async def _start(self, haul: Haul) -> None:
        """Have a task for what is left of *haul*, whether it is a new one or one that Globus has."""
        if haul.submission_id is not None:
            # Before we were started anew another task may have followed the one that we had.
            haul.task_id = await self._submit(haul, haul.submission_id) or await self._active_task(haul)
            if haul.task_id is not None:
                return
        haul.task_id = await self._submit(haul, await self._desk.submission_id())

    async def _submit(self, haul: Haul, submission_id: str) -> str | None:
        """The task under *submission_id*; None when that was stopped, or is forgotten by Globus.

        Raises
        ------
        PeerUnavailable
            There is no answer, or another task is moving the same paths.
        EngineFull
            The account has as many tasks as it may have, of ours or of others who use it.
        """
        try:
            accepted = await self._desk.submit(_document(haul, submission_id))
        except EngineFull:
            self._is_full_until = time.monotonic() + FULL_REST
            raise
        except PeerUnavailable:
            self._doubts[haul.label] = time.monotonic()
            _forget_old(self._doubts)
            raise
        except Conflict as error:
            # We may have submitted it under another id and have died before we knew: it carries our label.
            active = await self._active_task(haul)
            if active is None:
                raise PeerUnavailable(error.message, remedy="It is tried again when that task has ended.") from error
            return active
        self._doubts.pop(haul.label, None)
        if accepted.is_repeat:
            note = await self._desk.task(accepted.task_id)
            if note is None or (note.status == "FAILED" and note.fatal_code == "CANCELED"):
                return None
        log.info(
            "Globus has %s as the task %s",
            haul.label,
            accepted.task_id,
            extra={"event": "globus-task", "task": accepted.task_id, "is_repeat": accepted.is_repeat},
        )
        return accepted.task_id

    async def _active_task(self, haul: Haul) -> str | None:
        """The task that works for *haul*, whatever it was submitted under: it carries our label."""
        return next((note.task_id for note in await self._desk.active() if note.label == haul.label), None)


def _document(haul: Haul, submission_id: str) -> globus_sdk.TransferData:
    document = globus_sdk.TransferData(
        source_endpoint=haul.source,
        destination_endpoint=haul.destination,
        label=haul.label,
        submission_id=submission_id,
        # Costs nothing where nothing stands yet, and moves only what is missing when a batch is sent again.
        sync_level="checksum",
        verify_checksum=True,
        preserve_timestamp=True,
        # One file that is gone must not end a task of terabytes; what was left out is asked for.
        skip_source_errors=True,
        fail_on_quota_errors=True,
        deadline=utc_now() + LIFETIME,
        notify_on_succeeded=False,
        notify_on_failed=False,
        notify_on_inactive=False,
    )
    for load in haul.left:
        if load.item.kind is Kind.BOOK:
            document.add_item(load.source, load.destination, recursive=True)
        else:
            document.add_item(load.source, load.destination)
    return document


def _forget_old(known: dict[str, Any]) -> None:
    for old in list(known)[: max(0, len(known) - MOST_ENDED)]:
        del known[old]
