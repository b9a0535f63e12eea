"""Steering: what an operator orders about transfers and due copies: go on, or end. A repeat changes nothing more."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from librarian import intake, outcomes, replication
from librarian.catalog.records import Happening
from librarian.catalog.stopped import Selection
from librarian.errors import Conflict, LibrarianError, NotFound, WrongState
from librarian.names import FileName
from librarian.states import LIVE, OUTGOING_MOVES, TransferState, Way, sources_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from librarian.catalog.records import Account, Incoming, Outgoing, Peer
    from librarian.catalog.transaction import Transaction
    from librarian.names import FileId, ManifestId, PeerId, StoreName
    from librarian.site import Site

_ENDABLE = sources_of(OUTGOING_MOVES, TransferState.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """What became of the order to end one transfer; ``refusal``: why it goes on, or had ended before."""

    uuid: str
    way: Way | None = None
    name: FileName | None = None
    refusal: LibrarianError | None = None


async def retry(site: Site, account: Account, *, names: Sequence[str], peer_name: str | None, dry_run: bool) -> int:
    """Let stopped and waiting copies of the files *names* (none: of all) for a peer (None: for all) go on at once.

    Returns how many; with *dry_run* nothing is changed.

    Raises
    ------
    NotFound
        There is no such peer, or no such file.
    """
    async with site.catalog.begin() as tx:
        peer = None if peer_name is None else await tx.peers.get(peer_name)
        chosen = Selection(files=await _ids_of(tx, names) if names else None, peer=None if peer is None else peer.id)
        if dry_run:
            return await tx.stopped.count(chosen)
        copies = await tx.stopped.retry(chosen)
        await outcomes.forget_alerts(tx, names)
        subjects = names or ["site" if peer is None else f"peer:{peer.name}"]
        what = "copies are tried again" if peer is None else f"copies for {peer.name} are tried again"
        await tx.events.tell([Happening(subject=subject, what=what, who=account.name) for subject in subjects])
    for bell in ("send", "load"):
        site.bells.ring(bell)
    return copies


async def _ids_of(tx: Transaction, names: Sequence[str]) -> tuple[FileId, ...]:
    found = await tx.files.named([FileName(name) for name in names])
    if missing := [name for name in names if name not in found]:
        raise NotFound(f"no file is called {missing[0]!r}", remedy="Search for it: 'librarian search'.")
    return tuple(file.id for file in found.values())


async def cancel(
    site: Site, account: Account, uuids: Sequence[str], *, peer_name: str | None = None, dry_run: bool
) -> list[Ordered]:
    """End the transfers *uuids* (of one peer), whichever way they go; an outcome for each, in their order.

    The other site is told. What was on its way out stays here, and its copy in quarantine; what was on its way in
    loses its staging, and its name is free. A batch goes on for the others that are in it. What travels on a drive is
    past calling back.

    Peers choose the uuids of what they send. Without *peer_name* one that this site chose goes before any of theirs,
    and one that several of them chose ends nothing.

    Raises
    ------
    NotFound
        There is no such peer.
    """
    async with site.catalog.read() as tx:
        peer = None if peer_name is None else await tx.peers.get(peer_name)
        leaving = {each.uuid: each for each in await tx.outgoing.with_uuids(uuids) if _is_of(each, peer)}
        drives = await tx.manifests.drives_of([t.manifest_id for t in leaving.values() if t.manifest_id is not None])
        arriving: defaultdict[str, list[Incoming]] = defaultdict(list)
        for each in await tx.offers.with_uuids(uuids):
            if _is_of(each, peer):
                arriving[each.uuid].append(each)
    ordered = {each.uuid: _order_out(each, drives) for each in leaving.values()}
    going = [each for each in leaving.values() if ordered[each.uuid].refusal is None]
    if going and not dry_run:
        await _cancel_out(site, account, going)
    for uuid, arrivals in arriving.items():
        if uuid in ordered:
            continue
        meant = [arrival for arrival in arrivals if arrival.peer_id is None] or arrivals
        if len(meant) > 1:
            ordered[uuid] = Ordered(uuid=uuid, way=Way.IN, refusal=_ambiguous(uuid, len(meant)))
        else:
            ordered[uuid] = await _cancel_in(site, account, meant[0], dry_run=dry_run)
    return [ordered.get(uuid) or Ordered(uuid=uuid, refusal=_unknown(uuid)) for uuid in uuids]


def _is_of(transfer: Incoming | Outgoing, peer: Peer | None) -> bool:
    return peer is None or transfer.peer_id == peer.id


def _ambiguous(uuid: str, count: int) -> Conflict:
    return Conflict(f"{count} peers have chosen the id {uuid}", remedy="Say whose transfer is meant: '--peer NAME'.")


def _unknown(uuid: str) -> NotFound:
    return NotFound(f"no transfer has the id {uuid}", remedy="See 'transfer list' for the ids.")


def _ended(name: FileName, state: TransferState) -> WrongState:
    return WrongState(
        f"the transfer of {name!r} is {state}",
        remedy="What is being ingested or has ended cannot be cancelled.",
        details={"state": state},
    )


def _on_drive(name: FileName, drive: StoreName) -> WrongState:
    return WrongState(
        f"the transfer of {name!r} travels on the drive '{drive}'",
        remedy=f"It ends when its peer has told of it. When the drive will not arrive: 'drive lost {drive}'.",
        details={"drive": drive},
    )


def _order_out(transfer: Outgoing, drives: Mapping[ManifestId, StoreName]) -> Ordered:
    refusal = None
    if transfer.state not in _ENDABLE:
        refusal = _ended(transfer.name, transfer.state)
    elif transfer.manifest_id is not None:
        refusal = _on_drive(transfer.name, drives[transfer.manifest_id])
    return Ordered(uuid=transfer.uuid, way=Way.OUT, name=transfer.name, refusal=refusal)


async def _cancel_out(site: Site, account: Account, going: Sequence[Outgoing]) -> None:
    by_peer: defaultdict[PeerId, list[Outgoing]] = defaultdict(list)
    for transfer in going:
        by_peer[transfer.peer_id].append(transfer)
    async with site.catalog.begin() as tx:
        peers = await tx.peers.with_ids(list(by_peer))
        for peer_id, transfers in by_peer.items():
            await outcomes.cancel(tx, peers[peer_id], transfers, who=account.name)
    # What an engine moves for nobody any more is stopped by 'poll'.
    for bell in ("deliver", "poll", "submit"):
        site.bells.ring(bell)


async def _cancel_in(site: Site, account: Account, arrival: Incoming, *, dry_run: bool) -> Ordered:
    ordered = Ordered(uuid=arrival.uuid, way=Way.IN, name=arrival.name)
    try:
        if arrival.state not in LIVE or arrival.state is TransferState.INGESTING:
            raise _ended(arrival.name, arrival.state)
        if not dry_run:
            async with site.writers.hold(arrival.uuid, peer=arrival.peer_id, patience=timedelta(0)):
                await _end_arrival(site, account, arrival)
    except LibrarianError as error:
        return Ordered(uuid=arrival.uuid, way=Way.IN, name=arrival.name, refusal=error)
    intake.tell(site, [replace(arrival, state=TransferState.CANCELLED, code=outcomes.CANCELLED)])
    site.bells.ring("deliver")
    return ordered


async def _end_arrival(site: Site, account: Account, arrival: Incoming) -> None:
    reason = f"{account.name} has cancelled it at {site.name}"
    async with site.catalog.begin() as tx:
        if not await tx.incoming.cancel([arrival.id], code=outcomes.CANCELLED, reason=reason):
            raise WrongState(f"the transfer of {arrival.name!r} has moved on", remedy="Look at it again.")
        await tx.events.tell([Happening(subject=arrival.name, what="arrival cancelled", who=account.name)])
        if arrival.peer_id is not None:
            failure = replication.Unarrived(
                uuid=arrival.uuid,
                peer_id=arrival.peer_id,
                name=arrival.name,
                size=arrival.size,
                checksum=arrival.checksum,
                code=outcomes.CANCELLED,
                reason=reason,
            )
            await replication.arrivals_failed(tx, [failure])
    await intake.clear(site, [arrival])
