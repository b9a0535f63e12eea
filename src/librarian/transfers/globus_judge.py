"""How a task at Globus fares: what its notes and events mean for a haul, and what is read of it once it has ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from librarian import guard
from librarian.timing import retry_delay, utc_now
from librarian.transfers.globus_hauls import Reading
from librarian.transfers.globus_troubles import REMEDIES, Trouble, trouble_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.transfers.globus_desk import Desk
    from librarian.transfers.globus_documents import Event, TaskNote
    from librarian.transfers.globus_hauls import Haul

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


@dataclass(kw_only=True)
class Pages:
    """How many pages may still be read of tasks that have ended; the others are read when Globus is asked again."""

    left: int

    def take(self) -> bool:
        """Whether one more may be read, which is then one less."""
        self.left -= 1
        return self.left >= 0


class Judge:
    """Looks what became of tasks, and says it of their hauls."""

    def __init__(self, desk: Desk, *, patience: timedelta, longest_pause: timedelta) -> None:
        self._desk = desk
        self._patience = patience
        self._longest_pause = longest_pause

    async def judge(self, haul: Haul, note: TaskNote, pages: Pages) -> None:
        """Bring *haul* up to date with its task's *note*, reading no more than *pages*."""
        if haul.reading is not None:
            await self._read_on(haul, haul.reading, note, pages)
            return
        has_grown = haul.note_progress(note)
        match note.status:
            case "SUCCEEDED":
                await self._succeeded(haul, note, pages)
                return
            case "FAILED":
                await self._failed(haul, note, pages)
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
            haul.silent_since = utc_now()
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

    async def _succeeded(self, haul: Haul, note: TaskNote, pages: Pages) -> None:
        """What was left out at the source fails; the rest has arrived, and its receiver has the last word."""
        if note.skipped_errors == 0 or note.history_deleted:
            haul.end()
        else:
            await self._read(haul, note, pages, failure="")

    async def _failed(self, haul: Haul, note: TaskNote, pages: Pages) -> None:
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
        elif trouble in (Trouble.FULL, Trouble.ACCESS):
            haul.hold(reason, REMEDIES[trouble])
            haul.trouble = trouble
            haul.again(at=time.monotonic() + self._pause(haul))
        elif note.history_deleted:
            haul.keep_only(set(), reason)
            haul.end(reason)
        else:
            await self._read(haul, note, pages, failure=reason)

    async def _read(self, haul: Haul, note: TaskNote, pages: Pages, *, failure: str) -> None:
        haul.reading = Reading(failure=failure)
        haul.go_on("it has ended at Globus, whose list of what became of the items is being read")
        await self._read_on(haul, haul.reading, note, pages)

    async def _read_on(self, haul: Haul, reading: Reading, note: TaskNote, pages: Pages) -> None:
        """Go on reading where it stopped; of a task that Globus gave up what has arrived, else what was left out."""
        while pages.take():
            if reading.failure:
                arrived = await self._desk.delivered(note.task_id, reading.marker)
                reading.delivered |= {path for path in arrived.items if haul.places.is_file_at(path)}
                reading.marker = arrived.next
            else:
                skipped = await self._desk.skipped(note.task_id, reading.marker)
                haul.leave_out(skipped.items)
                reading.marker = skipped.next
            if reading.marker is None:
                if reading.failure:
                    haul.keep_only(reading.delivered, reading.failure)
                haul.reading = None
                haul.end(reading.failure)
                return
            guard.step("results half read")

    def _pause(self, haul: Haul) -> float:
        return retry_delay(haul.restarts + 1, cap=self._longest_pause).total_seconds()
