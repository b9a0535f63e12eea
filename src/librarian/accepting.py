"""Accepting: whether the drive at a place is received here at all. A repeat goes on with what was begun."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from librarian import guard, intake, receiving, suitcase
from librarian.catalog.receptions import NewReception
from librarian.catalog.records import Happening
from librarian.errors import BadRequest, NotFound, WrongState
from librarian.names import SiteName, StoreName
from librarian.quantities import counted
from librarian.states import ReceptionState, TransferState

if TYPE_CHECKING:
    from pathlib import Path

    from librarian.catalog.receptions import Reception
    from librarian.catalog.records import Account
    from librarian.site import Site
    from librarian.wire.manifest import Head

#: The code of what was not read from a drive that an operator has given up: it comes another way.
GIVEN_UP: Final = TransferState.CANCELLED.value
#: What a drive is called until its manifest has told.
_UNKNOWN = StoreName("drive")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What an operator says about a drive."""

    path: Path
    #: The fingerprint of whoever signed it, where that is no peer of ours.
    trust: str | None = None
    #: The site that it was sealed for, where that is another one.
    although_for: str | None = None


async def accept(site: Site, account: Account, order: Order) -> Reception:
    """Begin to receive the drive at a place, or go on: its manifest is checked, and its entries are read by a task.

    Raises
    ------
    BadRequest
        The path is relative, the drive is for another site, or nobody that is trusted signed it.
    NotFound, ProtocolMismatch, ManifestDamaged, Conflict (a copy of a drive), StoreUnavailable
    """
    if not order.path.is_absolute():
        raise BadRequest(f"'{order.path}' is no absolute path", remedy="Give the path as the server sees it.")
    case = suitcase.Suitcase(order.path, name=_UNKNOWN)
    try:
        contents = await case.open()
    finally:
        case.close()
    head = contents.manifest.head
    async with site.catalog.begin() as tx:
        peer = await tx.peers.find(head.sender.name)
        pinned = await tx.peers.public_key_of(head.sender.name)
        suitcase.require_signer(contents, pinned=pinned, trusted=order.trust)
        _require_addressee(site, head, order.although_for)
        known = await tx.receptions.find(head.uuid)
        reception = await tx.receptions.put(
            NewReception(
                uuid=head.uuid,
                drive=StoreName(head.drive),
                origin=SiteName(head.sender.name),
                peer_id=peer.id if peer is not None and _is_told(site, head, pinned) else None,
                head=head.model_dump_json(by_alias=True),
                path=str(order.path),
                account=account.name,
            )
        )
        if known is None or known.state is not ReceptionState.RECEIVING:
            await tx.events.tell([_begun(reception, head, account, order)])
    guard.step("reception recorded")
    site.bells.ring("receive")
    return reception


def _is_told(site: Site, head: Head, pinned: str | None) -> bool:
    """Whether the peer hears what becomes of the entries: not where the drive is for another, or not theirs."""
    return head.to == site.name and pinned in (None, head.key)


def _require_addressee(site: Site, head: Head, although_for: str | None) -> None:
    if head.to == site.name or head.to == although_for:
        return
    raise BadRequest(
        f"the drive {head.drive} of {head.sender.name} is for {head.to}, and this is {site.name}",
        remedy=f"Send it on; to take it in all the same, add: --although-for {head.to}",
    )


def _begun(reception: Reception, head: Head, account: Account, order: Order) -> Happening:
    trusted = f", trusted by fingerprint {order.trust}" if order.trust else ""
    elsewhere = f", although it is for {head.to}" if order.although_for else ""
    return Happening(
        subject=subject_of(reception),
        what="receiving began",
        who=account.name,
        why=f"at {order.path}, {counted(head.files)}, {head.bytes:,} bytes{trusted}{elsewhere}",
    )


def subject_of(reception: Reception) -> str:
    """What events about *reception* are told of."""
    return f"reception:{reception.uuid}"


async def give_up(site: Site, account: Account, reception: Reception) -> None:
    """Read nothing more from the drive; what was not copied yet is cancelled, and the sender told.

    A repeat does nothing.

    Raises
    ------
    WrongState
        Everything was read already.
    """
    if reception.state is ReceptionState.READ:
        raise WrongState(f"everything was read from the drive {reception.drive}", remedy="There is nothing to give up.")
    reason = f"{account.name} has given the drive up at {site.name}"
    async with site.catalog.begin() as tx:
        if await tx.receptions.end(reception.id, state=ReceptionState.CANCELLED):
            await tx.events.tell([Happening(subject=subject_of(reception), what="given up", who=account.name)])
        unread = await tx.receptions.open_entries(reception.id, limit=suitcase.PORTION_FILES)
        gone = await tx.incoming.cancel([each.id for each in unread], code=GIVEN_UP, reason=reason)
        ended = [replace(each, code=GIVEN_UP, reason=reason) for each in unread if each.id in gone]
        await receiving.tell_bad(tx, reception, [receiving.bad_entry(each) for each in ended])
        await tx.alerts.acknowledge([receiving.waits_cause(reception), receiving.bad_cause(reception)])
    await intake.clear(site, ended)
    for bell in ("receive", "deliver"):
        site.bells.ring(bell)


async def find(site: Site, name: str) -> Reception:
    """The reception of the manifest with the uuid *name*, or of the drive called so that came last.

    Raises
    ------
    NotFound
    """
    async with site.catalog.read() as tx:
        found = await tx.receptions.find(name) or await tx.receptions.newest_of(name)
    if found is None:
        raise NotFound(f"no drive called {name!r} was received here", remedy="See 'drive received'.")
    return found
