"""A site that loads a drive, each on a disk of its own; made once, and copied for every test."""

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from librarian import manifest
from librarian.checksum import Algorithm, measure_blocking
from librarian.inspecting import Inspection
from tests.crash.harness import CrashSite, Disk, all_gone, drives_gone, free_port, until

NAME = "A07"
PEER = "nersc"
RULE = f'\n[[rules]]\nname = "carried"\npeer = "{PEER}"\nstores = ["A*"]\n'
KILL, POWER = "kill", "power"
DRIVE_BYTES = 16 * 1024**2
#: Names and contents; a book is a mapping.
CONTENTS: dict[str, bytes | dict[str, bytes]] = {
    "2026/11/one": os.urandom(300_000),
    "2026/11/book": {"deep/a": os.urandom(1_200_000), "b": b"first light"},
    "top": b"t",
}


@dataclass
class Carrier:
    """A site with the drive A07."""

    site: CrashSite
    drive: Disk

    async def ask(self, what: str, body: dict | None = None) -> bool:
        """Order *what* once; False while that cannot be, as right after a start."""
        status, raw = await self.site.ask("POST", f"/api/v1/drives/{NAME}/{what}", body or {})
        assert status in (0, 200, 503), raw
        return status == 200

    async def init(self) -> bool:
        """Make a drive of what is mounted."""
        body = {"name": NAME, "path": str(self.drive.mounted)}
        status, raw = await self.site.ask("POST", "/api/v1/drives", body)
        assert status in (0, 201, 503), raw
        return status == 201

    async def record(self) -> dict:
        """The drive as the server tells it; empty while there is no answer, or no drive."""
        status, raw = await self.site.ask("GET", f"/api/v1/drives/{NAME}")
        return json.loads(raw)["drive"] if status == 200 else {}

    async def comes_to(self, **wanted: object) -> dict:
        """Wait until the drive is as *wanted*."""

        async def is_so() -> dict | None:
            found = await self.record()
            return found if found and all(found[key] == value for key, value in wanted.items()) else None

        return await until(is_so)

    async def seal(self) -> dict:
        """Order it until it is taken, and wait for the end."""

        async def is_taken() -> bool:
            return await self.ask("seal", {"to": PEER})

        await until(is_taken)
        return await self.comes_to(state="sealed")

    async def begin_anew(self) -> dict:
        """Give up what is on the sealed drive, have it wiped, and loaded with the same in its next round."""

        async def has_begun() -> bool:
            drive = await self.record()
            if drive and drive["state"] == "sealed":
                await self.ask("release", {"lose": len(CONTENTS)})
            elif drive and (drive["state"], drive["files"]) == ("released", 0):
                await self.ask("reuse")
            return bool(drive) and drive["round"] == 2

        await until(has_begun)
        return await self.comes_to(files=len(CONTENTS))

    def lose_server(self, loss: str) -> None:
        self.site.cut_power(self.drive) if loss == "power" else self.site.kill()

    async def outgoing(self) -> dict[str, str]:
        """The states of all transfers to the peer, by their UUIDs."""
        page = await self.site.call("GET", "/api/v1/transfers?way=out&limit=1000")
        return {each["uuid"]: each["state"] for each in page["transfers"]}

    async def assert_sealed(self, *, round_: int = 1) -> manifest.ManifestFile:
        """What stands on the drive proves itself without any server, and is what the catalog says."""
        root = self.drive.mounted
        status, exported = await self.site.ask("GET", f"/api/v1/drives/{NAME}/manifest")
        assert (status, exported) == (200, (root / manifest.NAME).read_bytes())
        found = manifest.open_manifest(root / manifest.NAME)
        inspection = Inspection(root, found, on_bytes=lambda _: None, on_file=lambda: None)
        assert await asyncio.to_thread(lambda: list(inspection.flaws())) == []
        assert inspection.is_the_drive()
        assert (found.head.to, found.head.round) == (PEER, round_)
        entries = list(found.entries())
        assert sorted(entry.name for entry in entries) == sorted(CONTENTS)
        outgoing = await self.outgoing()
        waiting = {uuid for uuid, state in outgoing.items() if state == "ongoing"}
        assert waiting == {entry.uuid for entry in entries}
        return found

    async def assert_loaded(self) -> None:
        """Every file is on the drive, whole, and nothing else is."""
        root = self.drive.mounted
        tops = {name.split("/")[0] for name in CONTENTS}
        assert {each.name for each in root.iterdir()} - {"lost+found"} == tops | {
            ".librarian-store",
            ".librarian-staging",
        }
        assert [each.name for each in (root / ".librarian-staging").iterdir() if each.name[0] != "."] == []
        async with self.site.client() as client:
            for name in CONTENTS:
                described = await client.describe(name)
                assert {each.store for each in described.instances if each.presence == "present"} == {"main", NAME}
                measured = await asyncio.to_thread(measure_blocking, root / name, Algorithm.XXH3)
                assert measured.checksum == described.checksum


