"""Peers: the other librarians that this site exchanges files with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian import entry_points, replication
from librarian.catalog.records import Happening
from librarian.client.address import Address
from librarian.errors import (
    BadName,
    BadRequest,
    ConfigurationError,
    Conflict,
    Forbidden,
    LibrarianError,
    NotFound,
    PeerUnavailable,
    Throttled,
    Unauthenticated,
)
from librarian.names import SiteName
from librarian.peers import require_tls
from librarian.states import Flow, Reach, Role
from librarian.web.route import Answer, Body, Call, Query, Route
from librarian.web.traffic import traffic_of
from librarian.wire.peers import (
    ChangePeer,
    PeerDescription,
    PeerList,
    PeerRemoval,
    PinnedEntryPoint,
    PutPeer,
    RemovePeer,
)

if TYPE_CHECKING:
    from librarian.catalog.records import EntryPoint, Peer
    from librarian.catalog.transaction import Transaction
    from librarian.site import Site
    from librarian.wire.peers import OfferedSite, Traffic

_ADMIN: Final = frozenset({Role.ADMIN})
_OF_PEERS: Final = frozenset({Role.UPSTREAM, Role.CALLBACK})


def named(call: Call[Body, Query]) -> SiteName:
    """The peer that the path names; raises NotFound where none could be called that."""
    try:
        return SiteName(call.request.match_info["name"])
    except BadName as error:
        raise NotFound(f"no peer has such a name: {error.message}", remedy="List the peers.") from error


async def _describe(tx: Transaction, site: Site, peer: Peer) -> PeerDescription:
    return _description(site, peer, (await traffic_of(tx, site, [peer]))[peer.id])


async def description_of(site: Site, name: SiteName) -> PeerDescription:
    """The peer called *name*, as this site knows it."""
    async with site.catalog.read() as tx:
        return await _describe(tx, site, await tx.peers.get(name))


def _description(site: Site, peer: Peer, traffic: Traffic) -> PeerDescription:
    return PeerDescription(
        **traffic.model_dump(),
        name=peer.name,
        url=peer.url,
        username=peer.username,
        reach=peer.reach,
        is_fetched=peer.is_fetched,
        is_enabled=peer.is_enabled,
        accepts=list(peer.accepts),
        entry_points=[
            PinnedEntryPoint(store=p.store, engine=p.engine, address=p.address, staging=p.staging)
            for p in peer.entry_points
        ],
        held_because=peer.held_because,
        rate_limit=peer.rate_limit,
        windows=list(peer.windows),
        staged_budget=peer.staged_budget,
        last_heard_at=peer.last_heard_at,
        created_at=peer.created_at,
        trouble=site.neighbours.trouble_of(peer.name),
    )


async def list_peers(call: Call[None, None]) -> Answer:
    """Every peer, by name."""
    async with call.site.catalog.read() as tx:
        known = await tx.peers.all()
        traffic = await traffic_of(tx, call.site, known)
    return Answer(body=PeerList(peers=[_description(call.site, peer, traffic[peer.id]) for peer in known]))


async def show_peer(call: Call[None, None]) -> Answer:
    """One peer."""
    return Answer(body=await description_of(call.site, named(call)))


async def put_peer(call: Call[PutPeer, None]) -> Answer:
    """Add a peer, or change where and as whom it is called; its entry points are read now and pinned."""
    name, body, site = SiteName(call.request.match_info["name"]), call.body, call.site
    if name == site.name:
        raise BadRequest(f"{name!r} is this site itself", remedy="A peer is another site.")
    password = body.password.get_secret_value()
    url = Address.parse(body.url).url
    require_tls(url, allow_plaintext=site.settings.allow_plaintext)
    authority = await _authority(call, name)
    offered = await _ask(site, url=url, username=body.username, password=password, authority=authority)
    pinned = await _look(name, offered)
    secret = site.neighbours.secrets.encrypt(password)
    async with site.catalog.begin() as tx:
        peer = await tx.peers.find(name)
        if peer is None:
            peer = await tx.peers.add(
                name,
                url=url,
                username=body.username,
                secret=secret,
                reach=Reach.PUSH,
                accepts=[""] if body.accepts is None else body.accepts,
                entry_points=pinned,
            )
            await replication.peer_appeared(tx, name=name)
        else:
            await tx.peers.reach_at(peer.id, url=url, username=body.username, secret=secret)
            if body.accepts is not None:
                await tx.peers.accept_from(peer.id, body.accepts)
            await tx.peers.pin(peer.id, pinned)
            await tx.alerts.acknowledge([f"peer:{name}:entry-points"])
        await _tell(tx, name, call, "peer set", why=url)
        known = await tx.peers.get(name)
        await tx.peers.trust(known.id, authority)
        answer = await _describe(tx, site, known)
    await site.neighbours.forget(name)
    _go_on(site)
    return Answer(body=answer)


async def _authority(call: Call[PutPeer, None], name: SiteName) -> str | None:
    """Who must have signed the peer's certificate: as the caller says, else as it was."""
    if call.body.authority is not None:
        return call.body.authority or None
    async with call.site.catalog.read() as tx:
        peer = await tx.peers.find(name)
        return None if peer is None else await tx.peers.authority_of(peer.id)


