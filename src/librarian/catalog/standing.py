"""How one file stands: all that the catalog knows of where it is, where it must still go, and what is under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.outbox import Untold
    from librarian.catalog.receptions import Reception
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
    from librarian.names import BatchId, FileName, PeerId, StoreName


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How the file *name* stands; without ``file`` it is not held, and was perhaps never here."""

    name: FileName
    file: File | None
    instances: tuple[InstanceRecord, ...] = ()
    #: Of the stores on which it is or was, those that are drives.
    drives: Mapping[StoreName, DriveRecord] = field(default_factory=dict)
    remote_instances: tuple[RemoteInstanceRecord, ...] = ()
    dues: tuple[CopyDueRecord, ...] = ()
    #: Live transfers of it.
    leaving: tuple[Outgoing, ...] = ()
    batches: dict[BatchId, Batch]
    #: What was not acknowledged yet about the live transfers.
    untold: tuple[Untold, ...] = ()
    #: Its newest arrival, under way or ended.
    arrival: Incoming | None = None
    #: Of a drive that the arrival is read from.
    reception: Reception | None = None
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
    reception = await _read_from(tx, arrival)
    peers = await tx.peers.all()
    if file is None:
        return Standing(
            name=name, file=None, arrival=arrival, reception=reception, peers=peers, batches={}, under_way={}
        )
    instances = await tx.instances.of_files([file.id])
    dues = await tx.copies_due.of_files([file.id])
    leaving = await tx.outgoing.live([file.id])
    owed = {due.peer for due in dues}
    rules = await tx.rules.in_force()
    return Standing(
        name=name,
        file=file,
        instances=instances,
        drives={copy.store: drive for copy in instances if (drive := await tx.drives.find(copy.store)) is not None},
        remote_instances=await tx.remote_instances.of_files([file.id]),
        dues=dues,
        leaving=leaving,
        batches=await tx.batches.with_ids([each.batch_id for each in leaving if each.batch_id is not None]),
        untold=await tx.outbox.about([(each.peer_id, each.uuid) for each in leaving]),
        arrival=arrival,
        reception=reception,
        peers=peers,
        under_way={peer.id: await tx.batches.count_under_way(peer.id) for peer in peers if peer.name in owed},
        rules=rules,
        walking=tuple(
            rule
            for rule in rules
            if rule.backfill_after is not None and rule.backfill_after < file.id <= rule.backfill_until
        ),
    )


async def _read_from(tx: Transaction, arrival: Incoming | None) -> Reception | None:
    if arrival is None or arrival.reception_id is None:
        return None
    return (await tx.receptions.with_ids([arrival.reception_id])).get(arrival.reception_id)
