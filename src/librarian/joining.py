"""Joining: how we use another site's invitation. See ``pairing`` for the whole story."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from librarian import guard, pairing
from librarian.client.address import Address
from librarian.client.connection import Connection
from librarian.errors import BadRequest, Conflict, NotFound
from librarian.keys import is_strong
from librarian.names import SiteName
from librarian.peers import SILENCE, require_tls
from librarian.states import Reach, Role
from librarian.timing import utc_now
from librarian.wire.pairing import Confirm, Confirmed, Knocked, Redeem, Terms, read_token
from librarian.wire.peers import OfferedSite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.pairings import Pairing
    from librarian.site import Site
    from librarian.wire.pairing import Invitation


async def join(site: Site, token: str, *, accepts: Sequence[str] | None, authority: str | None, who: str) -> SiteName:
    """Use an invitation; the name of the site that gave it. The same token again gives the same result.

    Raises
    ------
    BadRequest
        The token cannot be used: cut short, expired, our own, or of a URL that must not be called.
    LibrarianError
        What the inviter says.
    """
    invitation = read_token(token)
    name = SiteName(invitation.site)
    if name == site.name:
        raise BadRequest("the invitation was made at this very site", remedy="Use it at the other site.")
    require_tls(Address.parse(invitation.url).url, allow_plaintext=site.settings.allow_plaintext)
    begun = await _begun(site, invitation)
    if begun is None:
        begun = await _begin(site, invitation, accepts=accepts, authority=authority)
    guard.step("terms written down")
    if begun.joined_at is None:
        await finish(site, begun, who=who)
    return name


async def _begun(site: Site, invitation: Invitation) -> Pairing | None:
    """What we wrote down when the invitation was used before."""
    secret_hash = pairing.hash_of(invitation.secret.get_secret_value())
    async with site.catalog.read() as tx:
        await pairing.refuse_other_account(tx, invitation.site)
        return await tx.pairings.find(secret_hash, is_ours=False)


async def _begin(
    site: Site, invitation: Invitation, *, accepts: Sequence[str] | None, authority: str | None
) -> Pairing:
    if invitation.expires_at <= utc_now():
        raise BadRequest(
            f"the invitation expired at {invitation.expires_at:%Y-%m-%d %H:%M} UTC", remedy=pairing.ASK_AGAIN
        )
    half = await _ask_for_terms(site, invitation, authority=authority)
    async with site.catalog.begin() as tx:
        return await tx.pairings.add(
            pairing.hash_of(half.secret),
            name=SiteName(invitation.site),
            is_ours=False,
            direction=invitation.direction,
            accepts=accepts,
            authority=authority,
            expires_at=invitation.expires_at,
            terms=pairing.write_terms(site, half),
        )


async def _ask_for_terms(site: Site, invitation: Invitation, *, authority: str | None) -> pairing.Half:
    key = await pairing.signing_key(site)
    knock = secrets.token_hex(16)
    secret, own_url = invitation.secret.get_secret_value(), site.settings.url
    address = Address.parse(invitation.url, authority=await pairing.trusted(site, invitation.site, authority=authority))
    _, points = await site.card.read()
    sends = Role.UPSTREAM in pairing.roles_of(invitation.direction, at_inviter=False)
    body = Redeem.model_validate(
        {
            "secret": secret,
            "site": OfferedSite(name=site.name, entry_points=points if sends else []),
            "url": own_url,
            "knock": knock,
            "public_key": key.public,
            "signature": key.sign(secret, site.name, own_url),
        }
    )
    site.knocks.add(knock)
    try:
        async with Connection(address, patience=timedelta(0)) as line:
            terms = await line.request("POST", "/pairings/redeem", answer=Terms, body=body, silence=SILENCE)
    finally:
        site.knocks.discard(knock)
    if terms.site.name != invitation.site:
        raise Conflict(
            f"the site that answers is called {terms.site.name!r}, not {invitation.site!r}", remedy=pairing.ASK_AGAIN
        )
    if not is_strong(terms.public_key):
        raise Conflict(f"{invitation.site} gives a key by which anybody could sign", remedy=pairing.ASK_AGAIN)
    return pairing.Half(
        name=invitation.site,
        url=address.url,
        public_key=terms.public_key,
        our_password=terms.password.get_secret_value(),
        their_password=terms.their_password.get_secret_value(),
        reach=Reach.PUSH,
        is_fetched=terms.reach is Reach.POLL,
        entry_points=await pairing.pinned(terms.site),
        secret=secret,
    )


async def knocked(site: Site, knock: str) -> Knocked:
    """Show to an inviter that it is we who are joining; raises NotFound when we are not."""
    if knock not in site.knocks:
        raise NotFound(
            "nobody is joining from here under that knock", remedy="Join again; a knock counts while it lasts."
        )
    return Knocked(name=site.name, signature=(await pairing.signing_key(site)).sign(knock))


async def finish(site: Site, begun: Pairing, *, who: str) -> None:
    """Confirm the terms that we wrote down, and make account and peer. A repeat changes nothing."""
    half = pairing.read_terms(site, begun.terms)
    if half is None:
        return
    key = await pairing.signing_key(site)
    body = Confirm.model_validate({"secret": half.secret, "signature": key.sign(half.secret)})
    authority = await pairing.trusted(site, half.name, authority=begun.authority)
    async with Connection(Address.parse(half.url, authority=authority), patience=timedelta(0)) as line:
        await line.request("POST", "/pairings/confirm", answer=Confirmed, body=body, silence=SILENCE)
    guard.step("confirmed without peer")
    await pairing.make(site, begun, half, roles=pairing.roles_of(begun.direction, at_inviter=False), who=who)
