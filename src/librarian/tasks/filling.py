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

    from librarian.catalog.loading import Loadable, Target
    from librarian.catalog.transaction import Transaction
    from librarian.catalog.waiting import WaitingRule
    from librarian.stores.base import Capacity

log = logging.getLogger(__name__)

_ACTOR: Final = "load"


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


async def tell_cramped(tx: Transaction, target: Target, least: Loadable) -> None:
    """Nothing that is due fits on *target*, not even *least*: it is full, unless that fits on no drive of its size."""
    held = await tx.tallies.of(f"store:{target.name}")
    if target.drive is None or (held.files and choosing.room_for(least) <= target.size):
        await tell_full(tx, target, why="nothing that is due fits any more")
        return
    await tx.alerts.raise_alert(
        no_room_cause(target.name),
        message=f"Nothing that is due fits on {target.name}: the least is {least.name} with {least.size:,} bytes, "
        f"more than a drive of {target.size:,} bytes takes",
        remedy="Use a larger drive, or send it by a rule without drives.",
    )


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
