"""Why: what each copy of a file still waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian import reasons
from librarian.catalog.standing import standing_of
from librarian.errors import BadName, NotFound
from librarian.names import FileName
from librarian.reasons import Trouble
from librarian.states import Role
from librarian.timing import utc_now
from librarian.web.route import Answer, Call, Route
from librarian.wire.why import Why, WhyCopy

if TYPE_CHECKING:
    from librarian.names import SiteName
    from librarian.site import Site


async def tell_why(call: Call[None, None]) -> Answer:
    """Tell what each copy of a file waits for; also of one that is not here yet, or was refused."""
    try:
        name = FileName(call.request.match_info["name"])
    except BadName as error:
        raise NotFound(f"no file has such a name: {error.message}", remedy="Search for the name.") from error
    site = call.site
    async with site.catalog.read() as tx:
        standing = await standing_of(tx, name)
    told = reasons.reasons(
        standing,
        troubles={peer.name: trouble for peer in standing.peers if (trouble := _trouble(site, peer.name)) is not None},
        most_batches=site.settings.clones.batches_per_peer,
        now=utc_now(),
    )
    copies = [WhyCopy(place=e.place, state=e.state, since=e.since, sentence=e.sentence) for e in told]
    return Answer(body=Why(name=name, copies=copies))


def _trouble(site: Site, peer: SiteName) -> Trouble | None:
    why, since = site.neighbours.trouble_of(peer), site.neighbours.in_trouble_since(peer)
    return None if why is None or since is None else Trouble(why=why, since=since)


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/api/v1/why/{name:.+}",
        handler=tell_why,
        summary="What each copy of a file still waits for",
        roles=frozenset({Role.ADMIN}),
        answer=Why,
        refusals=(NotFound,),
        tag="transfers",
    ),
)
