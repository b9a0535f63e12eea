"""Pairing: two sites come to know each other by an invitation.

The inviter keeps the hash of a secret. Whoever joins redeems it for the terms: passwords, keys, entry points. Until
then, and until the joiner has written the terms down and confirmed them, neither site has anything but a row that
expires. The confirmation makes account and peer at the inviter, its answer makes them at the joiner; ``tasks/join``
confirms again where that was cut off.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from librarian import entry_points, guard, replication
from librarian.catalog.records import EntryPoint, Happening
from librarian.client.address import Address
from librarian.client.connection import Connection
from librarian.errors import BadRequest, Conflict, Forbidden, LibrarianError
from librarian.keys import SigningKey, is_signed
from librarian.names import AccountName, SiteName, StoreName
from librarian.peers import require_tls
from librarian.states import Reach, Role
from librarian.timing import utc_now
from librarian.wire.pairing import (
    Confirm,
    Confirmed,
    Direction,
    Invitation,
    Knocked,
    Redeem,
    Terms,
    write_token,
)
from librarian.wire.peers import OfferedSite, PinnedEntryPoint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from librarian.catalog.pairings import Pairing
    from librarian.catalog.transaction import Transaction
    from librarian.site import Site

#: How long a site that joins has to answer when it is called back.
KNOCK_SILENCE: Final = timedelta(seconds=5)
OF_PEERS: Final = frozenset({Role.UPSTREAM, Role.CALLBACK})
ASK_AGAIN: Final = "Ask the other site for a new invitation ('peer invite')."


class Half(BaseModel):
    """What one side makes of the terms: kept encrypted until it is made, and the same however often it is used."""

    model_config = ConfigDict(frozen=True)

    #: The other site.
    name: str
    url: str
    public_key: str
    #: Of our account there.
    our_password: str = Field(repr=False)
    #: Of its account here.
    their_password: str = Field(repr=False)
    reach: Reach
    is_fetched: bool
    entry_points: tuple[PinnedEntryPoint, ...]
    #: Of the invitation, while the joiner has to confirm it.
    secret: str = Field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A half whose password is hashed, ready to be written in one transaction."""

    half: Half
    password_hash: str
    roles: frozenset[Role]
    accepts: tuple[str, ...] | None
    authority: str | None
    who: str


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def roles_of(direction: str, *, at_inviter: bool) -> frozenset[Role]:
    """The roles of the other site's account: at the inviter, or at the one who joins."""
    if direction == "both":
        return OF_PEERS
    # 'send': the inviter sends, so that it is the upstream of the one who joins.
    return frozenset({Role.CALLBACK if (direction == "send") is at_inviter else Role.UPSTREAM})


async def signing_key(site: Site) -> SigningKey:
    """Our key, which was made with the catalog."""
    async with site.catalog.read() as tx:
        kept = await tx.site.signing_key()
    return SigningKey(site.neighbours.secrets.decrypt(kept or b""))


# The inviter.


async def invite(
    site: Site,
    name: SiteName,
    *,
    direction: Direction,
    valid_for: timedelta,
    accepts: Sequence[str] | None,
    authority: str | None,
    who: str,
) -> tuple[str, datetime]:
    """An invitation for the site *name*: its token, which is not kept, and when it expires."""
    if name == site.name:
        raise BadRequest(f"{name!r} is this site itself", remedy="A peer is another site.")
    url = _own_url(site)
    secret = secrets.token_urlsafe(32)
    expires_at = utc_now() + valid_for
    async with site.catalog.begin() as tx:
        await refuse_other_account(tx, name)
        await tx.pairings.add(
            hash_of(secret),
            name=name,
            is_ours=True,
            direction=direction,
            accepts=accepts,
            authority=authority,
            expires_at=expires_at,
        )
        await tx.events.tell([Happening(subject=f"peer:{name}", what="invited", who=who, why=direction)])
    invitation = Invitation.model_validate(
        {"url": url, "site": site.name, "secret": secret, "direction": direction, "expires_at": expires_at}
    )
    return write_token(invitation), expires_at


