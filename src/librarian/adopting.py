"""Adopting: taking up what a drive carries that we sealed ourselves, and that our catalog has forgotten since.

The catalog was restored from a backup while the drive travelled. Its manifest bears our own signature: what it lists
was ours, under these names, and went to that peer under these uuids.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from librarian import confirming, drives, manifest, pairing, replication
from librarian.catalog.files import Listing, NewFile
from librarian.catalog.instances import NewInstance
from librarian.catalog.manifests import Consigned
from librarian.catalog.records import Happening, Tally
from librarian.checksum import Checksum, pack_members
from librarian.errors import Conflict, ManifestDamaged, NotFound, WrongState
from librarian.names import FileName, SiteName
from librarian.notifying import tell_of_drive
from librarian.ownership import mark_restored
from librarian.quantities import counted
from librarian.replication import Arrived
from librarian.states import DriveState, Intent, Kind, Presence, VerifiedFrom
from librarian.stores import places
from librarian.stores.drive import beating

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.manifests import ManifestRecord
    from librarian.catalog.records import File
    from librarian.catalog.transaction import Transaction
    from librarian.manifest import ManifestFile
    from librarian.names import FileId, StoreName
    from librarian.site import Site
    from librarian.wire.manifest import Entry

_WHO: Final = "adopt"
_PACK_LEVEL: Final = 1
_KEEP_IT: Final = "It is neither loaded nor wiped. Its destination can receive it all the same."


@dataclass(frozen=True, kw_only=True)
class Found:
    """A manifest of ours on a drive, read once; entries are those that were checked."""

    manifest: ManifestFile

    @property
    def why(self) -> str:
        """What it proves."""
        head = self.manifest.head
        return f"drive {head.drive} bears manifest {head.uuid} of ours, of which the catalog knows nothing"


async def find(site: Site, drive: DriveRecord) -> Found:
    """The manifest on *drive*, which must be one that we sealed in its present round.

    Raises
    ------
    NotFound, ManifestDamaged, ProtocolMismatch, StoreUnavailable
    Conflict
        Somebody else sealed it, or it speaks of another drive.
    WrongState
        It is of another round than the catalog knows of.
    """
    path = Path(drive.path) / manifest.NAME
    found = await beating(drive.name, lambda beat: manifest.open_manifest(path, beat=beat), what="read the manifest")
    key = await pairing.signing_key(site)
    async with site.catalog.read() as tx:
        own = await tx.site.get()
    head = found.head
    if head.key != key.public or head.sender.uuid != own.uuid:
        raise Conflict(
            f"the drive '{drive.name}' was sealed by {head.sender.name}, with the key {found.fingerprint}, not by us",
            remedy="It is left alone: another site has it now.",
        )
    if (head.store, head.generation) != (drive.uuid, drive.generation):
        raise Conflict(
            f"the manifest on the drive '{drive.name}' is that of another drive, or of an older state of this one",
            remedy=_KEEP_IT,
        )
    if head.round != drive.round:
        raise WrongState(
            f"the drive '{drive.name}' was sealed in round {head.round}, and the catalog knows of round {drive.round}",
            remedy=_KEEP_IT,
        )
    return Found(manifest=found)


async def begin(tx: Transaction, drive: DriveRecord, found: Found) -> None:
    """Take *drive*, which is to be loaded as far as the catalog knows, for one that is sealed as *found* says.

    A repeat changes nothing. Raises NotFound where its peer is unknown.
    """
    head = found.manifest.head
    peer = await tx.peers.get(SiteName(head.to))
    await tx.loading.abandon(drive.store_id, reason=f"the drive '{drive.name}' is sealed already")
    if not await tx.drives.advance(drive.id, to=DriveState.SEALING, who=_WHO):
        return
    await tx.stores.set_open(drive.name, is_open=False)
    await tx.alerts.acknowledge(drives.loading_causes(drive.name))
    first, last = (text.decode().rstrip("\n") for text in found.manifest.ends)
    await tx.manifests.begin(drive, peer=peer.id, uuid=head.uuid, head=first, sealed_by=_WHO)
    sealing = await tx.manifests.of(drive)
    if sealing is not None:
        # From this its task knows that it is there already, and is not to be written.
        await tx.manifests.finish(sealing.id, head=first, seal=last)


async def refuse_others(tx: Transaction, entries: Sequence[Entry]) -> None:
    """Raise Conflict where a name of *entries* has come to stand for something else, or lies in another."""
    obstacles = await tx.files.conflicts([FileName(entry.name) for entry in entries])
    for entry in entries:
        obstacle = obstacles.get(FileName(entry.name))
        if obstacle is None:
            continue
        beside = obstacle.nested_in or obstacle.encloses
        if beside is not None or (obstacle.file is not None and not _is_equal(entry, obstacle.file)):
            other = f"'{beside}'" if beside else "another content"
            raise Conflict(
                f"'{entry.name}' is on the drive, and the catalog has come to know {other} under that name",
                remedy=f"Nothing was changed. {_KEEP_IT}",
            )


def _is_equal(entry: Entry, file: File) -> bool:
    return (entry.kind, entry.size, entry.checksum) == (file.kind, file.size, file.checksum)


async def take_up(
    tx: Transaction, drive: DriveRecord, sealed: ManifestRecord, found: Found, lines: Sequence[tuple[bytes, Entry]]
) -> None:
    """Write down the next *lines* of what *drive* carries: files that were forgotten, copies, transfers.

    With the last of them the drive is sealed. What the peer is known to hold is confirmed. The transaction must be
    one that opens names; a repeat is refused by the numbers of the parts.
    """
    entries = [entry for _, entry in lines]
    await refuse_others(tx, entries)
    files = await _remember(tx, drive, found, entries)
    ids = {name: file.id for name, file in files.items()}
    place = await tx.manifests.place(sealed.id)
    await tx.manifests.append(
        sealed,
        number=place.number,
        lines=zlib.compress(b"".join(raw for raw, _ in lines), _PACK_LEVEL),
        consigned=[Consigned(entry.uuid, ids[FileName(entry.name)], entry.size) for entry in entries],
    )
    held = [each.file_id for each in await tx.remote_instances.of_files(list(ids.values())) if each.peer == sealed.peer]
    await tx.confirmations.confirmed(await tx.outgoing.complete(sealed.peer_id, held))
    if sealed.files + len(entries) == found.manifest.head.files:
        await _finish(tx, drive, sealed, found, held)


async def _remember(
    tx: Transaction, drive: DriveRecord, found: Found, entries: Sequence[Entry]
) -> Mapping[FileName, File]:
    """The files of *entries*, and their copies on *drive*; those that were forgotten are known again."""
    names = [FileName(entry.name) for entry in entries]
    new = await tx.files.add([_new_file(entry) for entry in entries])
    files = await tx.files.named(names)
    await tx.files.add_listings(
        [
            Listing(file_id=new[FileName(entry.name)], count=len(members), packed=pack_members(members))
            for entry in entries
            if FileName(entry.name) in new and (members := manifest.members_of(entry))
        ]
    )
    await _count(tx, drive, files)
    at = found.manifest.head.sealed_at
    await tx.instances.add(
        [
            NewInstance(file_id=file.id, store=drive.name, verified_at=at, verified_from=VerifiedFrom.MEDIUM)
            for file in files.values()
        ]
    )
    forgotten = [files[name] for name in new]
    why = f"the manifest of the drive {drive.name} lists it"
    await tx.events.tell([Happening(subject=each.name, what="known again", who=_WHO, why=why) for each in forgotten])
    await replication.files_arrived(tx, [_arrived(each, drive.name) for each in forgotten])
    return files


def _new_file(entry: Entry) -> NewFile:
    return NewFile(
        name=FileName(entry.name),
        kind=Kind(entry.kind),
        size=entry.size,
        checksum=Checksum(entry.checksum),
        uploader=entry.uploader,
        origin=entry.origin,
        created_at=entry.created_at,
    )


def _arrived(file: File, store: StoreName) -> Arrived:
    return Arrived(
        file_id=file.id,
        name=file.name,
        kind=file.kind,
        size=file.size,
        checksum=file.checksum,
        store=store,
        peer_id=None,
        is_new=True,
    )


async def _count(tx: Transaction, drive: DriveRecord, files: Mapping[FileName, File]) -> None:
    """Add to the totals what was not counted before: on *drive*, and at the site."""
    copies = [
        copy
        for copy in await tx.instances.of_files([file.id for file in files.values()])
        if copy.presence in (Presence.PRESENT, Presence.SUSPECT) and copy.intent is Intent.KEEP
    ]
    on_drive = {copy.file_id for copy in copies if copy.store == drive.name}
    anywhere = {copy.file_id for copy in copies}
    await tx.tallies.add_many({f"store:{drive.name}": _without(files, on_drive), "held": _without(files, anywhere)})


def _without(files: Mapping[FileName, File], counted: set[FileId]) -> Tally:
    sizes = [file.size for file in files.values() if file.id not in counted]
    return Tally(files=len(sizes), bytes=sum(sizes))


async def _finish(
    tx: Transaction, drive: DriveRecord, sealed: ManifestRecord, found: Found, held: Sequence[FileId]
) -> None:
    await tx.drives.advance(drive.id, to=DriveState.SEALED, who=_WHO)
    head = found.manifest.head
    why = f"for {head.to}, before this catalog was restored: {counted(head.files)}, {head.bytes:,} bytes"
    await tell_of_drive(tx, drive.name, "sealed", round_=drive.round, who=_WHO, why=why)
    await confirming.drives_confirmed(tx, sealed.peer_id, held, who=head.to)
    # In a new epoch, once more: the peer tells again what it took from our drives, which was refused before.
    await mark_restored(tx, found.why)


async def refuse_unknown(site: Site, drive: DriveRecord) -> None:
    """Raise Conflict where *drive* bears a manifest that the catalog does not know: what it lists would be lost.

    Raises
    ------
    Conflict, StoreUnavailable
    """
    path = Path(drive.path) / places.MANIFEST

    def look() -> str | None:
        try:
            return manifest.head_of(path).uuid
        except NotFound:
            return None
        except ManifestDamaged:
            return ""

    uuid = await beating(drive.name, lambda _: look(), what="look at the manifest")
    async with site.catalog.read() as tx:
        known = await tx.manifests.of(drive)
    if uuid is None or (known is not None and uuid in ("", known.uuid)):
        return
    raise Conflict(
        f"the drive '{drive.name}' bears a manifest that this catalog does not know",
        remedy="The catalog was restored from a backup: see 'alert list'. Look with 'drive verify' what is on the "
        "drive; where nothing of that is wanted, remove '.librarian-manifest' from its top.",
    )
