"""Confirming: what follows when the peer that a drive was sealed for speaks of what the drive carries.

Called within the transaction that hears the notices. Nothing else ends a transfer that travels on a drive, however
long its notice takes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from librarian import outcomes
from librarian.catalog.outgoing import Ending
from librarian.catalog.records import Happening, Tally
from librarian.catalog.stopped import Stop
from librarian.notifying import tell_of_drive
from librarian.quantities import counted
from librarian.states import Damage, Intent, Presence, RuleWay, TransferState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.confirmations import Spoilt
    from librarian.catalog.records import Peer
    from librarian.catalog.transaction import Transaction
    from librarian.names import FileId, PeerId
    from librarian.outcomes import Refusal

_DAMAGED: Final = frozenset(each.value for each in Damage)


async def entries_held(
    tx: Transaction, peer: Peer, files: Sequence[FileId], *, completed: Sequence[str], brought: Sequence[str]
) -> None:
    """*peer* holds *files*, which ended the transfers *completed*; *brought* it has read from drives.

    A file may have come over the network while the drive that carries it too is still in the post.
    """
    await tx.confirmations.confirmed(completed)
    await _received(tx, peer, brought)
    await drives_confirmed(tx, peer.id, files, who=peer.name)
    await _answered(tx, peer, completed)


async def drives_confirmed(tx: Transaction, peer: PeerId, files: Sequence[FileId], *, who: str) -> None:
    """*peer*, called *who*, holds *files*: tell of the drives that carry some of them, and nothing that it lacks."""
    for drive in await tx.confirmations.all_confirmed(peer, files, who=who):
        why = f"it holds the {counted(drive.files)}, {drive.bytes:,} bytes"
        await tell_of_drive(tx, drive.drive, "confirmed", round_=drive.round, who=who, why=why)
        await tx.alerts.acknowledge([outcomes.unwanted_cause(drive.drive)])


async def entries_failed(tx: Transaction, peer: Peer, refusals: Sequence[Refusal], *, epoch: int) -> frozenset[str]:
    """*peer* could not take these from their drives: they end, and their copies are due again.

    Returns the uuids of those that have ended now: older notices than the last applied change nothing.
    """
    if not refusals:
        return frozenset()
    codes = {each.transfer.uuid: each.code or "failed" for each in refusals}
    why = {each.transfer.uuid: each.reason or "the receiver gives no reason" for each in refusals}
    endings = [
        Ending(uuid=uuid, state=TransferState.FAILED, code=code, reason=why[uuid], seq=each.seq)
        for each, (uuid, code) in zip(refusals, codes.items(), strict=True)
    ]
    ended = frozenset(await tx.outgoing.end(peer.id, endings, epoch=epoch))
    lost = [each.transfer for each in refusals if each.transfer.uuid in ended]
    await tx.confirmations.failed(sorted(ended))
    await _received(tx, peer, sorted(ended))
    spoilt = await tx.confirmations.spoil([uuid for uuid in sorted(ended) if codes[uuid] in _DAMAGED])
    on_drive = {each.name: each.drive for each in spoilt}
    await tx.events.tell(
        [
            Happening(
                subject=each.name,
                what=f"refused at {peer.name}",
                who=peer.name,
                why=f"from the drive {on_drive[each.name]}: {why[each.uuid]}"
                if each.name in on_drive
                else why[each.uuid],
            )
            for each in lost
        ]
    )
    await _count_losses(tx, spoilt)
    await tx.loading.unload([each.file_id for each in lost])
    await _set_aside(tx, peer, [each for each in refusals if each.transfer.uuid in ended])
    await _answered(tx, peer, sorted(ended))
    return ended


async def _set_aside(tx: Transaction, peer: Peer, refusals: Sequence[Refusal]) -> None:
    """What *peer* would refuse from the next drive as well goes onto none until a person says so, who is told."""
    unwanted = [each for each in refusals if outcomes.is_own(each.code or "failed")]
    stops = [
        Stop(file_id=each.transfer.file_id, code=each.code or "failed", reason=each.reason or "") for each in unwanted
    ]
    await tx.stopped.quarantine(peer.id, stops, way=RuleWay.CARRIED)
    carrying = {each.transfer.manifest_id for each in unwanted}
    drives = await tx.manifests.drives_of([manifest for manifest in carrying if manifest is not None])
    for manifest, drive in drives.items():
        from_it = [each for each in unwanted if each.transfer.manifest_id == manifest]
        await tx.alerts.raise_alert(
            outcomes.unwanted_cause(drive),
            message=f"{peer.name} did not take {counted(len(from_it))} from the drive {drive}, though nothing is wrong "
            f"with the drive; {from_it[0].transfer.name} among them: {from_it[0].reason}.",
            remedy=f"It goes onto no other drive, to be refused again. Settle it with the operators of "
            f"{peer.name}; 'transfer stopped --peer {peer.name}' has the reasons. When they are gone: "
            f"'transfer retry --peer {peer.name}'.",
        )


async def _received(tx: Transaction, peer: Peer, uuids: Sequence[str]) -> None:
    for drive in await tx.confirmations.heard_from(uuids, who=peer.name):
        why = f"it reads the {counted(drive.files)}, {drive.bytes:,} bytes"
        await tell_of_drive(tx, drive.drive, "received", round_=drive.round, who=peer.name, why=why)


async def _answered(tx: Transaction, peer: Peer, uuids: Sequence[str]) -> None:
    """Tell of the drives that *peer* has answered for, all but what failed being confirmed: nothing more is heard."""
    for drive in await tx.confirmations.all_answered(uuids):
        why = (
            f"it holds {counted(drive.confirmed_files)}, and did not take {counted(drive.failed_files)} "
            "('transfer list --state failed' tells why); nothing on it is waited for any more"
        )
        await tell_of_drive(tx, drive.drive, "settled", round_=drive.round, who=peer.name, why=why)


async def _count_losses(tx: Transaction, spoilt: Sequence[Spoilt]) -> None:
    """Take what was found bad from the totals: of its drive, and of the site where it was the last copy."""
    if not spoilt:
        return
    files = await tx.files.named([each.name for each in spoilt])
    left = {
        copy.file_id
        for copy in await tx.instances.of_files([file.id for file in files.values()])
        if copy.presence in (Presence.PRESENT, Presence.SUSPECT) and copy.intent is Intent.KEEP
    }
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for each in spoilt:
        is_last = files[each.name].id not in left
        for subject in (f"store:{each.drive}", *(("held",) if is_last else ())):
            counts[subject] -= 1
            sizes[subject] -= each.size
    await tx.tallies.add_many({subject: Tally(files=counts[subject], bytes=sizes[subject]) for subject in counts})