def _own_url(site: Site) -> str:
    """Where others reach us: what an invitation must carry."""
    url = Address.parse(site.settings.url).url
    parts = urlsplit(url)
    if parts.hostname in ("0.0.0.0", "::") or parts.port == 0:  # noqa: S104 - no address to listen on
        raise BadRequest(
            f"{url} is no address that another site can call",
            remedy="Say in the settings how others reach this site: 'public_url'.",
        )
    require_tls(url, allow_plaintext=site.settings.allow_plaintext)
    return url


async def refuse_other_account(tx: Transaction, name: str) -> None:
    """Pass, unless an account called *name* is none of a peer.

    Raises
    ------
    Conflict
        A person has it.
    """
    account = await tx.accounts.find(name)
    if account is not None and not account.roles <= OF_PEERS:
        raise Conflict(
            f"an account called {name!r} exists, with the roles {', '.join(sorted(account.roles))}",
            remedy="A peer's account carries its site's name, and no other role; rename one of the two.",
        )


async def _invitation(site: Site, secret: str) -> Pairing:
    async with site.catalog.read() as tx:
        pairing = await tx.pairings.find(hash_of(secret), is_ours=True)
    if pairing is None:
        raise Forbidden("there is no such invitation here", remedy=ASK_AGAIN)
    if pairing.expires_at <= utc_now() and pairing.joined_at is None:
        raise Forbidden("the invitation has expired", remedy=ASK_AGAIN)
    return pairing


async def redeem(site: Site, asked: Redeem) -> Terms:
    """Tell the terms to the one site that may use the invitation; the same again gets the same.

    Raises
    ------
    Forbidden
        No invitation has the secret, or it has expired.
    Conflict
        It was made for, or used by, another site.
    """
    secret = asked.secret.get_secret_value()
    pairing = await _invitation(site, secret)
    other = asked.site.name
    if other != pairing.name:
        raise Conflict(f"the invitation is for a site called {pairing.name!r}, not {other!r}", remedy=ASK_AGAIN)
    if not is_signed(asked.signature, secret, other, asked.url, public_key=asked.public_key):
        raise BadRequest("the signature is not that of the key", remedy="Bring both sides to the same release.")
    if pairing.public_key not in (None, asked.public_key):
        raise _used()
    half = read_terms(site, pairing.terms)
    if half is None or pairing.joined_at is None:
        half = await _agree(site, asked, authority=pairing.authority, before=half)
        async with site.catalog.begin() as tx:
            await refuse_other_account(tx, other)
            if not await tx.pairings.take(pairing.id, public_key=asked.public_key, terms=write_terms(site, half)):
                raise _used()
    guard.step("terms agreed")
    _, points = await site.card.read()
    sees_entry_points = Role.UPSTREAM in roles_of(pairing.direction, at_inviter=True)
    return Terms.model_validate(
        {
            "site": OfferedSite(name=site.name, entry_points=points if sees_entry_points else []),
            "public_key": (await signing_key(site)).public,
            "password": half.their_password,
            "their_password": half.our_password,
            "reach": half.reach,
        }
    )


def _used() -> Conflict:
    return Conflict("the invitation was used by another site", remedy=ASK_AGAIN)


async def _agree(site: Site, asked: Redeem, *, authority: str | None, before: Half | None) -> Half:
    """Our half of the terms; the passwords stay those that were agreed on *before*."""
    can_be_called = await _calls_back(site, asked, authority=authority)
    return Half(
        name=asked.site.name,
        url=asked.url,
        public_key=asked.public_key,
        our_password=before.our_password if before else secrets.token_urlsafe(24),
        their_password=before.their_password if before else secrets.token_urlsafe(24),
        reach=Reach.PUSH if can_be_called else Reach.POLL,
        is_fetched=False,
        entry_points=await pinned(asked.site),
    )


async def trusted(site: Site, name: str, *, authority: str | None) -> str | None:
    """PEM of the authority to trust *name* by: *authority* if it was given (empty: none), or that of the peer here."""
    if authority is not None:
        return authority or None
    async with site.catalog.read() as tx:
        peer = await tx.peers.find(name)
        return None if peer is None else await tx.peers.authority_of(peer.id)


async def _calls_back(site: Site, asked: Redeem, *, authority: str | None) -> bool:
    """Whether the site that joins answers at its URL, and shows that it is the same."""
    try:
        address = Address.parse(asked.url, authority=await trusted(site, asked.site.name, authority=authority))
        require_tls(address.url, allow_plaintext=site.settings.allow_plaintext)
        async with Connection(address, patience=timedelta(0)) as line:
            found = await line.request("GET", f"/pairings/{asked.knock}", answer=Knocked, silence=KNOCK_SILENCE)
    except LibrarianError:
        return False
    return found.name == asked.site.name and is_signed(found.signature, asked.knock, public_key=asked.public_key)


