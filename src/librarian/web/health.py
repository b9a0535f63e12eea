"""Is it alive, is it ready, and how is it?"""

from __future__ import annotations

import asyncio
import os
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import librarian
from librarian.errors import DatabaseUnavailable, Draining
from librarian.states import Role
from librarian.timing import utc_now
from librarian.web import stores
from librarian.web.route import Answer, Call, Route
from librarian.web.traffic import traffic_of
from librarian.wire.peers import PeerTraffic
from librarian.wire.site import AlertStatus, Liveness, Readiness, SiteStatus, TallyStatus, TaskStatus

if TYPE_CHECKING:
    from librarian.catalog.records import Alert
    from librarian.pulse import Pulse

#: A database that does not answer a question about one row for this long is away.
DATABASE_TIME: Final = timedelta(seconds=3)
_ALERTS: Final = 100


async def say_alive(_: Call[None, None]) -> Answer:
    """The process answers; nothing is asked of anybody else."""
    return Answer(body=Liveness())


async def say_ready(call: Call[None, None]) -> Answer:
    """The database answers, and the process is not going down."""
    if call.site.health.is_draining:
        raise Draining("the server is going down", remedy="Try again when it is back.")
    try:
        async with asyncio.timeout(DATABASE_TIME.total_seconds()), call.site.catalog.read() as tx:
            await tx.site.get()
    except TimeoutError as error:
        raise DatabaseUnavailable(
            "the catalog's database does not answer", remedy="Check that the database runs."
        ) from error
    return Answer(body=Readiness())


async def describe_status(call: Call[None, None]) -> Answer:
    """Stores, tasks, totals, alerts and owner at a glance."""
    site = call.site
    async with site.catalog.read() as tx:
        record = await tx.site.get()
        rows = [row for row in await tx.stores.all() if row.kind != "drive"]
        held = await tx.tallies.of("held")
        alerts = await tx.alerts.open_ones(limit=_ALERTS)
        known = await tx.peers.all()
        traffic = await traffic_of(tx, site, known)
    return Answer(
        body=SiteStatus(
            name=site.name,
            version=librarian.__version__,
            started_at=site.health.started_at,
            uptime_seconds=(utc_now() - site.health.started_at).total_seconds(),
            is_draining=site.health.is_draining,
            owner=f"{socket.gethostname()} pid {os.getpid()}",
            generation=record.generation,
            epoch=record.epoch,
            restored=record.restored_why if record.restored_at else None,
            checksum_workers=site.settings.limits.workers,
            checksum_busy=len(site.pool.busy_pids),
            held=TallyStatus(files=held.files, bytes=held.bytes),
            stores=await stores.describe_all(site, rows),
            peers=[PeerTraffic(name=peer.name, **traffic[peer.id].model_dump()) for peer in known],
            tasks=[_task(pulse) for pulse in site.pulses.all()],
            alerts=[_alert(alert) for alert in alerts],
        )
    )


def _task(pulse: Pulse) -> TaskStatus:
    return TaskStatus(
        name=pulse.name,
        is_running=pulse.is_running,
        is_slow=pulse.is_slow,
        last_pass_at=pulse.last_pass_at,
        next_pass_at=pulse.next_pass_at,
        rounds=pulse.rounds,
        failures=pulse.failures,
        last_error=pulse.last_error,
        last_error_at=pulse.last_error_at,
    )


def _alert(alert: Alert) -> AlertStatus:
    return AlertStatus(
        cause=alert.cause,
        message=alert.message,
        remedy=alert.remedy,
        count=alert.count,
        first_at=alert.first_at,
        last_at=alert.last_at,
    )


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/healthz",
        handler=say_alive,
        summary="The process is alive",
        roles=frozenset(),
        answer=Liveness,
        tag="health",
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=say_ready,
        summary="The process takes work: its database answers and it is not going down",
        roles=frozenset(),
        answer=Readiness,
        refusals=(Draining, DatabaseUnavailable),
        tag="health",
    ),
    Route(
        method="GET",
        path="/api/v1/status",
        handler=describe_status,
        summary="Stores, tasks, totals, alerts and owner at a glance",
        roles=frozenset({Role.READER}),
        answer=SiteStatus,
        tag="health",
    ),
)
