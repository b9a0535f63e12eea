"""Probing: the receiver's side of a check. A small book is brought as a clone would be, read, and removed.

Its row is a clone's that is never staged: cut off anywhere, it is cleared away as one that nobody brings.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from librarian.catalog.incoming_rows import Opening
from librarian.checksum import Algorithm
from librarian.errors import LibrarianError, NotFound, StoreUnavailable
from librarian.names import FileName, StoreName, Token
from librarian.states import OPEN, Arrival, Kind
from librarian.wire.checkup import ProbeRead, ProbeStaged

if TYPE_CHECKING:
    from librarian.catalog.records import Incoming, Peer
    from librarian.site import Site
    from librarian.wire.checkup import AskProbe, AskProbeRead

#: No file can have such a name: the prefix is the stores' own.
PROBES: Final = ".librarian-probe/"


async def stage(site: Site, peer: Peer, asked: AskProbe) -> ProbeStaged:
    """Make staging for a probe of *peer*.

    Raises
    ------
    NotFound, StoreUnavailable
        There is no such store here, or it cannot be used now.
    """
    name = StoreName(asked.store)
    if name not in site.stores:
        raise NotFound(f"no store here is called {name!r}", remedy="Check the peer with --accept.")
    store = site.stores.lookup(name)
    if store.problem is not None:
        raise StoreUnavailable(f"the store {name} cannot be used: {store.problem}", remedy="Repair it there.")
    capacity = await store.capacity()
    token = Token.mint()
    async with site.catalog.begin(opens_names=True) as tx:
        await tx.incoming.open([_opening(peer, name, token, size=asked.size)])
    await store.stage([token])
    return ProbeStaged(token=token, free_bytes=capacity.free_bytes)


def _opening(peer: Peer, store: StoreName, token: Token, *, size: int) -> Opening:
    return Opening(
        uuid=str(uuid.uuid4()),
        arrival=Arrival.CLONE,
        peer_id=peer.id,
        account=peer.name,
        name=FileName.trusted(f"{PROBES}{token}"),
        kind=Kind.BOOK,
        size=size,
        checksum=None,
        uploader=peer.name,
        origin=peer.name,
        file_created_at=None,
        store=store,
        token=token,
        reserved=size,
    )


async def read(site: Site, peer: Peer, asked: AskProbeRead) -> ProbeRead:
    """Measure the probe of *peer*, and remove it. Raises NotFound when there is none."""
    token = Token(asked.token)
    row = await _probe_of(site, peer, token)
    store = site.stores.lookup(row.store)
    checksum, reason = None, ""
    try:
        checksum = (await site.pool.measure(store.staging_path(token), Algorithm.XXH3)).checksum
    except LibrarianError as error:
        reason = error.message
    async with site.catalog.begin() as tx:
        await tx.incoming.cancel([row.id])
    left = await store.clear([token])
    return ProbeRead(checksum=checksum, reason=reason, is_removed=token not in left)


async def _probe_of(site: Site, peer: Peer, token: Token) -> Incoming:
    async with site.catalog.read() as tx:
        rows = await tx.incoming.with_tokens([token])
    for row in rows:
        if row.peer_id == peer.id and row.state in OPEN and row.name.startswith(PROBES):
            return row
    raise NotFound("there is no such probe between us", remedy="A site may only ask about its own.")
