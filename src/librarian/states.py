"""Every state machine, one table each; nothing else decides what may follow what."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar

State = TypeVar("State", bound=StrEnum)


class Kind(StrEnum):
    """What a payload is."""

    FILE = "file"
    BOOK = "book"


class Role(StrEnum):
    """What an account may do; see ``auth`` for what implies what."""

    ADMIN = "admin"
    UPLOADER = "uploader"
    READER = "reader"
    UPSTREAM = "upstream"
    CALLBACK = "callback"


class Presence(StrEnum):
    """Is the copy there?"""

    PRESENT = "present"
    SUSPECT = "suspect"
    MISSING = "missing"
    CORRUPT = "corrupt"
    REMOVED = "removed"


class Intent(StrEnum):
    """Do we want the copy?"""

    KEEP = "keep"
    WITHDRAW = "withdraw"


class VerifiedFrom(StrEnum):
    """Where the bytes came from when a copy was last measured."""

    MEDIUM = "medium"
    CACHE = "cache"


class Arrival(StrEnum):
    """How an incoming transfer comes."""

    UPLOAD = "upload"
    CLONE = "clone"


class TransferState(StrEnum):
    """Of an incoming or outgoing transfer; an outgoing one is never INGESTING."""

    INITIATED = "initiated"
    ONGOING = "ongoing"
    STAGED = "staged"
    INGESTING = "ingesting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class BatchState(StrEnum):
    """Of the transfers that one engine moves together."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    ACTIVE = "active"
    HELD = "held"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DueState(StrEnum):
    """Of a copy that a file still owes to a rule."""

    DUE = "due"
    SENDING = "sending"
    AWAITING = "awaiting"
    BLOCKED = "blocked"


class Reach(StrEnum):
    """Whether we call a peer, or it fetches what we have for it."""

    PUSH = "push"
    POLL = "poll"


_T = TransferState
_B = BatchState

#: What may follow what, for an incoming transfer.
INCOMING_MOVES: Final[dict[TransferState, frozenset[TransferState]]] = {
    _T.INITIATED: frozenset({_T.ONGOING, _T.STAGED, _T.FAILED, _T.CANCELLED}),
    _T.ONGOING: frozenset({_T.STAGED, _T.FAILED, _T.CANCELLED}),
    # A staged transfer may be cancelled by its sender; an ingest that was cut off goes back to STAGED.
    _T.STAGED: frozenset({_T.INGESTING, _T.FAILED, _T.CANCELLED}),
    _T.INGESTING: frozenset({_T.STAGED, _T.COMPLETED, _T.FAILED}),
    _T.COMPLETED: frozenset(),
    _T.FAILED: frozenset(),
    _T.CANCELLED: frozenset(),
}

#: What may follow what, for an outgoing transfer.
OUTGOING_MOVES: Final[dict[TransferState, frozenset[TransferState]]] = {
    _T.INITIATED: frozenset({_T.ONGOING, _T.COMPLETED, _T.FAILED, _T.CANCELLED}),
    _T.ONGOING: frozenset({_T.STAGED, _T.COMPLETED, _T.FAILED, _T.CANCELLED}),
    _T.STAGED: frozenset({_T.COMPLETED, _T.FAILED, _T.CANCELLED}),
    _T.COMPLETED: frozenset(),
    _T.FAILED: frozenset(),
    _T.CANCELLED: frozenset(),
}

#: What may follow what, for a batch. LOST work goes back to QUEUED under the same key.
BATCH_MOVES: Final[dict[BatchState, frozenset[BatchState]]] = {
    _B.QUEUED: frozenset({_B.SUBMITTING, _B.FAILED, _B.CANCELLED}),
    _B.SUBMITTING: frozenset({_B.QUEUED, _B.ACTIVE, _B.FAILED, _B.CANCELLED}),
    _B.ACTIVE: frozenset({_B.QUEUED, _B.HELD, _B.DELIVERED, _B.FAILED, _B.CANCELLED}),
    _B.HELD: frozenset({_B.QUEUED, _B.ACTIVE, _B.DELIVERED, _B.FAILED, _B.CANCELLED}),
    _B.DELIVERED: frozenset(),
    _B.FAILED: frozenset(),
    _B.CANCELLED: frozenset(),
}

#: Transfers that still occupy their name.
LIVE: Final = frozenset({_T.INITIATED, _T.ONGOING, _T.STAGED, _T.INGESTING})
#: Transfers that a client may still write to.
OPEN: Final = frozenset({_T.INITIATED, _T.ONGOING})


def sources_of(moves: dict[State, frozenset[State]], target: State) -> frozenset[State]:
    """The states from which *target* may be reached in one move."""
    return frozenset(state for state, targets in moves.items() if target in targets)
