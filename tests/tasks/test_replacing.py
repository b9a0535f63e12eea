"""A good payload takes the place of a copy that is known to be corrupt, and of nothing else."""

import uuid

from librarian.catalog.suspects import Finding
from librarian.names import FileName
from librarian.states import Presence, TransferState
from librarian.timing import utc_now
from tests.holding import hold
from tests.uploading import alerts_of, copies_of, file_called, ingest, staged_clone, story_of

GOOD = b"truth"
BAD = b"liess"


async def has_bad_bytes(site, presence):
    """The site holds 'a'; other bytes stand there now, and the catalog says that the copy is *presence*."""
    await hold(site, "a", GOOD)
    place = site.stores.lookup("fast").path_of(FileName("a"))
    place.write_bytes(BAD)
    file = await file_called(site, "a")
    async with site.catalog.begin() as tx:
        await tx.suspects.mark([file.id])
        (suspect,) = await tx.suspects.page(after=(0, 0), stores=["fast"], limit=1)
        await tx.suspects.decide([Finding(suspect=suspect, presence=presence, at=utc_now())])
    return place


async def arrival(site):
    async with site.catalog.read() as tx:
        return await tx.offers.newest(FileName("a"))


async def test_a_corrupt_copy_is_replaced_and_kept_aside(site):
    place = await has_bad_bytes(site, Presence.CORRUPT)
    await staged_clone(site, "a", GOOD, uuid=str(uuid.uuid4()))

    await ingest(site)

    (kept,) = (site.stores.lookup("fast").staging / ".quarantine").iterdir()
    assert (place.read_bytes(), kept.read_bytes()) == (GOOD, BAD)
    assert [copy.presence for copy in await copies_of(site, "a")] == [Presence.PRESENT]
    assert await story_of(site, "a") == ["ingested", "copy ingested", "corrupt copy set aside"]
    assert await alerts_of(site) == ["copy-lost:fast:a"]


async def test_strange_bytes_under_the_name_of_a_missing_copy_stay(site):
    place = await has_bad_bytes(site, Presence.MISSING)
    await staged_clone(site, "a", GOOD, uuid=str(uuid.uuid4()))

    await ingest(site)

    assert place.read_bytes() == BAD
    assert ((await arrival(site)).state, (await arrival(site)).code) == (TransferState.FAILED, "name_taken_on_disk")


async def test_an_arrival_waits_while_what_stands_there_is_a_suspect(site):
    place = await has_bad_bytes(site, Presence.SUSPECT)
    await staged_clone(site, "a", GOOD, uuid=str(uuid.uuid4()))

    await ingest(site)

    assert place.read_bytes() == BAD
    assert ((await arrival(site)).state, (await arrival(site)).code) == (TransferState.STAGED, "store_unavailable")


async def test_a_corrupt_copy_stays_while_nothing_good_was_brought(site):
    place = await has_bad_bytes(site, Presence.CORRUPT)
    clone = str(uuid.uuid4())
    await staged_clone(site, "a", GOOD, uuid=clone)
    row = await arrival(site)
    site.stores.lookup("fast").staging_path(row.token).write_bytes(b"other")

    await ingest(site)

    assert place.read_bytes() == BAD
    assert (await arrival(site)).code == "checksum_mismatch"
