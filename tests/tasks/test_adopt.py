"""Drives that we sealed, and that a catalog from a backup knows nothing of: taken up whole, or left alone."""

import os

import pytest
from sqlalchemy import delete, select, update

from librarian import guard, manifest, pairing, releasing, sealing
from librarian.catalog.database import make_engine
from librarian.catalog.remote_instances import Attestation
from librarian.catalog.schema import (
    DriveRow,
    EventRow,
    FileRow,
    InstanceRow,
    ManifestPartRow,
    ManifestRow,
    MemberListingRow,
    OutgoingRow,
    RemoteInstanceRow,
    TallyRow,
)
from librarian.errors import Conflict
from librarian.keys import SigningKey
from librarian.names import FileName
from librarian.ownership import mark_restored
from librarian.states import DriveState, TransferState
from librarian.tasks import adopt
from librarian.tasks.adopt import Adopt
from librarian.tasks.clear import Clear
from librarian.tasks.wipe import Wipe
from librarian.timing import plenty_of_time
from tests.carrying import (
    A07,
    CONTENTS,
    NERSC,
    add_peer,
    drive_of,
    lay,
    look_for_drives,
    make_drive,
    manifest_of,
    outgoing_of,
    seal,
)
from tests.holding import hold
from tests.uploading import alerts_of


@pytest.fixture
def media(tmp_path):
    """A folder in the place of a disk."""
    return tmp_path / "media"


@pytest.fixture
async def forgotten(site, media):
    """The site, with a drive that it has sealed, as far as a catalog knows of it that is older than the files on it."""
    await make_drive(site, media, is_folder=True)
    await lay(site, media)
    await add_peer(site)
    await seal(site)
    await forget(site)
    await look_for_drives(site)
    return site


async def forget(site):
    engine = make_engine(site.settings.database)
    async with engine.begin() as connection:
        for row in (OutgoingRow, ManifestPartRow, ManifestRow, InstanceRow, RemoteInstanceRow, MemberListingRow):
            await connection.execute(delete(row))
        await connection.execute(delete(TallyRow))
        await connection.execute(delete(EventRow))
        await connection.execute(delete(FileRow))
        await connection.execute(update(DriveRow).values(state=DriveState.LOADING))
    await engine.dispose()


async def put_file_back(site, name):
    """A file that the old catalog knew, on another store."""
    content = CONTENTS[name]
    await hold(site, name, dict(content) if isinstance(content, dict) else content)


async def take_up(site):
    await Adopt(site).run_pass(plenty_of_time())


async def exported(site):
    record = await manifest_of(site)
    return b"".join([part async for part in sealing.exported(site, record)])


async def counted(site):
    async with site.catalog.read() as tx:
        return tuple((await tx.tallies.of(f"store:{A07}")).__dict__.values()), (await tx.tallies.of("held")).files


async def epoch_of(site):
    async with site.catalog.read() as tx:
        return (await tx.site.get()).epoch


async def test_everything_that_the_manifest_lists_is_known_again(forgotten, media):
    site = forgotten
    await put_file_back(site, "top")
    before = {path: path.read_bytes() for path in media.rglob("*") if path.is_file()}
    epoch = await epoch_of(site)

    await take_up(site)
    await take_up(site)
    await look_for_drives(site)

    found = manifest.open_manifest(media / manifest.NAME)
    assert (await drive_of(site)).state is DriveState.SEALED
    assert await exported(site) == (media / manifest.NAME).read_bytes()
    assert {each.uuid for each in await outgoing_of(site)} == {entry.uuid for entry in found.entries()}
    assert {each.state for each in await outgoing_of(site)} == {TransferState.ONGOING}
    async with site.catalog.read() as tx:
        files = await tx.files.named([FileName(name) for name in CONTENTS])
        book = await tx.files.listing_of(files[FileName("2026/11/book")].id)
    assert {(entry.name, entry.checksum, entry.created_at) for entry in found.entries() if entry.name != "top"} == {
        (file.name, file.checksum, file.created_at) for file in files.values() if file.name != "top"
    }
    assert book.count == 3
    # "top" was known, and counted, before.
    assert await counted(site) == ((3, found.head.bytes), 2)
    assert {path: path.read_bytes() for path in media.rglob("*") if path.is_file()} == before
    assert (await epoch_of(site)) > epoch
    assert await alerts_of(site) == ["site:restored"]


