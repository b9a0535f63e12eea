"""Journeys: where each drive stands, and how many more will be needed; all from totals that are kept."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from librarian import owing
from librarian.catalog.arrivals import DAYS, span_of_week
from librarian.catalog.due_totals import loading_subject, quarantined_subject
from librarian.drives import trouble_with
from librarian.names import PeerId
from librarian.states import DriveState, RuleWay
from librarian.timing import utc_now
from librarian.wire.journeys import DriveStatus, Journey, Outlook
from librarian.wire.site import TallyStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.manifests import ManifestRecord
    from librarian.catalog.records import Rule, Tally
    from librarian.site import Site

#: A rate is never taken of less: the first hour of a rule says little of its weeks.
_LEAST: Final = timedelta(days=1)
#: Nobody plans for what is later.
_FAR: Final = timedelta(days=3653)


async def drive_status(site: Site) -> DriveStatus:
    """Where each drive of *site* stands; no disk is asked, and no file or instance counted."""
    now = utc_now()
    async with site.catalog.read() as tx:
        drives = await tx.drives.all()
        manifests = await tx.manifests.present()
        rules = [rule for rule in await tx.rules.all() if rule.way is RuleWay.CARRIED and rule.is_enabled]
        due = await tx.tallies.of_many([loading_subject(rule.id) for rule in rules])
        aside = await tx.tallies.of_many([_aside(rule) for rule in rules])
        arrived = await tx.arrivals.of_week([rule.id for rule in rules], at=now)
    return DriveStatus(
        at=now,
        drives=[_journey(site, drive, manifests.get(drive.id), now=now) for drive in drives],
        rules=[
            outlook(
                rule,
                drives,
                due=due[loading_subject(rule.id)],
                quarantined=aside[_aside(rule)],
                arrived=arrived[rule.id],
                now=now,
            )
            for rule in rules
        ],
    )


def _journey(site: Site, drive: DriveRecord, manifest: ManifestRecord | None, *, now: datetime) -> Journey:
    journey = Journey(
        name=drive.name,
        state=drive.state,
        since=drive.since,
        age_seconds=max((now - drive.since).total_seconds(), 0.0),
        who=drive.who,
        round=drive.round,
        is_plugged=drive.is_plugged,
        path=drive.path,
        problem=trouble_with(site, drive),
        size=drive.size,
        full_at=drive.full_at,
        held=TallyStatus(files=drive.files, bytes=drive.bytes),
        to=None,
        sealed_at=None,
        carried=None,
        confirmed=None,
        waiting=None,
        failed=None,
    )
    if manifest is None:
        return journey
    told_files = manifest.confirmed_files + manifest.failed_files
    told_bytes = manifest.confirmed_bytes + manifest.failed_bytes
    return journey.model_copy(
        update={
            "to": str(manifest.peer),
            "sealed_at": manifest.sealed_at,
            "carried": TallyStatus(files=manifest.files, bytes=manifest.bytes),
            "confirmed": TallyStatus(files=manifest.confirmed_files, bytes=manifest.confirmed_bytes),
            "waiting": TallyStatus(files=manifest.files - told_files, bytes=manifest.bytes - told_bytes),
            "failed": TallyStatus(files=manifest.failed_files, bytes=manifest.failed_bytes),
        }
    )


def _aside(rule: Rule) -> str:
    # Of a peer that nobody made yet nothing is counted.
    return quarantined_subject(rule.peer_id or PeerId(0))


def outlook(
    rule: Rule, drives: Sequence[DriveRecord], *, due: Tally, quarantined: Tally, arrived: Tally, now: datetime
) -> Outlook:
    """What *rule* takes in drives: for what is *due*, and for what *arrived* of late if that goes on.

    A drive is taken to be like the newest of those that the rule may load, up to where it counts as full.
    """
    policy = owing.policy_of(rule)
    ours = [drive for drive in drives if owing.takes(policy, drive.name)]
    room = sum(max(_takes(drive) - drive.bytes, 0) for drive in ours if drive.state is DriveState.LOADING)
    newest = max(ours, key=lambda drive: (drive.created_at, drive.name), default=None)
    one = None if newest is None else _takes(newest)
    span = max(min(span_of_week(now), now - rule.created_at), _LEAST)
    per_day = arrived.bytes / (span / timedelta(days=1))
    return Outlook(
        rule=rule.name,
        to=policy.peer or "",
        drives=list(policy.stores),
        due=TallyStatus(files=due.files, bytes=due.bytes),
        quarantined=TallyStatus(files=quarantined.files, bytes=quarantined.bytes),
        room_bytes=room,
        drive_bytes=one,
        drives_due=math.ceil(max(due.bytes - room, 0) / one) if one else None,
        arrived=TallyStatus(files=arrived.files, bytes=arrived.bytes),
        bytes_per_day=round(per_day),
        drives_per_week=round(per_day * DAYS / one, 2) if one else None,
        full_in_seconds=_full_in(max(room - due.bytes, 0), per_day=per_day),
    )


def _full_in(room: int, *, per_day: float) -> float | None:
    seconds = room / per_day * 86_400 if per_day else None
    return None if seconds is None or seconds > _FAR.total_seconds() else seconds


def _takes(drive: DriveRecord) -> int:
    return drive.size * drive.full_at // 1000
