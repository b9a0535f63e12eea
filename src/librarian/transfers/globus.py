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
from typing import TYPE_CHECKING, ClassVar, Final

import globus_sdk

from librarian.errors import Conflict, LibrarianError, PeerUnavailable
from librarian.states import Kind
from librarian.timing import retry_delay, utc_now
from librarian.transfers.base import Phase, Progress, TransferEngine
from librarian.transfers.globus_hauls import Haul, Order, order_of
from librarian.transfers.globus_troubles import REMEDIES, Trouble, trouble_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from librarian.names import SiteName, StoreName
    from librarian.transfers.base import Job
    from librarian.transfers.globus_desk import Desk
    from librarian.transfers.globus_documents import Event, TaskNote
    from librarian.transfers.globus_hauls import Collection

log = logging.getLogger(__name__)

#: A task has so long, and gets it anew while something gets done.
LIFETIME: Final = timedelta(days=2)
#: A task that gets nothing done for so long is told to a person.
PATIENCE: Final = timedelta(hours=6)
#: A destination that was full is tried again at least this often.
LONGEST_PAUSE: Final = timedelta(minutes=10)
#: What Globus calls a task that waits for its turn.
QUEUED: Final = "Queued"
#: What Globus calls the end of a task whose time is up.
EXPIRED: Final = "EXPIRED"
#: How the reason of a pause begins.
PAUSED: Final = "an administrator of a collection has paused it"
#: Tasks for one haul that end early because of some of its items; then the rest fails as well.
MOST_RESTARTS: Final = 8
#: How long after a submission to ask early, in seconds: small batches end at once.
ASK_EARLY: Final = (0.2, 0.35, 0.5, 0.7, 0.9, 1.2, 1.5)
#: Tasks of one account that may wait at Globus at once.
MOST_TASKS: Final = 100
#: Ended jobs whose results were never asked for; more are forgotten, and their batches submitted again.
MOST_ENDED: Final = 1000


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
    ) -> None:
        self._desk = desk
        self._site = site
        self._collections = tuple(collections)
        self._on_change = on_change
        self._patience = patience
        self._longest_pause = longest_pause
        self._orders: dict[str, Order] = {}
        self._ended: dict[str, Progress] = {}
        self._stopped: set[str] = set()
        self._alarms: list[asyncio.TimerHandle] = []

    def reads(self, store: StoreName) -> bool:
        """Whether *store* is on a collection of ours."""
        return any(each.store == store for each in self._collections)

    def keep_to(self, peer: SiteName, bytes_per_second: int | None) -> None:
        """Nothing: how fast Globus goes is for the collections' administrators to say."""

    async def prepare(self) -> str:
        """A submission id of Globus': it is taken once, however often it is sent."""
        return await self._desk.submission_id()

    async def submit(self, job: Job, key: str) -> str:
        """Have Globus start *job* under *key*, which is the handle as well. A repeat starts nothing."""
        if key in self._orders or key in self._ended:
            return key
        if sum(len(order.hauls) for order in self._orders.values()) >= MOST_TASKS:
            raise PeerUnavailable(
                f"Globus has {MOST_TASKS} tasks of ours, and takes no more", remedy="It goes on when some have ended."
            )
        order = order_of(job, key, site=self._site, collections=self._collections)
        for haul in order.hauls:
            await self._start(haul)
        self._orders[key] = order
        self._stopped.discard(key)
        self._ask_early()
        return key

    async def inspect(self, handles: Sequence[str]) -> dict[str, Progress]:
        """How far the transfers are: one request for all, and more about those with news."""
        orders = {handle: self._orders[handle] for handle in handles if handle in self._orders}
        await self._look_at([haul for order in orders.values() for haul in order.hauls if not haul.has_ended])
        return {handle: self._progress(handle) for handle in handles}

    async def cancel(self, handle: str) -> None:
        """Stop its tasks. What cannot be stopped now is stopped when this is called again."""
        if handle in self._stopped or handle in self._ended:
            return
        order = self._orders.get(handle)
        try:
            if order is not None:
                tasks = [haul.task_id for haul in order.hauls if haul.task_id and not haul.has_ended]
            else:
                tasks = [note.task_id for note in await self._desk.active() if self._is_ours(note, handle)]
            for task in tasks:
                await self._desk.cancel(task)
        except LibrarianError as error:
            log.warning("Cannot stop %s at Globus: %s", handle, error, extra={"event": "cancel-failed", "key": handle})
            return
        self._orders.pop(handle, None)
        self._stopped.add(handle)

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

    def _is_ours(self, note: TaskNote, key: str) -> bool:
        label = f"{self._site}:{key}"
        return note.label == label or note.label.startswith(f"{label}:")

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
            for old in list(self._ended)[: max(0, len(self._ended) - MOST_ENDED)]:
                del self._ended[old]
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
        await asyncio.gather(*(self._look(haul, notes) for haul in hauls))

    async def _look(self, haul: Haul, notes: dict[str, TaskNote]) -> None:
        try:
            if haul.task_id is None:
                if time.monotonic() >= haul.starts_at:
                    await self._start(haul)
            elif haul.task_id in notes:
                await self._judge(haul, notes[haul.task_id])
            else:
                haul.is_lost = True
        except LibrarianError as error:
            haul.unknown = error
        else:
            haul.unknown = None

    # Starting.

    async def _start(self, haul: Haul) -> None:
        """Have a task for what is left of *haul*, whether it is a new one or one that Globus has."""
        haul.progressed_at = time.monotonic()
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
            Another task is moving the same paths.
        """
        try:
            accepted = await self._desk.submit(_document(haul, submission_id))
        except Conflict as error:
            # We may have submitted it under another id and have died before we knew: it carries our label.
            active = await self._active_task(haul)
            if active is None:
                raise PeerUnavailable(error.message, remedy="It is tried again when that task has ended.") from error
            return active
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

    # Judging.

    async def _judge(self, haul: Haul, note: TaskNote) -> None:
        has_grown = haul.note_progress(note)
        match note.status:
            case "SUCCEEDED":
                await self._succeeded(haul, note)
                return
            case "FAILED":
                await self._failed(haul, note)
                return
            case "INACTIVE":
                haul.wait_for_a_person(
                    f"Globus waits for credentials: {note.nice_status_text or note.nice_status}",
                    "Log in to the collection, or renew its credentials; the same task goes on.",
                )
            case _ if note.is_paused:
                await self._paused(haul, note)
            case _:
                await self._goes_on(haul, note, has_grown=has_grown)
        # What waits for a person or for its turn, or gets on, must not expire; only what is silent may.
        waits = note.is_paused or note.status == "INACTIVE" or note.nice_status == QUEUED
        if has_grown or waits:
            await self._extend(note)

    async def _paused(self, haul: Haul, note: TaskNote) -> None:
        reason = haul.reason
        if not reason.startswith(PAUSED):
            reason = f"{PAUSED}: {await self._desk.why_paused(note.task_id) or 'no reason given'}"
        haul.wait_for_a_person(reason, "Ask that administrator to end the pause; the same task goes on.")

    async def _goes_on(self, haul: Haul, note: TaskNote, *, has_grown: bool) -> None:
        has_news = note.faults > haul.faults_seen
        if has_grown and not has_news:
            haul.trouble = None
        if has_news:
            events = await self._desk.errors_of(note.task_id)
            self._heed(haul, events[: note.faults - haul.faults_seen])
            haul.faults_seen = note.faults
        if haul.is_stopping and not haul.is_stopped:
            await self._desk.cancel(note.task_id)
            haul.is_stopped = True
        self._say(haul, note)

    def _say(self, haul: Haul, note: TaskNote) -> None:
        """Say how an active task fares."""
        if haul.is_stopping:
            haul.go_on("it is stopped, to go on without items that cannot be moved")
        elif haul.trouble in (Trouble.FULL, Trouble.ACCESS):
            haul.hold(haul.reason, REMEDIES[haul.trouble])
        elif note.nice_status == QUEUED:
            haul.progressed_at = time.monotonic()
            haul.go_on("it is queued at Globus, which runs a few tasks of an account at a time")
        elif haul.is_silent(self._patience):
            what = haul.reason if haul.trouble else note.nice_status_text or note.nice_status
            haul.hold(f"nothing got done for {self._patience}: {what}", "Look what keeps it.")
        else:
            haul.go_on(haul.reason if haul.trouble else "")

    def _heed(self, haul: Haul, events: Sequence[Event]) -> None:
        """Take in new faults of an active task."""
        worst = haul.worst_of(events)
        if worst is None:
            return
        haul.trouble, event = worst
        haul.reason = event.told
        haul.is_stopping |= haul.condemn(events)

    async def _extend(self, note: TaskNote) -> None:
        now = utc_now()
        if note.deadline is not None and note.deadline - now < LIFETIME * 0.75:
            await self._desk.extend(note.task_id, now + LIFETIME)

    # Ending.

    async def _succeeded(self, haul: Haul, note: TaskNote) -> None:
        """What was left out at the source fails; the rest has arrived, and its receiver has the last word."""
        if note.skipped_errors != 0 and not note.history_deleted:
            haul.leave_out(await self._desk.skipped(note.task_id))
        haul.end()

    async def _failed(self, haul: Haul, note: TaskNote) -> None:
        """Go on with another task where that helps; else what has arrived is told from what has not."""
        events = [] if note.history_deleted else await self._desk.errors_of(note.task_id)
        has_culprits = haul.condemn(events) or haul.is_stopping
        if has_culprits and haul.thinned < MOST_RESTARTS:
            haul.thinned += 1
            haul.again()
            haul.go_on("it goes on without items that cannot be moved")
            if not haul.left:
                haul.end()
            return
        told = {haul.trouble_in(event) for event in events if event.code == note.fatal_code}
        trouble = Trouble.ACCESS if Trouble.ACCESS in told else trouble_of(note.fatal_code)
        reason = f"Globus gave it up: {note.fatal_code or note.nice_status} {note.fatal_text}".rstrip()
        if note.fatal_code == EXPIRED:
            # Nothing is wrong with what it moves: a link may be down for weeks.
            haul.go_on(reason)
            haul.again(at=time.monotonic() + self._pause(haul))
            return
        if trouble in (Trouble.FULL, Trouble.ACCESS):
            haul.hold(reason, REMEDIES[trouble])
            haul.trouble = trouble
            haul.again(at=time.monotonic() + self._pause(haul))
            return
        haul.keep_only(set() if note.history_deleted else await self._desk.delivered(note.task_id), reason)
        haul.end(reason)

    def _pause(self, haul: Haul) -> float:
        return retry_delay(haul.restarts + 1, cap=self._longest_pause).total_seconds()


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
