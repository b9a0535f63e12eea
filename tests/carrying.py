"""Drives with something on them: files that stand on the disk and in the catalog, as loading leaves them."""

from collections.abc import Mapping
from pathlib import Path

from librarian import drives, sealing
from librarian.catalog.drives import DriveRecord
from librarian.catalog.files import Listing, NewFile
from librarian.catalog.instances import NewInstance
from librarian.checksum import Algorithm, measure_blocking, pack_members
from librarian.names import FileName, SiteName, StoreName
from librarian.site import Site
from librarian.states import Kind, Reach, VerifiedFrom
from librarian.tasks.plug import Plug
from librarian.tasks.seal import Seal
from librarian.timing import plenty_of_time, utc_now

A07 = StoreName("A07")
NERSC = SiteName("nersc")
CONTENTS = {
    "2026/11/one": b"first light",
    "2026/11/book": {"deep/a": b"a" * 1000, "deep/b": b"", "c": b"ccc"},
    "top": b"t",
}


async def make_drive(site: Site, path: Path, name: StoreName = A07, *, is_folder: bool = False) -> tuple[str, ...]:
    path.mkdir(exist_ok=True)
    return await drives.initiate(site, drives.Wanted(name=name, path=path, full_at=980, is_folder=is_folder, who="ana"))


async def add_peer(site: Site, name: SiteName = NERSC) -> None:
    async with site.catalog.begin() as tx:
        await tx.peers.add(
            name,
            url="http://127.0.0.1:9",
            username=site.name,
            secret=site.neighbours.secrets.encrypt("secret"),
            reach=Reach.PUSH,
            accepts=[""],
            entry_points=[],
        )


def write(path: Path, content: bytes | Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    for member, part in content.items():
        (path / member).parent.mkdir(parents=True, exist_ok=True)
        (path / member).write_bytes(part)


async def lay(
    site: Site,
    root: Path,
    contents: Mapping[str, bytes | Mapping[str, bytes]] = CONTENTS,
    *,
    store: StoreName = A07,
    is_known: bool = False,
) -> None:
    """Have *contents* on *store* at *root*; *is_known*: the site has these files elsewhere already."""
    found = {}
    for name, content in contents.items():
        write(root / name, content)
        found[name] = measure_blocking(root / name, Algorithm.XXH3)
    async with site.catalog.begin() as tx:
        new = await tx.files.add(
            [
                NewFile(
                    name=FileName(name),
                    kind=each.kind,
                    size=each.size,
                    checksum=each.checksum,
                    uploader="ana",
                    origin=site.name,
                    created_at=utc_now(),
                )
                for name, each in found.items()
            ]
        )
        ids = new | {file.name: file.id for file in (await tx.files.named([FileName(name) for name in found])).values()}
        await tx.files.add_listings(
            [
                Listing(file_id=ids[FileName(name)], count=len(each.members), packed=pack_members(each.members))
                for name, each in found.items()
                if each.kind is Kind.BOOK
            ]
        )
        await tx.instances.add(
            [
                NewInstance(
                    file_id=ids[FileName(name)], store=store, verified_at=utc_now(), verified_from=VerifiedFrom.MEDIUM
                )
                for name in found
            ]
        )
        size = sum(each.size for each in found.values())
        await tx.tallies.add(f"store:{store}", files=len(found), bytes=size)
        if not is_known:
            await tx.tallies.add("held", files=len(found), bytes=size)


async def look_for_drives(site: Site) -> None:
    await Plug(site).run_pass(plenty_of_time())


async def seal(site: Site, *, to: SiteName = NERSC, name: StoreName = A07) -> None:
    """Order it, and let the task do it."""
    await sealing.begin(site, name, peer=to, who="ana", is_unasked=True)
    await go_on_sealing(site)


async def go_on_sealing(site: Site) -> None:
    await Seal(site).run_pass(plenty_of_time())


async def drive_of(site: Site, name: StoreName = A07) -> DriveRecord:
    async with site.catalog.read() as tx:
        return await tx.drives.get(name)


async def manifest_of(site: Site, name: StoreName = A07):
    async with site.catalog.read() as tx:
        return await tx.manifests.of(await tx.drives.get(name))


async def outgoing_of(site: Site):
    async with site.catalog.read() as tx:
        return await tx.outgoing.page(before=None, peer=None, states=(), limit=1000)
