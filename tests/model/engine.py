"""An engine that really moves bytes, at once or when the model says so, and fails in the ways that engines fail."""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import ClassVar

from librarian.transfers.base import Job, Phase, Progress, TransferEngine


class Luck(Enum):
    """What an engine does with a job when it is asked how far it is."""

    DELIVERS = "delivers"
    WORKS = "works"
    DELIVERS_HALF = "delivers half"
    DELIVERS_UNTOLD = "delivers untold"
    SPOILS = "spoils"
    FAILS_ONE = "fails one"
    FAILS = "fails"
    IS_AWAY = "is away"
    IS_HELD = "is held"
    FORGETS = "forgets"


@dataclass
class InstantEngine(TransferEngine):
    """Copies into staging over the shared disk. What it knows dies with its site."""

    name: ClassVar[str] = "local"
    luck: deque[Luck] = field(default_factory=deque)
    jobs: dict[str, Job] = field(default_factory=dict)
    ended: dict[str, Progress] = field(default_factory=dict)
    keys: int = 0

    def keep_to(self, peer, bytes_per_second) -> None:
        """Instants have no rate."""

    async def prepare(self) -> str:
        self.keys += 1
        return f"key-{id(self)}-{self.keys}"

    async def submit(self, job: Job, key: str) -> str:
        self.jobs.setdefault(key, job)
        return key

    async def inspect(self, handles) -> dict[str, Progress]:
        return {handle: self._progress(handle) for handle in handles}

    async def cancel(self, handle: str) -> None:
        self.jobs.pop(handle, None)

    async def close(self) -> None:
        self.jobs.clear()

    def _progress(self, handle: str) -> Progress:
        if handle in self.ended:
            return self.ended[handle]
        job = self.jobs.get(handle)
        if job is None:
            return Progress(phase=Phase.LOST)
        luck = self.luck.popleft() if self.luck else Luck.DELIVERS
        match luck:
            case Luck.DELIVERS:
                return self._end(handle, deliver(job))
            case Luck.WORKS:
                return Progress(phase=Phase.ACTIVE)
            case Luck.DELIVERS_HALF:
                deliver(job, share=0.5)
                return Progress(phase=Phase.ACTIVE)
            case Luck.DELIVERS_UNTOLD:
                deliver(job)
                return Progress(phase=Phase.UNKNOWN, reason="no answer")
            case Luck.SPOILS:
                deliver(job, spoils=True)
                return self._end(handle, deliver(job))
            case Luck.FAILS_ONE:
                failed = {job.items[0].uuid: "bad luck"} if job.items else {}
                return self._end(handle, deliver(job) | failed)
            case Luck.FAILS:
                del self.jobs[handle]
                return Progress(phase=Phase.FAILED, reason="bad luck")
            case Luck.IS_AWAY:
                return Progress(phase=Phase.UNKNOWN, reason="away")
            case Luck.IS_HELD:
                return Progress(phase=Phase.HELD, reason="somebody must act")
            case Luck.FORGETS:
                del self.jobs[handle]
                return Progress(phase=Phase.LOST)

    def _end(self, handle: str, failed: dict[str, str]) -> Progress:
        self.ended[handle] = Progress(phase=Phase.SUCCEEDED, failed_items=failed)
        return self.ended[handle]


def deliver(job: Job, *, share: float = 1.0, spoils: bool = False) -> dict[str, str]:
    """Bring *share* of every payload of *job*, going on from what stands there; returns what cannot be brought."""
    failed = {}
    for item in job.items:
        place = Path(job.staging, item.token)
        target = place / "payload"
        if item.source is None or not item.source.exists():
            failed[item.uuid] = "no source"
        elif not place.is_dir():
            failed[item.uuid] = "nobody waits for it"
        else:
            _bring(item.source, target, share=share, spoils=spoils)
    return failed


def _bring(source: Path, target: Path, *, share: float, spoils: bool) -> None:
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for member in sorted(source.iterdir()):
            _bring(member, target / member.name, share=share, spoils=spoils)
        return
    content = source.read_bytes()
    there = target.stat().st_size if target.exists() else 0
    wanted = int(len(content) * share)
    if there >= wanted and target.exists():
        return
    if spoils:
        content = bytes(byte ^ 0xFF for byte in content)
    with target.open("ab") as file:
        file.write(content[there:wanted])
