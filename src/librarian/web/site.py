"""The site: who answers, and the acknowledgement that its catalog was restored."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from aiohttp import web

import librarian
from librarian import entry_points
from librarian.catalog.records import Happening
from librarian.errors import Conflict
from librarian.names import StoreName
from librarian.ownership import RESTORED
from librarian.states import Role
from librarian.web.patience import unless_slow
from librarian.web.route import Answer, Call, Route
from librarian.wire.base import PROTOCOL
from librarian.wire.site import RestoredAcknowledged, SiteDescription

if TYPE_CHECKING:
    from librarian.site import Site
    from librarian.wire.peers import OfferedEntryPoint

#: Entry points are looked at anew after this long; it touches every store's staging.
FRESH: Final = timedelta(seconds=30)
#: A store that does not answer for this long is left out.
STORE_TIME: Final = timedelta(seconds=5)


class Card:
    """What the site says about itself, kept so that asking costs neither the database nor a disk."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._uuid = ""
        self._entry_points: list[OfferedEntryPoint] = []
        self._good_until = 0.0

    async def read(self) -> tuple[str, list[OfferedEntryPoint]]:
        """The site's UUID and how peers may fill its stores' staging, at most half a minute old."""
        if time.monotonic() >= self._good_until:
            await self._renew()
        return self._uuid, self._entry_points

    async def _renew(self) -> None:
        async with self._site.catalog.read() as tx:
            self._uuid = (await tx.site.get()).uuid
            rows = await tx.stores.all()
        known = {row.name for row in rows}
        collections = {StoreName(store.name): store.globus for store in self._site.settings.stores}
        found: list[OfferedEntryPoint] = []
        for store in self._site.stores.all():
            if store.name not in known or store.problem is not None:
                continue
            try:
                offered = entry_points.offered_by(store, collections.get(store.name))
                found += await unless_slow(offered, patience=STORE_TIME)
            except TimeoutError:
                continue
        self._entry_points = found
        self._good_until = time.monotonic() + FRESH.total_seconds()


CARD: Final = web.AppKey("CARD", Card)


async def describe_site(call: Call[None, None]) -> Answer:
    """Say who answers, and as whom the caller is known."""
    uuid, points = await call.request.app[CARD].read()
    # A site that only receives our clones learns nothing about how we keep ours.
    sees_entry_points = call.caller.roles != {Role.CALLBACK}
    return Answer(
        body=SiteDescription(
            name=call.site.name,
            uuid=uuid,
            version=librarian.__version__,
            protocol=PROTOCOL,
            account=call.caller.name,
            roles=sorted(call.caller.roles),
            entry_points=points if sees_entry_points else [],
        )
    )


async def acknowledge_restored(call: Call[None, None]) -> Answer:
    """Note that a person knows that the catalog was restored from a backup; bytes may be removed again."""
    async with call.site.catalog.begin() as tx:
        before = await tx.site.get()
        if before.restored_at is None:
            raise Conflict("the catalog is not held to be a restored backup", remedy="There is nothing to acknowledge.")
        await tx.site.acknowledge_restored()
        await tx.alerts.acknowledge([RESTORED])
        after = await tx.site.get()
        await tx.events.tell(
            [
                Happening(
                    subject="site",
                    what="restored acknowledged",
                    who=call.caller.name,
                    why=before.restored_why or "",
                )
            ]
        )
    return Answer(body=RestoredAcknowledged(epoch=after.epoch, generation=after.generation))


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/api/v1/site",
        handler=describe_site,
        summary="Who answers, which protocol it speaks, and who you are here",
        roles=frozenset({Role.READER, Role.UPSTREAM, Role.CALLBACK}),
        answer=SiteDescription,
        tag="site",
    ),
    Route(
        method="POST",
        path="/api/v1/site/restored",
        handler=acknowledge_restored,
        summary="Acknowledge that the catalog was restored from a backup",
        roles=frozenset({Role.ADMIN}),
        answer=RestoredAcknowledged,
        refusals=(Conflict,),
        tag="site",
    ),
)
