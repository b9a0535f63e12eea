"""Sealing: closing a drive for a peer. ``tasks/seal.py`` does what takes long; all of it may be repeated."""

from __future__ import annotations

import json
import secrets
import uuid
import zlib
from typing import TYPE_CHECKING, Final

from librarian import adopting, drives, guard, owing, pairing
from librarian.catalog.manifests import Consigned
from librarian.catalog.records import Happening
from librarian.checksum import unpack_members
from librarian.errors import Conflict, StoreUnavailable, Unavailable, WrongState
from librarian.notifying import drive_subject
from librarian.quantities import counted
from librarian.states import DriveState, RuleWay
from librarian.timing import utc_now
from librarian.wire.manifest import Head, Sender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.manifests import Carried, ManifestRecord
    from librarian.catalog.records import Peer
    from librarian.catalog.transaction import Transaction
    from librarian.names import SiteName, StoreName
    from librarian.site import Site

#: Parts that are read from the catalog at once.
PARTS: Final = 16
_PACK_LEVEL: Final = 1
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


async def begin(
    site: Site, name: StoreName, *, peer: SiteName, who: str, is_unasked: bool = False
) -> tuple[SiteName, ...]:
    """Close the drive *name* and begin its manifest for *peer*. A repeat changes nothing.

    Returns the other peers that something on it was loaded for: it does not come to them on this drive.

    Raises
    ------
    NotFound, WrongState, StoreUnavailable
    RestoredCatalog
        It is in a round that the catalog has forgotten.
    Conflict
        It is sealed for another peer, or bears a manifest that the catalog does not know; or nothing on it was
        loaded for *peer*, and nobody says that it *is_unasked*.
    """
    key = await pairing.signing_key(site)
    async with site.catalog.read() as tx:
        drive = await tx.drives.get(name)
    if drive.is_plugged and drive.state in (DriveState.LOADING, DriveState.FULL):
        await drives.look_at_round(drive)
        await adopting.refuse_unknown(site, drive)
    async with site.catalog.begin() as tx:
        drive = await tx.drives.get(name)
        known = await tx.manifests.of(drive)
        if known is not None:
            _refuse_other(drive, known, peer)
            return ()
        _refuse_unready(drive)
        await _stop_loading(tx, drive)
        found, own = await tx.peers.get(peer), await tx.site.get()
        others = await _others(tx, drive, found, is_unasked=is_unasked)
        await tx.drives.advance(drive.id, to=DriveState.SEALING, who=who)
        await tx.stores.set_open(name, is_open=False)
        await tx.alerts.acknowledge(drives.loading_causes(name))
        head = Head(
            uuid=str(uuid.uuid4()),
            drive=drive.name,
            store=drive.uuid,
            generation=drive.generation,
            round=drive.round,
            serial=drive.serial,
            sender=Sender(name=site.name, uuid=own.uuid),
            to=peer,
            sealed_at=utc_now(),
            files=0,
            bytes=0,
            key=key.public,
        )
        text = head.model_dump_json(by_alias=True)
        await tx.manifests.begin(drive, peer=found.id, uuid=head.uuid, head=text, sealed_by=who)
        await tx.events.tell([Happening(subject=drive_subject(name), what="sealing", who=who, why=f"for {peer}")])
    guard.step("sealing begun")
    for bell in ("seal", "housekeeping"):
        site.bells.ring(bell)
    return others


async def _others(tx: Transaction, drive: DriveRecord, peer: Peer, *, is_unasked: bool) -> tuple[SiteName, ...]:
    rules = [rule for rule in await tx.rules.in_force() if rule.way is RuleWay.CARRIED]
    peers = {rule.peer_id for rule in rules if rule.peer_id is not None} | {peer.id}
    asking = [rule.id for rule in rules if owing.takes(owing.policy_of(rule), drive.name)]
    found = await tx.manifests.loaded_for(drive, peers, asking=asking)
    others = tuple(sorted(each.name for each in (await tx.peers.with_ids(found)).values() if each.id != peer.id))
    if peer.id not in found and not is_unasked:
        whose = f"; what is on it was loaded for {_listed(others)}" if others else ""
        remedy = f"Seal it for {_listed(others)}" if others else "See 'rule list'"
        raise Conflict(
            f"nothing on the drive '{drive.name}' was loaded for '{peer.name}', or that holds it all by now{whose}",
            remedy=f"{remedy}; to send it to '{peer.name}' all the same, say --unasked.",
        )
    return others


