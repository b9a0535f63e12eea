"""Payloads that are strange and sound: huge books, holes, links, the longest names, nothing at all."""

import os

import pytest

from librarian import intake
from librarian.catalog.incoming_rows import Commit
from librarian.checksum import Algorithm, measure_blocking
from librarian.errors import BadName
from librarian.names import FileName
from librarian.states import Kind, TransferState
from tests.disks import site_on
from tests.uploading import (
    ANA,
    asking,
    checksum_of,
    committed,
    file_called,
    folder_of,
    ingest,
    now_of,
    open_one,
    payload_of,
    state_of,
    tally_of,
)

LONGEST_PART = "ü" * 127 + "x"
#: 1,024 bytes, with parts of 255.
LONGEST_NAME = "/".join([LONGEST_PART] * 4)
LONGEST_MEMBER = "/".join(["m" * 255] * 8)


@pytest.fixture
async def one_site(sqlite_url, tmp_path):
    """A site on one kind of database, for what is about disks alone."""
    async with site_on(tmp_path / "disk", tmp_path / "state", sqlite_url) as site:
        yield site


async def commit_what_was_brought(site, upload) -> None:
    measured = measure_blocking(payload_of(site, upload), Algorithm.XXH3)
    await intake.commit_uploads(site, ANA, [Commit(uuid=upload.uuid, checksum=measured.checksum)])


async def test_a_book_of_a_hundred_thousand_members_is_kept_with_its_listing(one_site):
    upload = await open_one(one_site, "book", {"none": b""}, size=0)
    top = payload_of(one_site, upload)
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for folder in range(100):
        os.mkdir(f"{folder}", dir_fd=fd)
        for member in range(1000):
            os.mknod(f"{folder}/{member}", dir_fd=fd)
    os.close(fd)
    await commit_what_was_brought(one_site, upload)

    await ingest(one_site)

    assert await state_of(one_site, upload) is TransferState.COMPLETED
    file = await file_called(one_site, "book")
    async with one_site.catalog.read() as tx:
        assert (await tx.files.listing_of(file.id)).count == 100_000


async def test_a_sparse_file_is_kept_with_its_whole_size(one_site):
    size = 256 * 1024**2
    upload = await open_one(one_site, "sparse", size=size)
    with payload_of(one_site, upload).open("wb") as file:
        file.truncate(size)
        file.seek(size // 2)
        file.write(b"island")
    await commit_what_was_brought(one_site, upload)

    await ingest(one_site)

    assert await state_of(one_site, upload) is TransferState.COMPLETED
    assert one_site.stores.lookup("fast").path_of("sparse").stat().st_size == size
    assert await tally_of(one_site, "held") == (1, size)


async def test_links_within_a_book_become_members_of_their_own(one_site):
    book = {"a": b"truth", "b": b"truth"}
    upload = await open_one(one_site, "book", book)
    top = payload_of(one_site, upload)
    top.mkdir()
    (top / "a").write_bytes(b"truth")
    os.link(top / "a", top / "b")
    await intake.commit_uploads(one_site, ANA, [Commit(uuid=upload.uuid, checksum=checksum_of(book))])

    await ingest(one_site)

    published = one_site.stores.lookup("fast").path_of("book")
    assert await state_of(one_site, upload) is TransferState.COMPLETED
    assert [(published / name).stat().st_nlink for name in ("a", "b")] == [1, 1]


async def test_a_link_to_what_is_held_gets_bytes_of_its_own(one_site):
    await committed(one_site, "first", b"truth")
    await ingest(one_site)
    first = one_site.stores.lookup("fast").path_of("first")
    upload = await open_one(one_site, "second", b"truth")
    os.link(first, payload_of(one_site, upload))
    await intake.commit_uploads(one_site, ANA, [Commit(uuid=upload.uuid, checksum=checksum_of(b"truth"))])

    await ingest(one_site)

    assert await state_of(one_site, upload) is TransferState.COMPLETED
    assert first.stat().st_nlink == 1


@pytest.mark.parametrize("name", [LONGEST_NAME, "x" * 255, "/".join("a" * 500), "\U0010ffff/\u202e/ ", "-rf", "~"])
async def test_names_of_any_shape_are_kept(site, name):
    upload = await committed(site, name, b"truth")

    await ingest(site)

    assert await state_of(site, upload) is TransferState.COMPLETED
    assert (await file_called(site, name)).name == name
    assert site.stores.lookup("fast").path_of(FileName(name)).read_bytes() == b"truth"


async def test_one_byte_more_than_the_longest_name_is_no_name(site):
    with pytest.raises(BadName):
        asking(LONGEST_NAME + "x")


async def test_a_book_with_the_longest_members_is_kept(one_site):
    book = {LONGEST_MEMBER[:2040].rstrip("/"): b"truth", "d/" * 200 + "m": b"deep", LONGEST_PART: b""}
    upload = await committed(one_site, "book", book)

    await ingest(one_site)

    assert await state_of(one_site, upload) is TransferState.COMPLETED


async def test_a_book_that_is_too_deep_is_refused_and_cleared(one_site):
    book = {"d/" * 300 + "m": b"deep"}
    upload = await committed(one_site, "book", book)

    await ingest(one_site)

    after = await now_of(one_site, upload)
    assert (after.state, after.code) == (TransferState.FAILED, "unsupported_member")
    assert not folder_of(one_site, upload).exists()


async def test_many_empty_payloads_with_equal_bytes_stay_apart(site):
    empty = {"file": b"", "other": b"", "book": {}, "second": {}, "folders": {"a/b": None}, "zero": {"m": b""}}
    uploads = [await committed(site, name, content) for name, content in empty.items()]

    await ingest(site)

    assert {await state_of(site, upload) for upload in uploads} == {TransferState.COMPLETED}
    assert (await tally_of(site, "held")) == (6, 0)
    assert {(await file_called(site, name)).kind for name in ("book", "second", "folders", "zero")} == {Kind.BOOK}
