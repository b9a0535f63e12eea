"""How one file stands: all that the catalog knows of where it is, where it must still go, and what is under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from librarian.catalog.outbox import Untold
    from librarian.catalog.records import (
        Batch,
        CopyDueRecord,
        File,
        Incoming,
        InstanceRecord,
        Outgoing,
        Peer,
        RemoteInstanceRecord,
        Rule,
    )
    from librarian.catalog.transaction import Transaction
    from librarian.names import BatchId, FileName, PeerId


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How the file *name* stands; without ``file`` it is not held, and was perhaps never here."""

    name: FileName
    file: File | None
    instances: tuple[InstanceRecord, ...] = ()
    remote_instances: tuple[RemoteInstanceRecord, ...] = ()
    dues: tuple[CopyDueRecord, ...] = ()
    #: Live transfers of it.
    leaving: tuple[Outgoing, ...] = ()
    batches: dict[BatchId, Batch]
    #: What was not acknowledged yet about the live transfers.
    untold: tuple[Untold, ...] = ()
    #: Its newest arrival, under way or ended.
    arrival: Incoming | None = None
    peers: tuple[Peer, ...] = ()
    #: Batches to each peer that have not ended.
    under_way: dict[PeerId, int]
    #: All rules that apply.
    rules: tuple[Rule, ...] = ()
    #: Rules that do not know yet whether they ask for it: their walk has not come to it.
    walking: tuple[Rule, ...] = ()


async def standing_of(tx: Transaction, name: FileName) -> Standing:
    """Everything about *name*, read at one moment."""
    file = (await tx.files.named([name])).get(name)
    arrival = await tx.offers.newest(name)
    peers = await tx.peers.all()
    if file is None:
        return Standing(name=name, file=None, arrival=arrival, peers=peers, batches={}, under_way={})
    dues = await tx.copies_due.of_files([file.id])
    leaving = await tx.outgoing.live([file.id])
    owed = {due.peer for due in dues}
    rules = await tx.rules.in_force()
    return Standing(
        name=name,
        file=file,
        instances=await tx.instances.of_files([file.id]),
        remote_instances=await tx.remote_instances.of_files([file.id]),
        dues=dues,
        leaving=leaving,
        batches=await tx.batches.with_ids([each.batch_id for each in leaving if each.batch_id is not None]),
        untold=await tx.outbox.about([(each.peer_id, each.uuid) for each in leaving]),
        arrival=arrival,
        peers=peers,
        under_way={peer.id: await tx.batches.count_under_way(peer.id) for peer in peers if peer.name in owed},
        rules=rules,
        walking=tuple(
            rule
            for rule in rules
            if rule.backfill_after is not None and rule.backfill_after < file.id <= rule.backfill_until
        ),
    )
