"""How each background task is doing, for ``/api/v1/status``: written by the supervisor, read by anybody."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """One task's health record."""

    name: str
    #: A pass is running now.
    is_running: bool = False
    #: When the last pass ended, however it ended.
    last_pass_at: datetime | None = None
    #: When the next pass starts unless a bell rings before.
    next_pass_at: datetime | None = None
    #: Rounds that did work since the process started.
    rounds: int = 0
    #: Failed passes in a row; zero after a good one.
    failures: int = 0
    last_error: str | None = None
    last_error_at: datetime | None = None
    #: The running pass has outlived its soft deadline.
    is_slow: bool = False


class Pulses:
    """The health records of all tasks, by name."""

    def __init__(self) -> None:
        self._pulses: dict[str, Pulse] = {}

    def note(self, name: str, **changes: object) -> Pulse:
        """Change fields of the record of *name*, which is made when there is none, and return it."""
        noted = replace(self._pulses.get(name, Pulse(name=name)), **changes)  # type: ignore[arg-type]
        self._pulses[name] = noted
        return noted

    def of(self, name: str) -> Pulse:
        """The record of *name*."""
        return self._pulses.get(name, Pulse(name=name))

    def all(self) -> tuple[Pulse, ...]:
        """Every record, by name."""
        return tuple(self._pulses[name] for name in sorted(self._pulses))
