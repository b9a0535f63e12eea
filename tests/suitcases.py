"""Drives that one site of a test has sealed for another."""

import json
import os
import shutil
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import insert, select

from librarian import manifest, pairing
from librarian.catalog.database import make_engine
from librarian.catalog.schema import DriveRow, InstanceRow, ManifestRow, OutgoingRow, StoreRow
from librarian.checksum import Algorithm, measure_blocking
from librarian.keys import SigningKey
from librarian.names import FileName
from librarian.states import DriveState, Kind
from librarian.stores import examining
from librarian.stores.identity import Identity
from librarian.timing import utc_now
from librarian.wire.manifest import Entry, Head, Sender
from tests.carrying import CONTENTS, write
from tests.clone_fixtures import Party, until


@dataclass(frozen=True)
class Packed:
    """A drive with what is needed to check and to forge it."""

    root: Path
    head: Head
    entries: tuple[Entry, ...]
    key: SigningKey


#: Of the site that seals folders, and the store that these are.
KEY = SigningKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
STORE = str(uuid.UUID(int=2))


def seal_folder(root: Path, *, sender: str = "chajnantor", to: str = "nersc") -> Path:
    """Write what is told in ``CONTENTS`` to *root*, and seal that as the drive A07 of *sender* for *to*."""
    entries = []
    for name, content in CONTENTS.items():
        write(root / name, content)
        found = measure_blocking(root / name, Algorithm.XXH3)
        entries.append(
            Entry(
                uuid=str(uuid.uuid4()),
                name=name,
                kind=found.kind.value,
                size=found.size,
                checksum=found.checksum,
                uploader="ana",
                origin="chajnantor",
                created_at=utc_now(),
                members=tuple((m.path, m.size, m.hex) for m in found.members) if found.kind is Kind.BOOK else None,
            )
        )
    examining.found(root, Identity(uuid=STORE, generation=7))
    head = Head(
        uuid=str(uuid.uuid4()),
        drive="A07",
        store=STORE,
        generation=7,
        round=1,
        serial=None,
        sender=Sender(name=sender, uuid=str(uuid.UUID(int=3))),
        to=to,
        sealed_at=utc_now(),
        files=len(entries),
        bytes=sum(entry.size for entry in entries),
        key=KEY.public,
    )
    return seal(Packed(root, head, tuple(entries), KEY)).root


def entry_of(name: str, path: Path, file) -> Entry:
    measured = measure_blocking(path, Algorithm(file.checksum.algorithm))
    members = None
    if file.kind is Kind.BOOK:
        members = tuple((each.path, each.size, each.hex) for each in measured.members)
    return Entry(
        uuid=str(uuid.uuid4()),
        name=name,
        kind=file.kind.value,
        size=file.size,
        checksum=str(file.checksum),
        uploader=file.uploader,
        origin=file.origin,
        created_at=file.created_at,
        members=members,
    )


async def introduce_key(sender: Party, receiver: Party) -> None:
    """*receiver* knows *sender*'s key, as sites that were paired do."""
    key = await pairing.signing_key(sender.site)
    async with receiver.site.catalog.begin() as tx:
        await tx.peers.learn_key((await tx.peers.get(sender.name)).id, key.public)


async def pack(
    sender: Party, names, root: Path, *, to: str, drive: str = "A07", key: SigningKey | None = None
) -> Packed:
    """Copy files of *sender* onto the drive at *root* and seal it for *to*, with all the rows that belong to it."""
    store_uuid, generation = str(uuid.uuid4()), 3
    root.mkdir(parents=True, exist_ok=True)
    (root / ".librarian-store").write_text(
        json.dumps({"version": 1, "uuid": store_uuid, "generation": generation}) + "\n"
    )
    async with sender.site.catalog.begin() as tx:
        files = await tx.files.named([FileName(name) for name in names])
        site = await tx.site.get()
    key = key or await pairing.signing_key(sender.site)
    entries = []
    for name in sorted(names):
        file = files[FileName(name)]
        source = next(store.path_of(file.name) for store in sender.site.stores if store.path_of(file.name).exists())
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
        entries.append(entry_of(name, target, file))
    head = Head(
        uuid=str(uuid.uuid4()),
        drive=drive,
        store=store_uuid,
        generation=generation,
        round=1,
        serial=None,
        sender=Sender(name=sender.name, uuid=site.uuid),
        to=to,
        sealed_at=utc_now(),
        files=len(entries),
        bytes=sum(entry.size for entry in entries),
        key=key.public,
    )
    packed = Packed(root, head, tuple(entries), key)
    seal(packed)
    await _write_rows(sender, packed, {name: files[FileName(name)].id for name in names})
    return packed