async def with_losses(carrier, loss, steps, order):
    """Lose the server at each of *steps* of what is ordered, by somebody who goes on asking; then let it go on."""
    fifo = carrier.site.start(stop_at=steps[0])
    ordering = asyncio.create_task(order())
    for step, next_step in zip(steps, (*steps[1:], ""), strict=True):
        assert await carrier.site.stopped(fifo) == step
        carrier.site.cut_power(carrier.drive) if loss is POWER else carrier.site.kill()
        fifo = carrier.site.start(stop_at=next_step)
    return await ordering


@dataclass(frozen=True)
class Stage:
    """A site's folder and its drive's image, as they were after some steps."""

    folder: Path
    image: Path


def _keep(carrier: Carrier, where: Path) -> Stage:
    carrier.site.kill()
    carrier.drive.unmount()
    where.mkdir()
    shutil.copytree(carrier.site.folder, where / "folder", symlinks=True, ignore=shutil.ignore_patterns("admin.sock"))
    stage = Stage(where / "folder", carrier.drive.copy_to(where / "drive.img"))
    carrier.drive.mount()
    carrier.site.start()
    return stage


@pytest.fixture(scope="session")
def stages(prepared, tmp_path_factory) -> dict[str, Stage]:
    """A site with files and an empty disk; with a loaded drive; with a sealed one."""
    top = tmp_path_factory.mktemp("stages")
    site, peer = (CrashSite(name, top / name, free_port(), top) for name in ("chajnantor", PEER))
    site.rules = RULE
    for each in (site, peer):
        shutil.copytree(prepared[each.name], each.folder)
        each.configure()
    carrier = Carrier(site, Disk.make(top / "drive.img", top / "media", size=DRIVE_BYTES))

    async def make() -> dict[str, Stage]:
        site.start()
        peer.start()
        await asyncio.gather(site.ready(), peer.ready())
        await site.knows(peer)
        # From now on the two are cut off from each other.
        peer.kill()
        await upload(site, top / "sources")
        made = {"new": _keep(carrier, top / "new")}
        await until(carrier.init)
        await carrier.comes_to(files=len(CONTENTS))
        made["loaded"] = _keep(carrier, top / "loaded")
        await carrier.seal()
        return made | {"sealed": _keep(carrier, top / "sealed")}

    with all_gone(site, peer), drives_gone(carrier.drive):
        return asyncio.run(make())


async def upload(site: CrashSite, sources: Path) -> None:
    async with site.client() as client:
        for name, content in CONTENTS.items():
            source = sources / name
            parts = {"": content} if isinstance(content, bytes) else content
            for member, part in parts.items():
                place = source / member if member else source
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(part)
            await client.upload(source, name)


@pytest.fixture
def new_carrier(stages, new_site, tmp_path) -> Iterator[Callable[..., Carrier]]:
    """Makes a site as it was at a stage, on a disk of its own when asked; its server is not running."""
    with ExitStack() as stack:

        def make(stage: str, *, has_disk: bool = False) -> Carrier:
            kept = stages[stage]
            drive = Disk(tmp_path / "drive.img", tmp_path / "media")
            shutil.copyfile(kept.image, drive.image)
            drive.mount()
            stack.enter_context(drives_gone(drive))
            return Carrier(new_site("chajnantor", has_disk=has_disk, rules=RULE, made_of=kept.folder), drive)

        yield make
