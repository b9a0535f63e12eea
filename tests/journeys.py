"""Drives on their rounds, as they are told, for whoever tests how they are shown."""

import uuid
from datetime import UTC, datetime, timedelta

from librarian.catalog.drives import NewDrive
from librarian.names import StoreName
from librarian.states import DriveState
from librarian.wire.journeys import DriveStatus, Journey, Outlook
from librarian.wire.site import TallyStatus

NOW = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)
TB = 10**12
NONE = TallyStatus(files=0, bytes=0)


def amount(files: int, size: int) -> TallyStatus:
    return TallyStatus(files=files, bytes=size)


def journey(name: str = "A07", state: DriveState = DriveState.LOADING, **changes) -> Journey:
    """A drive that is being loaded, a quarter full."""
    return Journey(
        name=name,
        state=state,
        since=NOW - timedelta(days=3, hours=2),
        age_seconds=3 * 86_400 + 2 * 3_600,
        who="ana",
        round=1,
        is_plugged=True,
        path=f"/media/{name}",
        problem=None,
        size=4 * TB,
        full_at=980,
        held=amount(100, TB),
        to=None,
        sealed_at=None,
        carried=None,
        confirmed=None,
        waiting=None,
        failed=None,
    ).model_copy(update=changes)


def in_the_post(name: str = "A08", **changes) -> Journey:
    """A drive that travels: of 300 files the peer holds 200, and could not take one."""
    travels = {
        "is_plugged": False,
        "held": amount(300, 3 * TB),
        "to": "nersc",
        "sealed_at": NOW,
        "carried": amount(300, 3 * TB),
        "confirmed": amount(200, 2 * TB),
        "waiting": amount(99, TB - 10**10),
        "failed": amount(1, 10**10),
    }
    return journey(name, DriveState.RECEIVED, **travels | changes)


def outlook(**changes) -> Outlook:
    """A rule that has a lot to load."""
    return Outlook(
        rule="carried",
        to="nersc",
        drives=["A*"],
        due=amount(2_000, 9 * TB),
        quarantined=amount(0, 0),
        room_bytes=2 * TB,
        drive_bytes=4 * TB,
        drives_due=2,
        arrived=amount(1_500, 7 * TB),
        bytes_per_day=TB,
        drives_per_week=1.75,
        full_in_seconds=0.0,
    ).model_copy(update=changes)


def a_drive(name: str, *, size: int = 4 * TB) -> NewDrive:
    """A drive that is about to be made."""
    return NewDrive(
        name=StoreName(name),
        uuid=str(uuid.uuid4()),
        serial=None,
        filesystem="ext4",
        size=size,
        full_at=1000,
        path=f"/media/{name}",
        who="ana",
    )


def status(*drives: Journey, rules: tuple[Outlook, ...] = ()) -> DriveStatus:
    return DriveStatus(at=NOW, drives=list(drives), rules=list(rules))