async def confirm(site: Site, asked: Confirm) -> Confirmed:
    """Make account and peer, since the other site has written the terms down. A repeat changes nothing."""
    secret = asked.secret.get_secret_value()
    pairing = await _invitation(site, secret)
    half = read_terms(site, pairing.terms)
    if half is None or not is_signed(asked.signature, secret, public_key=half.public_key):
        raise Forbidden("the invitation was not used by the one who confirms it", remedy=ASK_AGAIN)
    await make(site, pairing, half, roles=roles_of(pairing.direction, at_inviter=True), who=half.name)
    guard.step("pairing confirmed")
    return Confirmed(name=site.name)


# Both, when the terms stand.


async def pinned(offered: OfferedSite) -> tuple[PinnedEntryPoint, ...]:
    """The entry points of *offered* that can be used from here, as they are written down."""
    return tuple(
        PinnedEntryPoint(store=point.store, engine=point.engine, address=point.address, staging=point.staging)
        for point in await entry_points.usable(offered)
    )


def read_terms(site: Site, terms: bytes | None) -> Half | None:
    """What was written down; None before there was something."""
    return None if terms is None else Half.model_validate_json(site.neighbours.secrets.decrypt(terms))


def write_terms(site: Site, half: Half) -> bytes:
    """*half*, to be kept: encrypted."""
    return site.neighbours.secrets.encrypt(half.model_dump_json())


async def make(site: Site, pairing: Pairing, half: Half, *, roles: frozenset[Role], who: str) -> None:
    """Make account and peer of *half*, in one transaction. A repeat changes nothing."""
    if pairing.joined_at is not None:
        return
    made = _Made(
        half=half,
        password_hash=await site.doorkeeper.hash(half.their_password),
        roles=roles,
        accepts=pairing.accepts,
        authority=pairing.authority,
        who=who,
    )
    secret = site.neighbours.secrets.encrypt(half.our_password)
    try:
        async with site.catalog.begin() as tx:
            if await tx.pairings.join(pairing.id):
                await _write_half(tx, site, made, secret=secret)
    finally:
        site.doorkeeper.forget(half.name)
    await site.neighbours.forget(SiteName(half.name))
    for bell in ("backfill", "send", "submit", "poll", "deliver", "fetch"):
        site.bells.ring(bell)


async def _write_half(tx: Transaction, site: Site, made: _Made, *, secret: bytes) -> None:
    half, name = made.half, SiteName(made.half.name)
    await refuse_other_account(tx, name)
    if await tx.accounts.find(name) is None:
        await tx.accounts.create(AccountName(name), password_hash=made.password_hash, roles=made.roles)
    else:
        await tx.accounts.change(name, roles=made.roles, password_hash=made.password_hash, is_enabled=True)
    points = [
        EntryPoint(store=StoreName(p.store), engine=p.engine, address=p.address, staging=p.staging)
        for p in half.entry_points
    ]
    peer = await tx.peers.find(name)
    if peer is None:
        peer = await tx.peers.add(
            name,
            url=half.url,
            username=site.name,
            secret=secret,
            reach=half.reach,
            accepts=[""] if made.accepts is None else made.accepts,
            entry_points=points,
        )
        await replication.peer_appeared(tx, name=name)
    else:
        await tx.peers.reach_at(peer.id, url=half.url, username=site.name, secret=secret)
        await tx.peers.pin(peer.id, points)
        await tx.alerts.acknowledge([f"peer:{name}:entry-points"])
        if made.accepts is not None:
            await tx.peers.accept_from(peer.id, made.accepts)
    if made.authority is not None:
        await tx.peers.trust(peer.id, made.authority or None)
    await tx.peers.reach_by(peer.id, half.reach, is_fetched=half.is_fetched)
    await tx.peers.learn_key(peer.id, half.public_key)
    why = f"at {half.url}" if half.reach is Reach.PUSH else "it cannot be called, and fetches"
    await tx.events.tell([Happening(subject=f"peer:{name}", what="paired", who=made.who, why=why)])