async def change_peer(call: Call[ChangePeer, None]) -> Answer:
    """Switch the peer on or off, limit what goes there, change what is accepted, or pin its entry points anew."""
    name, body, site = named(call), call.body, call.site
    async with site.catalog.read() as tx:
        await tx.peers.get(name)
    pinned = await _look(name, await _ask_again(site, name)) if body.accept_entry_points else None
    async with site.catalog.begin() as tx:
        peer = await tx.peers.get(name)
        if body.is_enabled is not None and body.is_enabled is not peer.is_enabled:
            await tx.peers.enable(peer.id, is_enabled=body.is_enabled)
            await _tell(tx, name, call, "peer enabled" if body.is_enabled else "peer disabled")
        await _limit(tx, peer, call)
        if body.accepts is not None:
            await tx.peers.accept_from(peer.id, body.accepts)
            await _tell(tx, name, call, "accepted prefixes changed", why=", ".join(body.accepts))
        if pinned is not None:
            await tx.peers.pin(peer.id, pinned)
            await tx.alerts.acknowledge([f"peer:{name}:entry-points"])
            await _tell(tx, name, call, "entry points accepted")
        answer = await _describe(tx, site, await tx.peers.get(name))
    for engine in site.engines.values():
        engine.keep_to(name, answer.rate_limit)
    if answer.is_enabled:
        site.neighbours.rest_no_more(name)
    else:
        await site.neighbours.forget(name)
    _go_on(site)
    return Answer(body=answer)


async def _limit(tx: Transaction, peer: Peer, call: Call[ChangePeer, None]) -> None:
    body = call.body
    if body.flow is not None and body.flow != peer.flow:
        await tx.peers.let_flow(peer.id, Flow(body.flow))
        await _tell(tx, peer.name, call, f"flow {body.flow}")
    before = (peer.rate_limit, peer.windows, peer.staged_budget)
    limits = (
        peer.rate_limit if body.rate_limit is None else body.rate_limit or None,
        peer.windows if body.windows is None else tuple(body.windows),
        peer.staged_budget if body.staged_budget is None else body.staged_budget or None,
    )
    if limits != before:
        rate_limit, windows, staged_budget = limits
        await tx.peers.limit(peer.id, rate_limit=rate_limit, windows=windows, staged_budget=staged_budget)
        why = f"rate {rate_limit or 'any'}, windows {', '.join(windows) or 'always'}, budget {staged_budget or 'any'}"
        await _tell(tx, peer.name, call, "limits changed", why=why)


