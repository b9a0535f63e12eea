"""Files and books that a site holds, put there without an upload: bytes in the store's root, rows in the catalog."""

from datetime import UTC, datetime
from pathlib import Path

from librarian.catalog.files import Listing, NewFile
from librarian.catalog.instances import NewInstance
from librarian.catalog.records import Happening
from librarian.checksum import Algorithm, measure_blocking, pack_members
from librarian.names import FileName, StoreName
from librarian.site import Site
from librarian.states import Kind, VerifiedFrom

TAKEN_IN = datetime(2026, 11, 5, 12, 30, tzinfo=UTC)


def write_payload(path: Path, content: bytes | dict[str, bytes | None]) -> None:
    """Write a file, or a book whose members are *content*; None makes an empty directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    path.mkdir()
    for member, inner in content.items():
        place = path / member
        place.parent.mkdir(parents=True, exist_ok=True)
        if inner is None:
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(inner)


async def hold(site: Site, name: str, content: bytes | dict[str, bytes | None], *, store: str = "fast") -> str:
    """Have *site* hold *content* under *name* on *store*; returns its checksum."""
    file_name, store_name = FileName(name), StoreName(store)
    path = site.stores.lookup(store_name).path_of(file_name)
    write_payload(path, content)
    measured = measure_blocking(path, Algorithm.XXH3)
    async with site.catalog.begin() as tx:
        ids = await tx.files.add(
            [
                NewFile(
                    name=file_name,
                    kind=measured.kind,
                    size=measured.size,
                    checksum=measured.checksum,
                    uploader="ana",
                    origin=site.name,
                    created_at=TAKEN_IN,
                )
            ]
        )
        file_id = ids[file_name]
        await tx.instances.add(
            [NewInstance(file_id=file_id, store=store_name, verified_at=TAKEN_IN, verified_from=VerifiedFrom.CACHE)]
        )
        if measured.kind is Kind.BOOK:
            await tx.files.add_listings(
                [Listing(file_id=file_id, count=len(measured.members), packed=pack_members(measured.members))]
            )
        await tx.events.tell([Happening(subject=name, what="ingested", who="ana", why="it was uploaded")])
    return measured.checksum
