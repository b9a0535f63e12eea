"""Tasks of the fake Globus: what was submitted, how far it is, and the work itself."""

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.fakes.globus.copying import Fault, Pair, bring, members_of
from tests.fakes.globus.cues import Cue

#: Items that one trip to a thread copies.
GROUP = 64
#: Between two attempts at what failed, in seconds; the real one waits for minutes.
PAUSE = 0.02
SKIPPED_AT_SOURCE = frozenset({"FILE_NOT_FOUND", "PERMISSION_DENIED", "AMBIGUOUS_PATH"})
QUOTA = "QUOTA_EXCEEDED"


@dataclass
class Collection:
    """Part of a file system, under an id."""

    root: Path
    #: A mapped collection, not of High Assurance, wants consent to the scope data_access.
    wants_consent: bool = False

    def place(self, path: str) -> Path:
        return self.root / path.lstrip("/")


@dataclass
class Task:
    """One transfer, as the service knows it."""

    owner: str
    request: dict[str, Any]
    source: Collection
    destination: Collection
    cues: list[Cue]
    on_change: Callable[[], None]
    task_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "ACTIVE"
    is_paused: bool = False
    nice_status: str = "Queued"
    fatal: dict[str, str] | None = None
    history_deleted: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)
    successful: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    faults: int = 0
    bytes_moved: int = 0
    files_skipped: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    runner: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        told = self.request.get("deadline")
        self.deadline = datetime.fromisoformat(told) if told else datetime.now(UTC) + timedelta(days=1)
        self.pairs = [self._pair(item) for item in self.request["DATA"]]

    def _pair(self, item: dict[str, Any]) -> Pair:
        source, target = item["source_path"], item["destination_path"]
        return Pair(
            self.source.place(source), self.destination.place(target), source, target, bool(item.get("recursive"))
        )

    @property
    def has_ended(self) -> bool:
        return self.status in ("SUCCEEDED", "FAILED")

    @property
    def paths(self) -> frozenset[tuple[str, str]]:
        return frozenset((pair.source_path, pair.target_path) for pair in self.pairs)

    @property
    def document(self) -> dict[str, Any]:
        return {
            "DATA_TYPE": "task",
            "task_id": self.task_id,
            "type": "TRANSFER",
            "status": self.status,
            "label": self.request.get("label"),
            "source_endpoint_id": self.request["source_endpoint"],
            "destination_endpoint_id": self.request["destination_endpoint"],
            "is_paused": self.is_paused,
            "nice_status": None if self.has_ended else self.nice_status,
            "nice_status_short_description": self.nice_status,
            "nice_status_details": None,
            "fatal_error": self.fatal,
            "faults": self.faults,
            "files": len(self.pairs),
            "files_transferred": len(self.successful),
            "files_skipped": self.files_skipped,
            "bytes_transferred": self.bytes_moved,
            "bytes_checksummed": 0,
            "subtasks_skipped_errors": len(self.skipped),
            "deadline": self.deadline.isoformat(),
            "history_deleted": self.history_deleted,
        }

    # What happens to it.

    def start(self, slots: asyncio.Semaphore) -> None:
        self.runner = asyncio.create_task(self._run(slots), name=f"globus task {self.task_id}")

    def cancel(self) -> None:
        self.fail("CANCELED")

    def fail(self, code: str) -> None:
        """Give it up, unless it has ended."""
        if not self.has_ended and self.runner is not None:
            self.runner.cancel()
            self._end("FAILED", code=code)

    def tell(self, code: str, *, path: str = "", is_error: bool = True) -> None:
        """Write an event, the newest first as they are listed."""
        context = [{"operation": "transfer", "path": path}] if path else []
        self.events.insert(
            0,
            {
                "DATA_TYPE": "event",
                "code": code,
                "is_error": is_error,
                "description": code.replace("_", " ").lower(),
                "details": json.dumps({"context": context, "error": {"body": code.lower()}}),
                "time": datetime.now(UTC).isoformat(),
            },
        )
        self.faults += is_error
        self.nice_status = code if is_error else "OK"
        self.on_change()

    def _end(self, status: str, *, code: str = "") -> None:
        if code:
            self.fatal = {"code": code, "description": f"the task ended: {code.lower()}"}
        self.tell(code or status, is_error=bool(code))
        self.status = status
        if any(cue.what == "forgotten" for cue in self.cues):
            self.history_deleted = True
            self.events, self.successful, self.skipped = [], [], []
        self.on_change()

    async def _run(self, slots: asyncio.Semaphore) -> None:
        async with slots:
            self.tell("STARTED", is_error=False)
            try:
                for cue in self.cues:
                    await self._act_on(cue)
                await self._copy()
            except Exception:
                self._end("FAILED", code="ABEND")
                raise

    async def _act_on(self, cue: Cue) -> None:
        match cue.what:
            case "faults":
                for _ in range(cue.times):
                    self.tell(cue.code or "CONNECTION_RESET")
            case "paused":
                self.is_paused = True
                await self._until_released()
                self.is_paused = False
            case "inactive":
                self.status = "INACTIVE"
                await self._until_released()
                self.status = "ACTIVE"
            case "silent":
                await self._until_released()
            case "full":
                self.tell("NO_SPACE_LEFT")
                await self._until_released()

    async def _until_released(self) -> None:
        self.on_change()
        await self.released.wait()

    async def _copy(self) -> None:
        failing = next((cue for cue in self.cues if cue.what == "fails"), None)
        left = [pair for pair in self.pairs if failing is None or (failing.match and not _fits(failing, pair))]
        while left:
            left = await self._round(left)
            if self.has_ended:
                return
            if left:
                await asyncio.sleep(PAUSE)
        if failing is None:
            self._corrupt()
            self._end("SUCCEEDED")
        else:
            self._end("FAILED", code=failing.code)

    async def _round(self, left: list[Pair]) -> list[Pair]:
        """Try each item once; what is left after it."""
        again: list[Pair] = []
        for start in range(0, len(left), GROUP):
            group = left[start : start + GROUP]
            faults = await asyncio.to_thread(lambda some: [self._bring(pair) for pair in some], group)
            for pair, fault in zip(group, faults, strict=True):
                if fault is None:
                    continue
                if fault.code == QUOTA and self.request.get("fail_on_quota_errors"):
                    self._end("FAILED", code=QUOTA)
                    return []
                if fault.is_source and fault.code in SKIPPED_AT_SOURCE and self.request.get("skip_source_errors"):
                    self.skipped.append({"source_path": fault.path, "error_code": fault.code, "error_details": ""})
                    continue
                self.tell(fault.code, path=fault.path)
                again.append(pair)
            self.on_change()
        return again

    def _bring(self, pair: Pair) -> Fault | None:
        """Copy one item, in a thread."""
        for cue in self.cues:
            if cue.what == "item" and _fits(cue, pair):
                return Fault(cue.code, pair.target_path, is_source=False)
        if not self.destination.root.is_dir() or not self.source.root.is_dir():
            return Fault("ENDPOINT_ERROR", "", is_source=False)
        try:
            for member in members_of(pair):
                self._bring_member(member)
        except Fault as fault:
            return fault
        return None

    def _bring_member(self, member: Pair) -> None:
        moved = bring(
            member,
            is_synced=self.request.get("sync_level") == 3,
            is_verified=bool(self.request.get("verify_checksum")),
            keeps_times=bool(self.request.get("preserve_timestamp")),
        )
        if moved is not None:
            self.bytes_moved += moved
            self.successful.append({"source_path": member.source_path, "destination_path": member.target_path})
        elif not member.is_directory:
            self.files_skipped += 1

    def _corrupt(self) -> None:
        for cue in self.cues:
            if cue.what == "corrupt":
                pair = next(pair for pair in self.pairs if _fits(cue, pair))
                content = bytearray(pair.target.read_bytes())
                content[0] ^= 1
                pair.target.write_bytes(content)


def _fits(cue: Cue, pair: Pair) -> bool:
    return cue.match in pair.source_path or cue.match in pair.target_path
