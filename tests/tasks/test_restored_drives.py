"""Whatever backup a catalog comes back from, and wherever a drive is by then: nothing that is only on it is lost."""

import asyncio
import os
import shutil
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from librarian import manifest, releasing, sealing
from librarian.catalog.backup import back_up
from librarian.catalog.remote_instances import Attestation
from librarian.errors import Conflict, LibrarianError
from librarian.names import FileName
from librarian.states import DriveState, Role
from librarian.stores import identity
from librarian.tasks.adopt import Adopt
from librarian.tasks.clear import Clear
from librarian.tasks.seal import Seal
from librarian.tasks.wipe import Wipe
from librarian.timing import plenty_of_time
from tests.carrying import A07, NERSC, add_peer, drive_of, lay, look_for_drives, make_drive, seal
from tests.site_fixtures import create_account, opened_site, served

FIRST, LATER, SECOND = {"one": b"first light"}, {"later": {"a": b"a", "b": b"bb"}}, {"two": b"round"}


class Journey:
    """Two rounds of a drive; of each state a backup of the catalog, and the drive as it was."""

    def __init__(self, top, url):
        self.top = top
        self.url = url
        self.media = top / "media"
        self.catalog = top / "catalog.sqlite"

    @asynccontextmanager
    async def site(self):
        async with opened_site(self.url, self.top / "chajnantor") as site:
            yield site

    async def keep(self, state):
        await back_up(self.url, self.top / f"{state}.backup")
        if self.media.exists():
            shutil.copytree(self.media, self.top / f"{state}.drive")

    async def make(self):
        async with self.site() as site:
            await add_peer(site)
            await self.keep("unknown")
            await make_drive(site, self.media, is_folder=True)
            await lay(site, self.media, FIRST)
            await self.keep("loading")
            await lay(site, self.media, LATER)
            await self.keep("loaded")
            await sealing.begin(site, A07, peer=NERSC, who="ana", is_unasked=True)
            await self.keep("sealing")
            await work(site, Seal)
            await self.keep("sealed")
            await confirm(site)
            await self.keep("confirmed")
            await releasing.release(site, A07, lose=0, who="ana")
            await work(site, Clear)
            await self.keep("released")
            await releasing.reuse(site, A07, lose=0, who="ana")
            await self.keep("wiping")
            await work(site, Wipe)
            await look_for_drives(site)
            await self.keep("wiped")
            await lay(site, self.media, SECOND)
            await self.keep("loaded again")
            await seal(site)
            await self.keep("sealed again")

    @asynccontextmanager
    async def restored(self, backup, drive):
        """The site with its catalog from *backup*, and the drive as it was in the state *drive*."""
        for left in self.top.glob("catalog.sqlite*"):
            left.unlink()
        shutil.copyfile(self.top / f"{backup}.backup", self.catalog)
        shutil.rmtree(self.media)
        shutil.copytree(self.top / f"{drive}.drive", self.media)
        async with self.site() as site:
            await work(site, Adopt)
            yield site


async def work(site, task):
    await task(site).run_pass(plenty_of_time())


async def confirm(site):
    async with site.catalog.begin() as tx:
        peer = await tx.peers.get(NERSC)
        files = await tx.files.named([FileName("one"), FileName("later")])
        told = [Attestation(file_id=file.id, store="tape", is_held=True, seq=file.id) for file in files.values()]
        await tx.remote_instances.attest(peer.id, told, epoch=1)
        for state in (DriveState.RECEIVED, DriveState.CONFIRMED):
            assert await tx.drives.advance((await tx.drives.get(A07)).id, to=state, who="nersc")


@pytest.fixture(scope="module")
def journey(tmp_path_factory, databases):
    top = tmp_path_factory.mktemp("journey")
    made = Journey(top, databases.new_sqlite(top / "catalog.sqlite"))
    asyncio.run(made.make())
    return made


async def attempt(action):
    """What stands in the way of *action*; nothing: it was done."""
    try:
        await action
    except LibrarianError as error:
        return error.message
    return ""


async def begin_anew(site, *, lose):
    """As somebody would who believes the catalog: all that this knows of is given up; what then refuses to be wiped."""
    if (await drive_of(site)).state is DriveState.SEALING:
        await releasing.lose(site, A07, who="ana")
        await work(site, Clear)
    async with site.catalog.read() as tx:
        stakes = await releasing.stakes_of(tx, await tx.drives.get(A07))
    await attempt(releasing.release(site, A07, lose=stakes.unconfirmed_files, who="ana"))
    await work(site, Clear)
    refusal = await attempt(releasing.reuse(site, A07, lose=lose, who="ana"))
    await work(site, Wipe)
    return refusal


