"""Carriage: what a copy that travels on a drive waits for, told in parts of sentences, at either end.

Facts in, words out; nothing is asked of anybody here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from librarian.states import CARRYING, DriveState, Presence, ReceptionState
from librarian.timing import told_at

if TYPE_CHECKING:
    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.receptions import Reception
    from librarian.catalog.standing import Standing


def of_copy(drive: DriveRecord | None) -> str:
    """Where the *drive* stands that a copy is on; nothing of what is no drive."""
    if drive is None:
        return ""
    where = f"plugged in at {drive.path}" if drive.is_plugged else f"not plugged in since {told_at(drive.seen_at)}"
    return f"; that drive is {drive.state} since {told_at(drive.since)}, and {where}"


def of_entry(reception: Reception) -> str:
    """What an entry of a drive waits for that was not read yet."""
    if reception.state is not ReceptionState.RECEIVING:
        return f"was not read; receiving the drive is {reception.state} since {told_at(reception.progressed_at)}."
    if reception.reason:
        since = told_at(reception.progressed_at)
        return f"is not read yet; the drive went on last at {since}, and waits: {reception.reason}."
    since = told_at(reception.created_at)
    return f"is not read yet; the drive is being received at {reception.path} since {since}."


def next_steps(standing: Standing, *, to: str) -> str:
    """What has to happen to the drives that bring a file to the peer *to*, until that says that it holds it."""
    peers = {peer.id: peer.name for peer in standing.peers}
    is_carried = any(each.manifest_id is not None and peers.get(each.peer_id) == to for each in standing.leaving)
    on = {copy.store for copy in standing.instances if copy.presence is Presence.PRESENT}
    told = [
        f"{name} {_next_step(drive, to, is_carried=is_carried)}"
        for name, drive in standing.drives.items()
        if name in on and drive.state in CARRYING
    ]
    return f": {', and '.join(told)}" if told else f", until {to} says that it holds it"


def _next_step(drive: DriveRecord, to: str, *, is_carried: bool) -> str:
    state = f"is {drive.state} since {told_at(drive.since)}"
    match drive.state:
        case DriveState.LOADING | DriveState.FULL:
            return f"{state}, and is yet to be sealed"
        case DriveState.SEALING:
            return f"{state}, and is yet to be carried to {to}"
        case DriveState.SEALED:
            return f"{state}, and is yet to be unplugged and carried to {to}"
        case DriveState.IN_TRANSIT:
            return f"{state}, and {to} has told of nothing on it yet"
        case _ if is_carried:
            return f"{state}, and {to} has not told of this file yet"
        case _:
            return f"{state}, and {to} could not take the file from it: 'librarian show' tells why"
