"""What came on drives, and what could not be taken from them, is told again to a sender whose catalog was restored."""

from sqlalchemy import delete, update

from librarian import pairing, replication
from librarian.catalog.database import make_engine
from librarian.catalog.schema import DriveRow, ManifestRow, OutgoingRow, RemoteInstanceRow
from librarian.states import DriveState, TransferState
from tests.clone_fixtures import until
from tests.suitcases import drive_of, pack, receive

FILES = {f"obs/{number}": bytes([number]) * (1000 + number) for number in range(5)}


async def test_what_came_on_a_drive_is_told_again_to_a_restored_sender_and_when_it_is_received_again(pair, tmp_path):
    sender, receiver = pair
    key = await pairing.signing_key(sender.site)
    async with receiver.site.catalog.begin() as tx:
        await tx.peers.learn_key((await tx.peers.get(sender.name)).id, key.public)
    await sender.upload(FILES)
    packed = await pack(sender, list(FILES), tmp_path / "drive", to="nersc")
    (packed.root / "obs/3").write_bytes(b"spoilt")
    await receive(receiver, packed.root)

    async def is_told() -> bool:
        return await drive_of(sender) == (DriveState.RECEIVED, 4, 1)

    await until(is_told)
    await forget(sender)
    async with receiver.site.catalog.begin() as tx:
        await replication.peer_restored(tx, await tx.peers.get(sender.name))
    receiver.site.bells.ring("deliver")

    await until(is_told)

    await forget(sender)
    await receive(receiver, packed.root)

    await until(is_told)


async def forget(sender) -> None:
    """Have *sender* know nothing of what its peer said."""
    engine = make_engine(sender.site.settings.database)
    async with engine.begin() as connection:
        await connection.execute(delete(RemoteInstanceRow))
        await connection.execute(update(OutgoingRow).values(state=TransferState.ONGOING))
        await connection.execute(update(ManifestRow).values(confirmed_files=0, failed_files=0))
        await connection.execute(update(DriveRow).values(state=DriveState.SEALED))
    await engine.dispose()