def changed(packed: Packed, **head) -> Packed:
    """The same drive, sealed with another head."""
    return seal(replace(packed, head=packed.head.model_copy(update=head)))


def seal(packed: Packed) -> Packed:
    """Write the manifest of *packed* onto its drive."""
    with manifest.ManifestWriter(os.open(packed.root, os.O_RDONLY | os.O_DIRECTORY), packed.head) as writer:
        for entry in packed.entries:
            writer.add(manifest.line(entry))
        writer.finish(packed.key)
    return packed


async def _write_rows(sender: Party, packed: Packed, ids) -> None:
    head, now = packed.head, utc_now()
    async with sender.site.catalog.read() as tx:
        peer = await tx.peers.get(head.to)
    engine = make_engine(sender.site.settings.database)
    async with engine.begin() as connection:

        async def write(row, **values):
            return (await connection.execute(insert(row).values(**values).returning(row.id))).scalar_one()

        store = await write(StoreRow, name=head.drive, uuid=head.store, kind="drive", is_open=False, created_at=now)
        drive = await write(
            DriveRow, store_id=store, filesystem="ext4", size=64 * 1024**2, full_at=980, state=DriveState.IN_TRANSIT,
            since=now, who="admin", round=1, generation=head.generation, path=str(packed.root), is_plugged=False,
            seen_at=now, created_at=now,
        )  # fmt: skip
        row = await write(
            ManifestRow, uuid=head.uuid, drive_id=drive, round=1, peer_id=peer.id, files=head.files, bytes=head.bytes,
            head=head.model_dump_json(by_alias=True), seal="{}", sealed_at=now, sealed_by="admin",
        )  # fmt: skip
        for entry in packed.entries:
            await write(
                InstanceRow, file_id=ids[entry.name], store_id=store, presence="present", intent="keep",
                verified_at=now, verified_from="medium", created_at=now,
            )  # fmt: skip
            await write(
                OutgoingRow, uuid=entry.uuid, peer_id=peer.id, file_id=ids[entry.name], size=entry.size,
                manifest_id=row, state="ongoing", created_at=now, progressed_at=now,
            )  # fmt: skip
    await engine.dispose()


async def receive(receiver: Party, root: Path, *, status: int = 200, **more):
    """Order *receiver* to receive the drive at *root*; what it answers."""
    reply = await receiver.live.call("POST", "/api/v1/receptions", body={"path": str(root), **more})
    assert reply.status == status, reply.raw
    return reply.json


async def reception(receiver: Party, uuid: str):
    reply = await receiver.live.call("GET", f"/api/v1/receptions/{uuid}")
    assert reply.status == 200, reply.raw
    return reply.json


async def drive_of(sender: Party, name: str = "A07"):
    """State of a drive, and the counts of its manifest."""
    engine = make_engine(sender.site.settings.database)
    async with engine.connect() as connection:
        found = (
            await connection.execute(
                select(DriveRow.state, ManifestRow.confirmed_files, ManifestRow.failed_files)
                .join(StoreRow, StoreRow.id == DriveRow.store_id)
                .join(ManifestRow, ManifestRow.drive_id == DriveRow.id)
                .where(StoreRow.name == name)
            )
        ).one()
    await engine.dispose()
    return tuple(found)


async def done(receiver, uuid) -> dict:
    """The reception, once all of it is done."""

    async def is_done() -> bool:
        return (await reception(receiver, uuid))["is_done"]

    await until(is_done)
    return await reception(receiver, uuid)


async def shows(sender, expected, name="A07") -> None:
    """Wait until *sender* knows that of its drive: state, confirmed, failed."""

    async def is_so() -> bool:
        return await drive_of(sender, name) == expected

    await until(is_so)


async def bad_of(receiver, uuid) -> list[tuple[str, str, str]]:
    reply = await receiver.live.call("GET", f"/api/v1/receptions/{uuid}/bad")
    return [(each["name"], each["code"], each["reason"].partition(":")[0]) for each in reply.json["entries"]]


async def waits(receiver, uuid, words: str) -> None:
    async def is_waiting() -> bool:
        return words in ((await reception(receiver, uuid))["reason"] or "")

    await until(is_waiting)
