"""Alerts: what a person must look at, and the word that somebody has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian.catalog.records import Happening
from librarian.errors import BadRequest, NotFound
from librarian.states import Role
from librarian.web.route import Answer, Call, Route
from librarian.wire.alerts import AcknowledgeAlerts, AlertDescription, AlertList, AlertQuery, AlertsAcknowledged

if TYPE_CHECKING:
    from librarian.catalog.records import Alert

_ADMIN: Final = frozenset({Role.ADMIN})


async def list_alerts(call: Call[None, AlertQuery]) -> Answer:
    """Alerts, newest first: those that nobody has acknowledged, or all."""
    limit = call.query.limit
    async with call.site.catalog.read() as tx:
        read = tx.alerts.all if call.query.all else tx.alerts.open_ones
        found = await read(limit=limit + 1)
    return Answer(body=AlertList(alerts=[_describe(alert) for alert in found[:limit]], has_more=len(found) > limit))


def _describe(alert: Alert) -> AlertDescription:
    return AlertDescription(
        cause=alert.cause,
        message=alert.message,
        remedy=alert.remedy,
        count=alert.count,
        first_at=alert.first_at,
        last_at=alert.last_at,
        acknowledged_at=alert.acknowledged_at,
    )


async def acknowledge_alerts(call: Call[AcknowledgeAlerts, None]) -> Answer:
    """Note that a person has seen alerts. One that is reported again is open again."""
    body = call.body
    if body.all is bool(body.causes):
        raise BadRequest("either 'causes' or 'all' says which alerts", remedy="Give one of the two.")
    async with call.site.catalog.begin() as tx:
        if body.all:
            count = await tx.alerts.acknowledge_all()
        else:
            known = await tx.alerts.named(body.causes)
            if missing := set(body.causes) - {alert.cause for alert in known}:
                raise NotFound(f"there is no alert {min(missing)!r}", remedy="See 'alert list' for the causes.")
            count = sum(alert.acknowledged_at is None for alert in known)
            await tx.alerts.acknowledge(body.causes)
        why = "all" if body.all else ", ".join(body.causes)
        await tx.events.tell(
            [Happening(subject="site", what="alerts acknowledged", who=call.caller.name, why=why[:2000])]
        )
    return Answer(body=AlertsAcknowledged(alerts=count))


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/api/v1/alerts",
        handler=list_alerts,
        summary="What a person must look at",
        roles=_ADMIN,
        query=AlertQuery,
        answer=AlertList,
        tag="site",
    ),
    Route(
        method="POST",
        path="/api/v1/alerts/acknowledge",
        handler=acknowledge_alerts,
        summary="Note that a person has seen alerts",
        roles=_ADMIN,
        body=AcknowledgeAlerts,
        answer=AlertsAcknowledged,
        refusals=(NotFound,),
        tag="site",
    ),
)
