"""Rotation: new passwords between a peer and us, without a moment in which neither the old nor the new is valid."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from librarian import hearing
from librarian.catalog.records import Happening
from librarian.errors import CallerError, Conflict, LibrarianError
from librarian.states import Reach
from librarian.wire.peers import Credentials, CredentialsTaken, Rotated

if TYPE_CHECKING:
    from librarian.catalog.records import Account, Peer
    from librarian.names import SiteName
    from librarian.site import Site


async def rotate(site: Site, name: SiteName, *, who: str) -> Rotated:
    """Agree on new passwords with the peer *name*, both ways. Cut off anywhere, what was valid is still valid.

    Raises
    ------
    Conflict
        The peer cannot be called from here.
    LibrarianError
        What the peer says, or that it does not answer.
    """
    async with site.catalog.read() as tx:
        peer = await tx.peers.get(name)
    if peer.reach is Reach.POLL:
        raise Conflict(f"{name} cannot be called from here", remedy=f"Run it there: peer rotate {site.name}")
    # Before anything is written: the peer is there, and the line to it knows the password that is valid now.
    await site.neighbours.look_again(name)
    said = Credentials.model_validate({"yours": secrets.token_urlsafe(24), "mine": secrets.token_urlsafe(24)})
    await _prepare(site, peer, ours=said.mine.get_secret_value(), theirs=said.yours.get_secret_value(), who=who)
    try:
        taken = await site.neighbours.tell_credentials(name, said)
    except CallerError:
        # It has not taken them: nothing is to be tried there.
        async with site.catalog.begin() as tx:
            await tx.peers.prepare_secret(peer.id, None)
        raise
    if peer.is_fetched:
        # It has answered, and it is we who call: nobody will ever log in with it before this counts.
        await _settle(site, peer)
    await site.neighbours.forget(name)
    await site.neighbours.look_again(name)
    return Rotated(name=name, ours_in_use=True, theirs_in_use=taken.is_in_use or peer.is_fetched)


async def take(site: Site, account: Account, said: Credentials) -> CredentialsTaken:
    """Write down what a peer proposes, and try what is ours. The same again changes nothing."""
    async with site.catalog.read() as tx:
        peer = await hearing.peer_of(tx, site, account)
    ours = said.yours.get_secret_value()
    await _prepare(site, peer, ours=ours, theirs=said.mine.get_secret_value(), who=peer.name)
    await site.neighbours.forget(peer.name)
    if peer.reach is Reach.POLL:
        # We never call it: our password there is none that could be seen to work.
        return CredentialsTaken(is_in_use=False)
    with suppress(LibrarianError):
        await site.neighbours.look_again(peer.name)
        return CredentialsTaken(is_in_use=True)
    return CredentialsTaken(is_in_use=False)


async def _prepare(site: Site, peer: Peer, *, ours: str, theirs: str, who: str) -> None:
    theirs_hash = await site.doorkeeper.hash(theirs)
    async with site.catalog.begin() as tx:
        await tx.accounts.prepare(peer.name, next_hash=theirs_hash)
        await tx.peers.prepare_secret(peer.id, site.neighbours.secrets.encrypt(ours))
        # Invitations know passwords of before.
        await tx.pairings.forget(peer.name)
        await tx.events.tell([Happening(subject=f"peer:{peer.name}", what="passwords rotated", who=who)])


async def _settle(site: Site, peer: Peer) -> None:
    async with site.catalog.begin() as tx:
        login = await tx.accounts.login_of(peer.name)
        if login is not None and login.next_hash is not None:
            await tx.accounts.promote(peer.name, next_hash=login.next_hash)
    site.doorkeeper.forget(peer.name)
