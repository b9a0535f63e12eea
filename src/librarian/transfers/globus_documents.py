"""What Globus Transfer tells, as far as we look at it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Told = TypeVar("Told")


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """The answer to a submission; ``is_repeat``: the task was there before."""

    task_id: str
    is_repeat: bool

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Acceptance:
        """From the answer's JSON."""
        return cls(task_id=str(document["task_id"]), is_repeat=document["code"] == "Duplicate")


@dataclass(frozen=True, kw_only=True)
class TaskNote:
    """One task as it is now."""

    task_id: str
    status: str
    label: str
    is_paused: bool
    #: ``OK``, ``Queued``, or the code of what is wrong now.
    nice_status: str
    nice_status_text: str
    fatal_code: str
    fatal_text: str
    faults: int
    bytes_transferred: int
    #: Grows with whatever the task gets done, bytes or not.
    work_done: int
    #: None: not told.
    skipped_errors: int | None
    deadline: datetime | None
    history_deleted: bool

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ("SUCCEEDED", "FAILED")

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> TaskNote:
        """From a task document. Whatever is left out is taken for nothing."""
        fatal = document.get("fatal_error") or {}
        done = ("bytes_transferred", "bytes_checksummed", "files_transferred", "files_skipped", "subtasks_succeeded")
        skipped = document.get("subtasks_skipped_errors")
        return cls(
            task_id=str(document["task_id"]),
            status=str(document["status"]),
            label=str(document.get("label") or ""),
            is_paused=bool(document.get("is_paused")),
            nice_status=str(document.get("nice_status") or "OK"),
            nice_status_text=str(
                document.get("nice_status_details") or document.get("nice_status_short_description") or ""
            ),
            fatal_code=str(fatal.get("code") or ""),
            fatal_text=str(fatal.get("description") or ""),
            faults=int(document.get("faults") or 0),
            bytes_transferred=int(document.get("bytes_transferred") or 0),
            work_done=sum(int(document.get(key) or 0) for key in done),
            skipped_errors=None if skipped is None else int(skipped),
            deadline=_instant(document.get("deadline")),
            history_deleted=bool(document.get("history_deleted")),
        )


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a task; the form of ``details`` is not promised."""

    code: str
    description: str
    details: str

    @property
    def text(self) -> str:
        """Everything that it says."""
        return f"{self.details}\n{self.description}"

    @property
    def told(self) -> str:
        """One line for people."""
        return f"{self.code}: {' '.join((self.description or self.details or 'no details').split())[:300]}"

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Event:
        """From an event document."""
        return cls(
            code=str(document["code"]),
            description=str(document.get("description") or ""),
            details=str(document.get("details") or ""),
        )


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A path that a task left out."""

    source_path: str
    code: str

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Skipped:
        """From a document of a skipped error."""
        return cls(
            source_path=str(document["source_path"]),
            code=str(document.get("error_code") or "skipped"),
        )


@dataclass(frozen=True, kw_only=True)
class Page(Generic[Told]):
    """Some of the results of a task that has ended; ``next``: where the others begin, None when these are the last."""

    items: tuple[Told, ...]
    next: str | None

    @classmethod
    def read(cls, document: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Told]) -> Page[Told]:
        """From a document of results, each of which *read* understands."""
        marker = document.get("next_marker")
        return cls(items=tuple(map(read, document["DATA"])), next=None if marker is None else str(marker))


def _instant(text: str | None) -> datetime | None:
    if not text:
        return None
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
