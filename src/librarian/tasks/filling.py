"""Filling: which stores are to have copies, and what follows when nothing more goes onto one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from librarian import owing
from librarian.catalog.records import Happening
from librarian.drives import full_cause, no_room_cause
from librarian.notifying import drive_subject
from librarian.quantities import counted
from librarian.states import DriveState
from librarian.tasks import choosing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.loading import Target
    from librarian.catalog.transaction import Transaction
    from librarian.catalog.waiting import WaitingRule
    from librarian.stores.base import Capacity
    from librarian.tasks.claiming import Cramped

log = logging.getLogger(__name__)

_ACTOR: Final = "load"
#: A drive is full once nothing fits and less than half of it is left, or, while another takes what is due, a tenth.
_MUCH: Final = 2
_LITTLE: Final = 10


def wanted(targets: Sequence[Target], waiting: Sequence[WaitingRule], *, with_drives: bool) -> list[Target]:
    """The stores that a rule in *waiting* asks copies for, and all drives where those are to be looked at."""
    policies = [owing.policy_of(each.rule) for each in waiting]
    return [
        target
        for target in targets
        if (with_drives and target.drive is not None) or any(owing.takes(policy, target.name) for policy in policies)
    ]


def is_past_mark(target: Target, capacity: Capacity) -> bool:
    """Whether the part of a drive is in use at which it counts as full."""
    if target.drive is None:
        return False
    used = capacity.total_bytes - capacity.free_bytes
    return used * 1000 >= target.full_at * capacity.total_bytes


async def tell_cramped(tx: Transaction, target: Target, cramped: Cramped) -> None:
    """Nothing that is due fits on *target*: it is full, unless it would leave with too little on it."""
    least = cramped.least
    is_for_larger = target.drive is not None and choosing.room_for(least) > target.size
    if target.drive is not None and not is_for_larger and _is_worth_sending(target, cramped):
        await tell_full(tx, target, why="nothing that is due fits any more")
        return
    if cramped.is_taken_elsewhere:
        return
    if target.drive is None:
        await tell_full(tx, target, why="nothing that is due fits any more")
        return
    lacks = f"more than a drive of {target.size:,} bytes takes" if is_for_larger else f"and {cramped.left:,} are left"
    await tx.alerts.raise_alert(
        no_room_cause(target.name),
        message=f"Nothing that is due fits on {target.name}: the least is {least.name} with {least.size:,} bytes, "
        f"{lacks}",
        remedy="Use a larger drive, or send it by a rule without drives."
        if is_for_larger
        else f"Plug in another drive as well. What is smaller still goes onto {target.name}.",
    )


def _is_worth_sending(target: Target, cramped: Cramped) -> bool:
    """Whether it may count as full: one large file must not send drives away on which small ones have much room."""
    return cramped.left < target.size // (_LITTLE if cramped.is_taken_elsewhere else _MUCH)


async def tell_full(tx: Transaction, target: Target, *, why: str) -> None:
    """Nothing more goes onto *target*: a drive is full, and of another store a person should know."""
    held = await tx.tallies.of(f"store:{target.name}")
    on_it = f"{counted(held.files)}, {held.bytes:,} bytes are on it"
    if target.drive is None or held.files == 0:
        await tx.alerts.raise_alert(
            no_room_cause(target.name),
            message=f"Nothing that is due fits on {target.name}: {why}; {on_it}",
            remedy=f"Free space on {target.name}, or name other stores in the rule.",
        )
        return
    drive = await tx.drives.find(target.name)
    if drive is None or not await tx.drives.advance(drive.id, to=DriveState.FULL, who=_ACTOR):
        return
    log.info("Drive %s is full: %s", target.name, on_it, extra={"event": "drive-full", "store": target.name})
    await tx.events.tell(
        [Happening(subject=drive_subject(target.name), what="full", who=_ACTOR, why=f"{why}; {on_it}")]
    )
    await tx.alerts.raise_alert(
        full_cause(target.name),
        message=f"Drive {target.name} is full: {why}; {on_it}",
        remedy=f"Run 'drive seal {target.name} --to PEER', unplug it, and plug in another.",
    )
