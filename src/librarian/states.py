"""Every state machine, one table each; nothing else decides what may follow what."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar, assert_never

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
    #: From another store of ours.
    COPY = "copy"
    #: From a drive that a peer sealed.
    DRIVE = "drive"


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
    #: It rests on a drive until its peer has confirmed it.
    LOADED = "loaded"
    BLOCKED = "blocked"
    QUARANTINED = "quarantined"


class Reach(StrEnum):
    """Whether we call a peer, or it fetches what we have for it."""

    PUSH = "push"
    POLL = "poll"


class Flow(StrEnum):
    """What an operator lets go to a peer that is enabled."""

    OPEN = "open"
    #: Nothing moves; what was under way is stopped, and goes on later.
    PAUSED = "paused"
    #: Nothing new is offered; what is under way goes on.
    DRAINING = "draining"


class RuleWay(StrEnum):
    """How the files of a rule go where it asks for."""

    NETWORK = "network"
    #: On drives, to a peer.
    CARRIED = "carried"
    #: To stores of ours, and no further.
    LOCAL = "local"


class DriveState(StrEnum):
    """Of a drive on its round."""

    LOADING = "loading"
    #: Nothing that is due fits any more, or the configured part of it is in use.
    FULL = "full"
    #: Its manifest is being written: nothing is loaded any more.
    SEALING = "sealing"
    SEALED = "sealed"
    #: Sealed, and not plugged in here.
    IN_TRANSIT = "in transit"
    #: Its peer has told of something that it carries.
    RECEIVED = "received"
    #: Its peer holds all that it carried.
    CONFIRMED = "confirmed"
    #: What it carries may be wiped.
    RELEASED = "released"
    #: It is being wiped for its next round.
    WIPING = "wiping"
    LOST = "lost"


class ReceptionState(StrEnum):
    """Of a drive's manifest at its destination."""

    #: Entries are still being read from the drive.
    RECEIVING = "receiving"
    #: Every entry has been read; what became of each is in its incoming transfer.
    READ = "read"
    CANCELLED = "cancelled"


class Damage(StrEnum):
    """What is wrong with an entry of a drive: the code of the notice that tells its sender."""

    MISSING = "entry_missing"
    DIFFERS = "entry_differs"
    UNREADABLE = "entry_unreadable"


_T = TransferState
_B = BatchState
_D = DriveState

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

#: What may follow what, for a drive.
DRIVE_MOVES: Final[dict[DriveState, frozenset[DriveState]]] = {
    _D.LOADING: frozenset({_D.FULL, _D.SEALING, _D.RELEASED, _D.LOST}),
    _D.FULL: frozenset({_D.LOADING, _D.SEALING, _D.RELEASED, _D.LOST}),
    _D.SEALING: frozenset({_D.SEALED, _D.LOST}),
    # A notice may come before anybody saw that the drive left.
    _D.SEALED: frozenset({_D.IN_TRANSIT, _D.RECEIVED, _D.CONFIRMED, _D.RELEASED, _D.LOST}),
    _D.IN_TRANSIT: frozenset({_D.SEALED, _D.RECEIVED, _D.CONFIRMED, _D.RELEASED, _D.LOST}),
    _D.RECEIVED: frozenset({_D.CONFIRMED, _D.RELEASED, _D.LOST}),
    _D.CONFIRMED: frozenset({_D.RELEASED, _D.LOST}),
    _D.RELEASED: frozenset({_D.WIPING, _D.LOST}),
    _D.WIPING: frozenset({_D.LOADING, _D.LOST}),
    # Found again.
    _D.LOST: frozenset({_D.RELEASED, _D.CONFIRMED}),
}

#: Drives that are among the stores of the site.
CARRYING: Final = frozenset(DriveState) - {_D.RELEASED, _D.WIPING, _D.LOST}
#: Transfers that still occupy their name.
LIVE: Final = frozenset({_T.INITIATED, _T.ONGOING, _T.STAGED, _T.INGESTING})
#: Transfers that a client may still write to.
OPEN: Final = frozenset({_T.INITIATED, _T.ONGOING})


def sources_of(moves: dict[State, frozenset[State]], target: State) -> frozenset[State]:
    """The states from which *target* may be reached in one move."""
    return frozenset(state for state, targets in moves.items() if target in targets)


class Way(StrEnum):
    """Which end of a transfer we are."""

    OUT = "out"
    IN = "in"


class Settlement(StrEnum):
    """What to do when two sites tell different stories about one transfer."""

    #: Nothing is wrong, or the other side is about to act.
    WAIT = "wait"
    #: Nothing is left to do.
    NOTHING = "nothing"
    #: Offer it again under the same uuid; the verdict says what is so.
    OFFER_AGAIN = "offer_again"
    #: Our last notice about it was lost: write it again.
    TELL_AGAIN = "tell_again"
    #: The other side still works for a transfer that is over with us: tell it that it is cancelled.
    TELL_CANCELLED = "tell_cancelled"
    #: It is over with the receiver: end ours, and let the copy be due again under a new uuid.
    FAIL = "fail"
    #: The sender says that every byte is there: go on as if its notice had come.
    STAGE = "stage"
    #: The sender works for it no longer: cancel ours and drop what arrived.
    CANCEL = "cancel"


def settle(ours: TransferState, theirs: TransferState | None, way: Way) -> Settlement:
    """What we do when our state is *ours* and the other site says *theirs* (None: it knows no such transfer).

    Total: every combination has an answer, and no answer leaves a transfer where nobody will act.
    """
    return _settle_out(ours, theirs) if way is Way.OUT else _settle_in(ours, theirs)


def _settle_out(ours: TransferState, theirs: TransferState | None) -> Settlement:
    if ours is TransferState.COMPLETED:
        return Settlement.TELL_CANCELLED if theirs in OPEN else Settlement.NOTHING
    if ours not in LIVE:
        theirs_waits = theirs in OPEN or theirs is TransferState.STAGED
        return Settlement.TELL_CANCELLED if theirs_waits else Settlement.NOTHING
    match theirs:
        case None | TransferState.COMPLETED:
            # Absent: they never heard of it, or forgot. Completed: the answer to an offer makes them attest again.
            return Settlement.OFFER_AGAIN
        case TransferState.INITIATED | TransferState.ONGOING:
            if ours is TransferState.STAGED:
                return Settlement.TELL_AGAIN
            return Settlement.OFFER_AGAIN if ours is TransferState.INITIATED else Settlement.WAIT
        case TransferState.STAGED | TransferState.INGESTING:
            return Settlement.WAIT
        case TransferState.FAILED | TransferState.CANCELLED:
            return Settlement.FAIL
        case _:
            assert_never(theirs)


def _settle_in(ours: TransferState, theirs: TransferState | None) -> Settlement:
    theirs_waits = theirs is not None and theirs in LIVE
    match ours:
        case TransferState.INITIATED | TransferState.ONGOING:
            if theirs in OPEN:
                return Settlement.WAIT
            return Settlement.STAGE if theirs_waits else Settlement.CANCEL
        case TransferState.STAGED:
            is_dropped = theirs in (TransferState.FAILED, TransferState.CANCELLED)
            return Settlement.CANCEL if is_dropped else Settlement.WAIT
        case TransferState.INGESTING:
            return Settlement.WAIT
        case TransferState.COMPLETED | TransferState.FAILED | TransferState.CANCELLED:
            return Settlement.TELL_AGAIN if theirs_waits else Settlement.NOTHING
        case _:
            assert_never(ours)
