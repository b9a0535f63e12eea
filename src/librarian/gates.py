"""Gates: whether copies may be offered to a peer now, and whether bytes may move there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from librarian import windows
from librarian.errors import BadRequest
from librarian.states import Flow

if TYPE_CHECKING:
    from datetime import datetime

    from librarian.catalog.records import Peer
    from librarian.policies import RulePolicy


State = Literal["disabled", "held", "paused", "closed", "draining", "open"]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What may go to a peer. What may not be moved is stopped, and goes on from where it stopped."""

    #: In a word.
    state: State
    may_offer: bool
    may_move: bool
    #: Why not both, for people; empty when both.
    why: str = ""
    #: When its windows open, or all of them are closed, next; None without windows.
    changes_at: datetime | None = None


def gate_of(peer: Peer, *, now: datetime) -> Gate:
    """What may go to *peer* at *now*: its switch, its hold, its flow and its windows, in this order."""
    if not peer.is_enabled:
        return _closed("disabled", "it is disabled")
    if peer.held_because is not None:
        return _closed("held", peer.held_because)
    if peer.flow is Flow.PAUSED:
        return _closed("paused", "it is paused")
    try:
        hours = windows.parsed(peer.windows)
    except BadRequest as error:
        # A zone that this machine knows no longer.
        return _closed("closed", error.message)
    changes_at = windows.next_change(hours, now)
    if not windows.are_open(hours, now):
        why = f"none of its windows is open: {', '.join(peer.windows)}"
        return _closed("closed", why, changes_at=changes_at)
    if peer.flow is Flow.DRAINING:
        why = "it is being drained"
        return Gate(state="draining", may_offer=False, may_move=True, why=why, changes_at=changes_at)
    return Gate(state="open", may_offer=True, may_move=True, changes_at=changes_at)


def closed_hours(policy: RulePolicy, *, now: datetime) -> str:
    """Why a rule may not be offered at *now*, since none of its own windows is open; empty when it may."""
    if is_in_hours(policy, now=now):
        return ""
    return f"none of the rule's own windows is open: {', '.join(policy.windows)}"


def is_in_hours(policy: RulePolicy, *, now: datetime) -> bool:
    """Whether a rule may be offered at *now*; never where this machine does not know the zone of its windows."""
    try:
        return windows.are_open(windows.parsed(policy.windows), now)
    except BadRequest:
        return False


def _closed(state: State, why: str, *, changes_at: datetime | None = None) -> Gate:
    return Gate(state=state, may_offer=False, may_move=False, why=why, changes_at=changes_at)