def _listed(names: Sequence[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)


def _refuse_other(drive: DriveRecord, known: ManifestRecord, peer: SiteName) -> None:
    if known.peer != peer:
        raise Conflict(
            f"the drive '{drive.name}' is sealed for '{known.peer}'",
            remedy=f"It goes to '{known.peer}'; what is due at '{peer}' needs another drive.",
        )


async def _stop_loading(tx: Transaction, drive: DriveRecord) -> None:
    """Copies that are on their way onto *drive* are due again: what comes now would not be in its manifest."""
    await tx.loading.abandon(drive.store_id, reason=f"the drive '{drive.name}' is being sealed")
    left = await tx.loading.expected_on(drive.store_id)
    if left:
        raise Unavailable(
            f"{counted(left, 'file is', 'files are')} being verified on the drive '{drive.name}' right now",
            remedy="Try again in a moment; nothing was changed.",
        )


def _refuse_unready(drive: DriveRecord) -> None:
    if drive.state not in (DriveState.LOADING, DriveState.FULL):
        raise WrongState(f"the drive '{drive.name}' is {drive.state}", remedy="Only a drive that is loaded is sealed.")
    if not drive.is_plugged:
        raise StoreUnavailable(f"the drive '{drive.name}' is not plugged in", remedy="Plug it in, then seal it.")
    if drive.files == 0:
        raise WrongState(
            f"nothing is on the drive '{drive.name}'", remedy="Make a rule that loads it: see 'rule add --drive'."
        )


def listed(carried: Iterable[Carried]) -> tuple[bytes, tuple[Consigned, ...]]:
    """The lines for what a drive carries, compressed, and the transfers that they speak of. It takes a while."""
    files = tuple(carried)
    lines: list[str] = []
    consigned: list[Consigned] = []
    # Not by the model, which would check once more what was checked when it came in: there may be a million.
    for uuid_, (file_id, name, kind, size, digest, uploader, origin, created_at, listing) in zip(
        _mint(len(files)), files, strict=True
    ):
        entry = {
            "uuid": uuid_,
            "name": name,
            "kind": kind,
            "size": size,
            "checksum": digest,
            "uploader": uploader,
            "origin": origin,
            "created_at": created_at.isoformat(),
        }
        if listing is not None:
            entry["members"] = [(member.path, member.size, member.hex) for member in unpack_members(listing)]
        lines.append(_ENCODE(entry))
        consigned.append(Consigned(uuid_, file_id, size))
    lines.append("")
    return zlib.compress("\n".join(lines).encode(), _PACK_LEVEL), tuple(consigned)


def _mint(count: int) -> list[str]:
    """Random UUIDs of version 4, at a fifth of what ``uuid.uuid4`` takes for each."""
    raw = secrets.token_bytes(16 * count).hex()
    return [
        "-".join(
            (
                raw[at : at + 8],
                raw[at + 8 : at + 12],
                f"4{raw[at + 13 : at + 16]}",
                f"a{raw[at + 17 : at + 20]}",
                raw[at + 20 : at + 32],
            )
        )
        for at in range(0, 32 * count, 32)
    ]


async def exported(site: Site, record: ManifestRecord) -> AsyncIterator[bytes]:
    """The manifest *record* once more, as it stands on its drive."""
    yield record.head.encode() + b"\n"
    first = 0
    while True:
        async with site.catalog.read() as tx:
            parts = await tx.manifests.parts(record.id, first=first, limit=PARTS)
        for part in parts:
            yield zlib.decompress(part)
        first += len(parts)
        if len(parts) < PARTS:
            break
    yield (record.seal or "").encode() + b"\n"
