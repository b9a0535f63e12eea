"""Hauls: what one job has under way at Globus, one task at a time for each collection that it reads from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from librarian.errors import Unavailable
from librarian.states import Kind
from librarian.timing import utc_now
from librarian.transfers.base import Phase, Progress
from librarian.transfers.globus_places import Load, Places
from librarian.transfers.globus_troubles import LEFT_OUT, Trouble, trouble_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from librarian.errors import LibrarianError
    from librarian.transfers.base import Job
    from librarian.transfers.globus_documents import Event, Skipped, TaskNote
    from librarian.transfers.globus_places import Collection

#: Where a person looks at a task.
ACTIVITY: Final = "https://app.globus.org/activity"


@dataclass(kw_only=True)
class Reading:
    """What is being read of how a task ended, page after page; ``failure``: why Globus gave it up, if it did."""

    failure: str
    #: Where the next page begins; None: at the start.
    marker: str | None = None
    #: Where files have arrived, as far as that was read.
    delivered: set[str] = field(default_factory=set)


@dataclass(kw_only=True)
class Haul:
    """Items that go from one collection to one other: a task, and after it another for what it could not move."""

    label: str
    source: str
    destination: str
    loads: list[Load]
    #: The id under which the next task is submitted; None: a new one is asked for.
    submission_id: str | None
    task_id: str | None = None
    failed: dict[str, str] = field(default_factory=dict)
    #: Of those, what failed with the task, and not for reasons of its own.
    given_up: set[str] = field(default_factory=set)
    suspects: set[str] = field(default_factory=set)
    #: Monotonic; when the next task may be submitted, while there is none.
    starts_at: float = 0.0
    restarts: int = 0
    #: How many of the tasks ended early because of some of their items.
    thinned: int = 0
    trouble: Trouble | None = None
    reason: str = ""
    remedy: str = ""
    is_held: bool = False
    #: Why Globus cannot be asked about it now.
    unknown: LibrarianError | None = None
    #: Nothing more will happen; ``failure`` says why Globus gave up.
    has_ended: bool = False
    failure: str = ""
    is_lost: bool = False
    #: The task must end because of some of its items; and has Globus been told?
    is_stopping: bool = False
    is_stopped: bool = False
    #: How the task ended is being read.
    reading: Reading | None = None
    faults_seen: int = 0
    #: None: another process has watched the task before us, and we have not looked yet.
    work_seen: int | None = 0
    bytes_done: int = 0
    #: Since when nothing got done, although something should.
    silent_since: datetime = field(default_factory=utc_now)

    @cached_property
    def places(self) -> Places:
        """Where its loads come from, and go to."""
        return Places(self.loads)

    @property
    def left(self) -> list[Load]:
        """What has not failed."""
        return [load for load in self.loads if load.item.uuid not in self.failed]

    @property
    def address(self) -> str:
        """Where a person can look at the task."""
        return f"{ACTIVITY}/{self.task_id}"

    def note_progress(self, note: TaskNote) -> bool:
        """Take in how far the task is; whether it got something done since last time."""
        is_first_look = self.work_seen is None
        has_grown = (
            note.bytes_transferred > self.bytes_done if is_first_look else note.work_done > (self.work_seen or 0)
        )
        self.bytes_done = note.bytes_transferred
        self.work_seen = max(note.work_done, self.work_seen or 0)
        if has_grown:
            self.silent_since = utc_now()
        return has_grown

    def is_silent(self, patience: timedelta) -> bool:
        """Whether nothing got done for longer than *patience*."""
        return utc_now() - self.silent_since > patience

    def hold(self, reason: str, remedy: str) -> None:
        """A person must act."""
        self.is_held, self.reason, self.remedy = True, reason, f"{remedy} See {self.address}."

    def wait_for_a_person(self, reason: str, remedy: str) -> None:
        """A person must act, and that nothing gets done meanwhile is no wonder."""
        self.silent_since = utc_now()
        self.hold(reason, remedy)

    def go_on(self, reason: str = "") -> None:
        """Nobody need act."""
        self.is_held, self.reason, self.remedy = False, reason, ""

    def fail(self, load: Load, reason: str) -> None:
        """Give one item up."""
        self.failed[load.item.uuid] = reason

    def end(self, failure: str = "") -> None:
        """Nothing more will happen; *failure*: why Globus gave up. What has not failed has arrived."""
        self.has_ended, self.failure = True, failure

    def again(self, *, at: float = 0.0) -> None:
        """The task has ended, and another is to move what is left."""
        self.task_id, self.submission_id, self.starts_at = None, None, at
        self.restarts += 1
        self.faults_seen, self.work_seen, self.silent_since = 0, 0, utc_now()
        self.is_stopping = self.is_stopped = False

    def trouble_in(self, event: Event) -> Trouble:
        """What *event* means for this haul."""
        trouble = trouble_of(event.code)
        # Folders at the receiver are all made alike: where one cannot be written into, none can.
        is_denied_there = event.code == "PERMISSION_DENIED" and bool(self._targets(event))
        return Trouble.ACCESS if is_denied_there else trouble

    def worst_of(self, events: Sequence[Event]) -> tuple[Trouble, Event] | None:
        """What *events* come to: the trouble that asks most of us, and the newest event that tells of it."""
        by_weight = (Trouble.INTEGRITY, Trouble.ITEM, Trouble.FULL, Trouble.ACCESS, Trouble.PASSING)
        found = {self.trouble_in(event): event for event in reversed(events)}
        return next(((trouble, found[trouble]) for trouble in by_weight if trouble in found), None)

    def condemn(self, events: Iterable[Event]) -> bool:
        """Fail the items that *events* say cannot be moved; whether there were any.

        What Globus leaves out at the source by itself is not among them: it is listed when the task has ended.
        """
        before = len(self.failed)
        for event in events:
            trouble = self.trouble_in(event)
            if trouble not in (Trouble.ITEM, Trouble.INTEGRITY):
                continue
            there = self._targets(event)
            is_known = bool(there) or event.code in LEFT_OUT
            here = [] if is_known else self._not_failed(self.places.come_from(event.text))
            for load in there:
                self.fail(load, f"it cannot be written at the receiver: {event.told}")
            for load in here:
                self.fail(load, f"it cannot be read at the sender: {event.told}")
            if trouble is Trouble.INTEGRITY:
                self.suspects |= {load.item.uuid for load in (*there, *here)}
        return len(self.failed) > before

    def _targets(self, event: Event) -> list[Load]:
        """What *event* speaks of by where it goes, as far as it has not failed."""
        return self._not_failed(self.places.gone_to(event.text))

    def _not_failed(self, loads: Iterable[Load]) -> list[Load]:
        return [load for load in loads if load.item.uuid not in self.failed]

    def leave_out(self, skipped: Iterable[Skipped]) -> None:
        """Fail the items of which a part was left out at the source."""
        for skip in skipped:
            load = self.places.above(skip.source_path)
            if load is not None and load.item.uuid not in self.failed:
                self.fail(load, f"it cannot be read at the sender: {skip.code}: {skip.source_path}")

    def keep_only(self, delivered: set[str], reason: str) -> None:
        """Give every item up but the files among *delivered*; of a book nobody says whether it is whole."""
        for load in self.left:
            if load.item.kind is Kind.BOOK or load.destination not in delivered:
                self.fail(load, reason)
                self.given_up.add(load.item.uuid)


@dataclass(kw_only=True)
class Order:
    """One job of ours, and its hauls."""

    job: Job
    hauls: list[Haul]
    #: Items that no collection of ours can give.
    failed: dict[str, str]

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen."""
        return all(haul.has_ended for haul in self.hauls)

    def progress(self) -> Progress:
        """How far it is, all hauls together."""
        bytes_done = sum(min(haul.bytes_done, sum(load.item.size for load in haul.loads)) for haul in self.hauls)
        if self.has_ended:
            return self._outcome()
        running = [haul for haul in self.hauls if not haul.has_ended]
        unknown = next((haul.unknown for haul in running if haul.unknown is not None), None)
        if unknown is not None:
            return Progress(phase=Phase.UNKNOWN, bytes_done=bytes_done, reason=unknown.message, remedy=_asks(unknown))
        worst = next((haul for haul in running if haul.is_held), None)
        worst = worst or next((haul for haul in running if haul.reason), running[0])
        return Progress(
            phase=Phase.HELD if worst.is_held else Phase.ACTIVE,
            bytes_done=bytes_done,
            reason=worst.reason,
            remedy=worst.remedy,
            silent_since=min(haul.silent_since for haul in running),
        )

    def _outcome(self) -> Progress:
        failed = dict(self.failed)
        for haul in self.hauls:
            failed |= haul.failed
        arrived = sum(item.size for item in self.job.items if item.uuid not in failed)
        broken = [haul for haul in self.hauls if haul.failure]
        return Progress(
            phase=Phase.FAILED if broken and len(failed) == len(self.job.items) else Phase.SUCCEEDED,
            bytes_done=arrived,
            reason=broken[0].failure if broken else "",
            failed_items=failed,
            given_up=frozenset().union(*(haul.given_up for haul in self.hauls)),
            suspects=frozenset().union(*(haul.suspects for haul in self.hauls)),
        )


