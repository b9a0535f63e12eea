"""The site: who answers, and the acknowledgement that its catalog was restored."""

from __future__ import annotations

from typing import Final

from librarian import hearing
from librarian.catalog.records import Happening
from librarian.errors import Conflict
from librarian.ownership import RESTORED
from librarian.states import Role
from librarian.web.route import Answer, Call, Route
from librarian.wire.site import RestoredAcknowledged, SiteDescription


async def describe_site(call: Call[None, None]) -> Answer:
    """Say who answers, and as whom the caller is known."""
    return Answer(body=await hearing.describe_site(call.site, call.caller))


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
