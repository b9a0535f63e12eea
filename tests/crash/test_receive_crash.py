"""A drive that is received by a server which is killed, or loses its power, at every named step."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from librarian.client import LibrarianClient
from librarian.states import DriveState
from librarian.wire.drives import DriveMade, DriveSealing, InitDrive, PackingSlip, SealDrive
from librarian.wire.journeys import DriveStatus
from librarian.wire.peers import PeerList
from librarian.wire.receptions import BadEntryPage, ReceiveDrive, ReceptionDescription
from tests.crash.harness import INGEST_STEPS, CrashSite, all_gone, free_port, until

STEPS = (
    "reception recorded",
    "row written",
    "directory made",
    "half copied",
    "copied but not recorded",
    "STAGED",
    "drive read",
    *INGEST_STEPS,
)
#: Bytes are changed in it while it travels.
SPOILT = "obs/3"
FILES = {f"obs/{number}": bytes([number]) * 20_000 for number in range(6)}
BOOK = {"header": b"first light", "spectra/one": b"1" * 700_000, "spectra/two": b"2" * 300_000}
WHOLE = sorted([*(FILES.keys() - {SPOILT}), *(f"obs/book/{member}" for member in BOOK)])
RULE = '\n[[rules]]\nname = "carried"\npeer = "nersc"\nstores = ["A*"]\n'


@dataclass(frozen=True)
class Shipment:
    """A drive that chajnantor has sealed for nersc, in the form of a folder, and both sites as they were then."""

    drive: Path
    fingerprint: str
    #: Their folders, by name.
    sites: dict[str, Path]


@pytest.fixture(scope="module")
def shipment(prepared, tmp_path_factory) -> Shipment:
    folder = tmp_path_factory.mktemp("shipment")
    for name in ("chajnantor", "nersc"):
        shutil.copytree(prepared[name], folder / name)
    source = CrashSite("chajnantor", folder / "chajnantor", free_port(), folder, RULE)
    destination = CrashSite("nersc", folder / "nersc", free_port(), folder)
    with all_gone(source, destination):
        return asyncio.run(ship(source, destination, folder))


async def ship(source: CrashSite, destination: CrashSite, folder: Path) -> Shipment:
    sites = {site.name: site for site in (source, destination)}
    drive = folder / "drive"
    drive.mkdir()
    for site in sites.values():
        site.configure()
        site.start()
    await asyncio.gather(*(site.ready() for site in sites.values()))
    await destination.knows(source)
    await source.knows(destination)
    destination.kill()
    async with source.client() as client:
        await client.upload_many([(path, name) for name, path in laid_in(folder / "source").items()])
    async with source.operator() as operator:
        made = InitDrive(name="A07", path=str(drive), is_folder=True)
        await operator.request("POST", "/drives", body=made, answer=DriveMade)
        await until(lambda: carries(operator, len(FILES) + 1))
        sealed = SealDrive(to="nersc")
        await operator.request("POST", "/drives/A07/seal", body=sealed, answer=DriveSealing)
        await until(lambda: is_(operator, DriveState.SEALED))
        slip = await operator.request("GET", "/drives/A07/slip", answer=PackingSlip)
    source.kill()
    spoil(drive / SPOILT)
    return Shipment(
        drive.rename(folder / "suitcase"), slip.fingerprint, {site.name: site.folder for site in sites.values()}
    )


def laid_in(source: Path) -> dict[str, Path]:
    for name, content in {**FILES, **{f"obs/book/{member}": each for member, each in BOOK.items()}}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    return {name: source / name for name in (*FILES, "obs/book")}


def spoil(path: Path) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(b"spoilt")
    path.chmod(0o444)


async def drive_of(operator: LibrarianClient):
    return (await operator.request("GET", "/status/drives", answer=DriveStatus)).drives[0]


async def carries(operator: LibrarianClient, count: int) -> bool:
    return (await drive_of(operator)).held.files == count


async def is_(operator: LibrarianClient, state: DriveState) -> bool:
    return (await drive_of(operator)).state is state


async def receive(operator: LibrarianClient, shipment: Shipment) -> ReceptionDescription:
    body = ReceiveDrive(path=str(shipment.drive), trust=shipment.fingerprint)
    return await operator.request("POST", "/receptions", body=body, answer=ReceptionDescription, repeats=True)


async def assert_received(operator: LibrarianClient, site: CrashSite, shipment: Shipment) -> None:
    """Everything that the drive carries is there once, whole, or was reported, and nothing is left over."""

    async def is_done() -> ReceptionDescription | None:
        found = await operator.request("GET", "/receptions/A07", answer=ReceptionDescription)
        return found if found.is_done else None

    found = await until(is_done)
    bad = await operator.request("GET", "/receptions/A07/bad", answer=BadEntryPage)
    assert (found.held_files, found.bad_files, found.known_files) == (len(FILES), 1, 0)
    assert [(each.name, each.code) for each in bad.entries] == [(SPOILT, "entry_differs")]
    assert site.published() == WHOLE
    for name in WHOLE:
        assert (site.folder / "store" / name).read_bytes() == (shipment.drive / name).read_bytes()

    async def is_clean() -> bool:
        return not site.staging_entries()

    await until(is_clean)


def as_it_is(drive: Path) -> dict[Path, tuple[int, int, bytes]]:
    """All of a drive: names, modes, times of change, and content."""
    return {
        path: ((status := path.lstat()).st_mode, status.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in (drive, *drive.rglob("*"))
    }


@pytest.mark.parametrize("step", STEPS)
async def test_what_a_drive_carries_survives_a_server_that_is_killed_or_loses_its_power(new_site, shipment, step):
    before = as_it_is(shipment.drive)
    site = new_site("nersc", has_disk=True, made_of=shipment.sites["nersc"])
    fifo = site.start(stop_at=step)
    await site.ready()
    async with site.operator() as operator:
        ordered = asyncio.create_task(receive(operator, shipment))

        assert await site.stopped(fifo) == step
        after = site.disk.copy_as_it_is()
        site.kill()
        site.start()
        await ordered
        await assert_received(operator, site, shipment)
        site.kill()
        site.disk.replace(after)
        site.start()
        await assert_received(operator, site, shipment)

    assert as_it_is(shipment.drive) == before


@pytest.mark.parametrize("loss", ["kill", "power", "kill both"])
async def test_what_has_arrived_on_a_drive_is_known_though_those_who_tell_and_hear_it_are_lost(
    new_site, shipment, loss
):
    source = new_site("chajnantor", has_disk=loss == "power", rules=RULE, made_of=shipment.sites["chajnantor"])
    destination = new_site("nersc", made_of=shipment.sites["nersc"])
    for site in (source, destination):
        site.start()
    await asyncio.gather(source.ready(), destination.ready())
    await source.knows(destination)
    await destination.knows(source)
    async with source.operator() as teller, destination.operator() as operator:
        await until(lambda: has_heard_from_nersc(teller))
        source.kill()
        await receive(operator, shipment)
        await assert_received(operator, destination, shipment)
        fifo = source.start(stop_at="notice applied but unacknowledged")

        assert await source.stopped(fifo) == "notice applied but unacknowledged"
        source.cut_power() if loss == "power" else source.kill()
        if loss == "kill both":
            destination.kill()
            destination.start()
        source.start()

        await until(lambda: is_told(teller))


async def has_heard_from_nersc(operator: LibrarianClient) -> bool:
    peers = await operator.request("GET", "/peers", answer=PeerList)
    return peers.peers[0].last_heard_at is not None


async def is_told(operator: LibrarianClient) -> bool:
    drive = await drive_of(operator)
    return (drive.state, drive.confirmed.files, drive.failed.files) == (DriveState.RECEIVED, len(FILES), 1)