def order_of(job: Job, key: str, *, site: str, collections: Sequence[Collection]) -> Order:
    """What *job* asks of Globus: a haul for each collection that it reads from."""
    # The nearest root wins, should one store lie within another.
    near = sorted(collections, key=lambda each: len(each.folder.parts), reverse=True)
    failed: dict[str, str] = {}
    loads: dict[str, list[Load]] = {}
    for item in job.items:
        if item.source is None:
            failed[item.uuid] = "no healthy copy of it is left at the sender"
            continue
        source = item.source
        found = next(((each.collection, path) for each in near if (path := each.path_of(source)) is not None), None)
        if found is None:
            failed[item.uuid] = "the store that holds it is on no Globus collection"
            continue
        destination = str(PurePosixPath(job.staging) / item.token / "payload")
        loads.setdefault(found[0], []).append(Load(item=item, source=found[1], destination=destination))
    hauls = [
        Haul(
            label=f"{site}:{key}" if number == 0 else f"{site}:{key}:{number}",
            source=source,
            destination=job.address,
            loads=carried,
            submission_id=key if number == 0 else None,
            bytes_done=job.bytes_done,
            work_seen=0 if job.silent_since is None else None,
            silent_since=job.silent_since or utc_now(),
        )
        for number, (source, carried) in enumerate(sorted(loads.items()))
    ]
    return Order(job=job, hauls=hauls, failed=failed)


def _asks(error: LibrarianError) -> str:
    """What *error* asks of a person; nothing where it passes by itself."""
    return "" if isinstance(error, Unavailable) else error.remedy