async def remove_peer(call: Call[None, RemovePeer]) -> Answer:
    """Forget a peer that holds nothing of ours and with which nothing is under way."""
    name = named(call)
    async with call.site.catalog.begin() as tx:
        peer = await tx.peers.get(name)
        await tx.peers.refuse_to_forget(peer.id)
        untold = await tx.outbox.count_untold(peer.id)
        if call.query.dry_run:
            return Answer(body=PeerRemoval(name=name, is_dry_run=True, untold=untold))
        await tx.peers.remove(peer.id)
        await tx.pairings.forget(peer.name)
        await _tell(tx, name, call, "peer removed")
    await call.site.neighbours.forget(name)
    return Answer(body=PeerRemoval(name=name, is_dry_run=False, untold=untold))


async def _ask(site: Site, *, url: str, username: str, password: str, authority: str | None) -> OfferedSite:
    try:
        return await site.neighbours.look_at(url=url, username=username, password=password, authority=authority)
    except ConfigurationError as error:
        raise BadRequest(error.message, remedy=error.remedy) from error
    except LibrarianError as error:
        raise _does_not_answer(url, error) from error


async def _ask_again(site: Site, name: SiteName) -> OfferedSite:
    try:
        return await site.neighbours.look_again(name)
    except ConfigurationError:
        raise
    except LibrarianError as error:
        raise _does_not_answer(name, error) from error


def _does_not_answer(whom: str, error: LibrarianError) -> LibrarianError:
    if isinstance(error, (Unauthenticated, Forbidden, Throttled)):
        # Not as it came: a 401 from us would say that our caller's own account is wrong.
        return BadRequest(
            f"{whom} does not let us in: {error.message}",
            remedy="Check user and password, and that the account has the role 'upstream' or 'callback' there.",
        )
    return PeerUnavailable(f"{whom} does not answer: {error.message}", remedy=error.remedy)


async def _look(name: SiteName, offered: OfferedSite) -> tuple[EntryPoint, ...]:
    if offered.name != name:
        raise Conflict(
            f"the site that answers is called {offered.name!r}, not {name!r}",
            remedy="Add it under the name that it gives itself.",
        )
    if offered.roles and _OF_PEERS.isdisjoint(offered.roles):
        raise BadRequest(
            f"our account at {name} has the roles {', '.join(offered.roles)}, with which no clone can be sent or taken",
            remedy="Ask its operators for 'upstream', to send files there, or 'callback', to get files from there.",
        )
    return await entry_points.usable(offered)


async def _tell(tx: Transaction, name: SiteName, call: Call[Body, Query], what: str, *, why: str = "") -> None:
    await tx.events.tell([Happening(subject=f"peer:{name}", what=what, who=call.caller.name, why=why)])


def _go_on(site: Site) -> None:
    """Whoever has work for the peer looks again."""
    for bell in ("backfill", "send", "submit", "poll", "deliver"):
        site.bells.ring(bell)


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/api/v1/peers",
        handler=list_peers,
        summary="Every peer",
        roles=_ADMIN,
        answer=PeerList,
        tag="peers",
    ),
    Route(
        method="GET",
        path="/api/v1/peers/{name}",
        handler=show_peer,
        summary="One peer",
        roles=_ADMIN,
        answer=PeerDescription,
        refusals=(NotFound,),
        tag="peers",
    ),
    Route(
        method="PUT",
        path="/api/v1/peers/{name}",
        handler=put_peer,
        summary="Add a peer, or change where and as whom it is called",
        roles=_ADMIN,
        body=PutPeer,
        answer=PeerDescription,
        refusals=(NotFound, Conflict, PeerUnavailable),
        tag="peers",
    ),
    Route(
        method="PATCH",
        path="/api/v1/peers/{name}",
        handler=change_peer,
        summary="Enable, disable or limit a peer, change what is accepted, accept its entry points",
        roles=_ADMIN,
        body=ChangePeer,
        answer=PeerDescription,
        refusals=(NotFound, Conflict, PeerUnavailable),
        tag="peers",
    ),
    Route(
        method="DELETE",
        path="/api/v1/peers/{name}",
        handler=remove_peer,
        summary="Forget a peer",
        roles=_ADMIN,
        query=RemovePeer,
        answer=PeerRemoval,
        refusals=(NotFound, Conflict),
        tag="peers",
    ),
)