async def test_taking_up_goes_on_after_a_crash(forgotten, media, monkeypatch):
    monkeypatch.setattr(adopt, "FILES", 1)
    passed = []

    def end(step):
        passed.append(step)
        if step == "adoption begun" or passed.count("portion adopted") == 2:
            raise SystemExit(step)

    monkeypatch.setattr(guard, "_on_step", [end])
    for _ in range(2):
        with pytest.raises(SystemExit):
            await take_up(forgotten)
        await look_for_drives(forgotten)
    await take_up(forgotten)

    assert passed == ["adoption begun", *["portion adopted"] * 3]
    assert (await drive_of(forgotten)).state is DriveState.SEALED
    assert await exported(forgotten) == (media / manifest.NAME).read_bytes()
    assert len(await outgoing_of(forgotten)) == 3


async def test_a_drive_that_is_pulled_out_is_taken_up_when_it_is_back(forgotten, media, tmp_path, monkeypatch):
    def pull(step):
        if step == "adoption begun":
            media.rename(tmp_path / "away")

    monkeypatch.setattr(guard, "_on_step", [pull])
    await take_up(forgotten)
    await look_for_drives(forgotten)
    told, state = await alerts_of(forgotten), (await drive_of(forgotten)).state
    (tmp_path / "away").rename(media)
    await look_for_drives(forgotten)
    await take_up(forgotten)

    assert (told, state) == ([], DriveState.SEALING)
    assert (await drive_of(forgotten)).state is DriveState.SEALED
    assert await exported(forgotten) == (media / manifest.NAME).read_bytes()


@pytest.mark.parametrize("held", [["top"], sorted(CONTENTS)])
async def test_what_the_peer_holds_is_confirmed_at_once(forgotten, held):
    for name in CONTENTS:
        await put_file_back(forgotten, name)
    async with forgotten.catalog.begin() as tx:
        files = await tx.files.named([FileName(name) for name in held])
        peer = await tx.peers.get(NERSC)
        told = [
            Attestation(file_id=file.id, store="tape", is_held=True, seq=n + 1) for n, file in enumerate(files.values())
        ]
        await tx.remote_instances.attest(peer.id, told, epoch=1)

    await take_up(forgotten)

    assert (await manifest_of(forgotten)).confirmed_files == len(held)
    is_all = len(held) == len(CONTENTS)
    assert (await drive_of(forgotten)).state is (DriveState.CONFIRMED if is_all else DriveState.SEALED)


async def test_a_name_that_stands_for_something_else_by_now_leaves_all_as_it_is(forgotten, media):
    await hold(forgotten, "top", b"something else")

    await take_up(forgotten)

    assert await alerts_of(forgotten) == ["cannot-adopt:A07"]
    assert (await drive_of(forgotten)).state is DriveState.LOADING
    assert await outgoing_of(forgotten) == ()
    async with forgotten.catalog.read() as tx:
        assert set(await tx.files.named([FileName(name) for name in CONTENTS])) == {"top"}


async def test_a_name_that_lies_in_another_by_now_leaves_all_as_it_is(forgotten):
    await hold(forgotten, "2026/11/one/inside", b"a book by now")

    await take_up(forgotten)

    assert await alerts_of(forgotten) == ["cannot-adopt:A07"]
    assert await outgoing_of(forgotten) == ()