def names_on(media):
    return {path.name for path in media.iterdir() if not path.name.startswith(".")}


LATER_ROUND, UNKNOWN = "knows of round 1", "does not know"
#: The backup; the drive; what is told when it is plugged in; what then keeps it from being wiped, and how many files.
MATRIX = [
    ("loading", "loaded", "", "of 2 files on the drive 'A07' no other copy is known", 2),
    ("loading", "wiped", LATER_ROUND, "", 0),
    ("loaded", "loaded again", LATER_ROUND, "(two)", 1),
    ("loaded", "sealed again", LATER_ROUND, UNKNOWN, 1),
    ("sealing", "sealed", "", "", 0),
    ("sealing", "loaded again", LATER_ROUND, "(two)", 1),
    ("released", "loaded again", LATER_ROUND, "(two)", 1),
    ("wiping", "wiped", "", "", 0),
    ("wiping", "loaded again", "", "(two)", 1),
    ("wiping", "sealed again", "", UNKNOWN, 1),
]


@pytest.mark.parametrize(("backup", "drive", "told", "refusal", "files"), MATRIX)
async def test_what_the_catalog_has_forgotten_is_wiped_by_its_number_alone(
    journey, backup, drive, told, refusal, files
):
    async with journey.restored(backup, drive) as site:
        await look_for_drives(site)
        async with site.catalog.begin() as tx:
            alerts = {alert.cause: alert.message for alert in await tx.alerts.open_ones()}
            await tx.site.acknowledge_restored()
        await attempt(seal(site))
        await look_for_drives(site)

        refused = await begin_anew(site, lose=0)
        left = names_on(journey.media)
        # As the refusal says of a manifest that is not known.
        (journey.media / manifest.NAME).unlink(missing_ok=True)
        if files:
            assert await begin_anew(site, lose=files) == ""

        assert told in alerts.pop("drive-unusable:A07", "")
        assert list(alerts) == ["site:restored"]
        assert refusal in refused
        assert left == ({*FIRST, *LATER} if files == 2 else {*SECOND} if files else set())
        after = await drive_of(site)
        assert (after.state, after.files, after.round) == (DriveState.LOADING, 0, 3 if "again" in drive else 2)
        assert names_on(journey.media) == set()


async def test_an_operator_names_the_place_of_a_drive_and_gives_up_what_the_catalog_has_forgotten(journey):
    async with journey.restored("released", "loaded again") as site, served(site) as live:
        await create_account(site, "admin", Role.ADMIN)
        async with site.catalog.begin() as tx:
            await tx.site.acknowledge_restored()

        attached = await live.call("POST", "/api/v1/drives/A07/attach", body={"path": str(journey.media)})
        refused = await live.call("POST", "/api/v1/drives/A07/reuse", body={"dry_run": True})
        begun = await live.call("POST", "/api/v1/drives/A07/reuse", body={"lose": 1})

        assert (attached.status, attached.json["is_plugged"]) == (200, True)
        assert (refused.status, refused.json["details"]) == (409, {"unknown_files": 1})
        assert (begun.status, begun.json["state"], begun.json["round"]) == (200, "wiping", 2)


async def test_an_empty_drive_that_is_rounds_ahead_of_the_backup_is_loaded_again(journey):
    async with journey.restored("released", "wiped") as site:
        root = os.open(journey.media, os.O_RDONLY)
        identity.write(root, replace(identity.read(root, A07), round=3))
        await look_for_drives(site)
        async with site.catalog.begin() as tx:
            await tx.site.acknowledge_restored()

        assert await begin_anew(site, lose=0) == ""

        after = await drive_of(site)
        assert (after.state, after.round, identity.read(root, A07).round) == (DriveState.LOADING, 3, 3)
        os.close(root)


async def test_a_drive_that_the_catalog_never_knew_is_left_alone(journey):
    async with journey.restored("unknown", "loaded") as site:
        with pytest.raises(Conflict, match="has forgotten"):
            await make_drive(site, journey.media, is_folder=True)

        assert (journey.media / "one").read_bytes() == FIRST["one"]