async def forge(site, media):
    path = media / manifest.NAME
    found = manifest.open_manifest(path)
    entries = list(found.entries())
    other = SigningKey(SigningKey.mint())
    head = found.head.model_copy(update={"key": other.public})
    with manifest.ManifestWriter(os.open(media, os.O_RDONLY | os.O_DIRECTORY), head) as writer:
        for entry in entries:
            writer.add(manifest.line(entry))
        writer.finish(other)


async def truncate(site, media):
    path = media / manifest.NAME
    path.write_bytes(path.read_bytes()[:-10])


async def of_an_older_round(site, media):
    engine = make_engine(site.settings.database)
    async with engine.begin() as connection:
        await connection.execute(update(DriveRow).values(round=2))
    await engine.dispose()


async def as_another(site, media):
    path = media / manifest.NAME
    found, key = manifest.open_manifest(path), await pairing.signing_key(site)
    entries = list(found.entries())
    head = found.head.model_copy(update={"generation": found.head.generation + 1})
    with manifest.ManifestWriter(os.open(media, os.O_RDONLY | os.O_DIRECTORY), head) as writer:
        for entry in entries:
            writer.add(manifest.line(entry))
        writer.finish(key)


@pytest.mark.parametrize("spoil", [forge, truncate, of_an_older_round, as_another])
async def test_a_manifest_that_is_not_ours_for_this_drive_is_told_and_never_wiped(forgotten, media, spoil):
    site = forgotten
    await spoil(site, media)

    await take_up(site)
    told = await alerts_of(site)
    with pytest.raises(Conflict, match="does not know"):
        await lay_and_seal(site, media)
    await releasing.release(site, A07, lose=1, who="ana")
    await Clear(site).run_pass(plenty_of_time())
    with pytest.raises(Conflict, match="does not know"):
        await releasing.reuse(site, A07, lose=0, who="ana")

    assert told == ["cannot-adopt:A07"]
    assert (media / manifest.NAME).exists()
    assert (media / "2026/11/one").exists()


async def lay_and_seal(site, media):
    await lay(site, media, {"one more": b"1"})
    await sealing.begin(site, A07, peer=NERSC, who="ana")


async def test_a_refused_drive_is_looked_at_again_when_it_is_plugged_in_again(forgotten, media, tmp_path):
    await hold(forgotten, "top", b"something else")
    task = Adopt(forgotten)
    await task.run_pass(plenty_of_time())
    engine = make_engine(forgotten.settings.database)
    async with engine.begin() as connection:
        one = select(FileRow.id).where(FileRow.name == "top")
        await connection.execute(delete(InstanceRow).where(InstanceRow.file_id.in_(one)))
        await connection.execute(delete(FileRow).where(FileRow.name == "top"))
    await engine.dispose()

    await task.run_pass(plenty_of_time())
    before = (await drive_of(forgotten)).state
    media.rename(tmp_path / "away")
    await look_for_drives(forgotten)
    await task.run_pass(plenty_of_time())
    (tmp_path / "away").rename(media)
    await look_for_drives(forgotten)
    await task.run_pass(plenty_of_time())

    assert before is DriveState.LOADING
    assert (await drive_of(forgotten)).state is DriveState.SEALED
    assert await alerts_of(forgotten) == ["site:restored"]


async def test_nothing_is_wiped_by_a_catalog_from_a_backup_before_somebody_has_looked(site, media):
    await make_drive(site, media, is_folder=True)
    await lay(site, media)
    await add_peer(site)
    await seal(site)
    await releasing.release(site, A07, lose=3, who="ana")
    await Clear(site).run_pass(plenty_of_time())
    await releasing.reuse(site, A07, lose=0, who="ana")
    async with site.catalog.begin() as tx:
        await mark_restored(tx, "a test")

    await Wipe(site).run_pass(plenty_of_time())
    waits = (media / manifest.NAME).exists()
    async with site.catalog.begin() as tx:
        await tx.site.acknowledge_restored()
    await Wipe(site).run_pass(plenty_of_time())

    assert waits
    assert (await drive_of(site)).round == 2
