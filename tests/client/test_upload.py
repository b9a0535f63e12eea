"""Uploading: by both ways, interrupted everywhere, and what bad input gets."""

import asyncio
import os
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from librarian.checksum import Algorithm, measure_blocking
from librarian.client import LibrarianClient, Phase, SomeFailed, Uploaded
from librarian.errors import (
    BadName,
    Forbidden,
    NameHeld,
    NameNested,
    NotFound,
    PeerUnavailable,
    SourceChanged,
    Unauthenticated,
    UnsupportedMember,
)
from librarian.names import StoreName
from librarian.states import Kind
from librarian.wire.uploads import CommitUpload, OpenUpload, Upload
from tests.site_fixtures import password_of

BOOK = {"a/x": b"1" * 3000, "a/y": b"", "b": b"22", "empty/deeper": None, "ü é": b"strange"}


def published(working, name):
    return working.site.stores.lookup(StoreName("fast")).root / name


async def test_a_file_is_verified_and_kept_when_upload_returns(working, either, source):
    path = source(b"content")

    done = await either.upload(path, "2026/a.h5")

    assert (done.name, done.kind, done.size, done.was_held) == ("2026/a.h5", Kind.FILE, 7, False)
    assert done.checksum == measure_blocking(path, Algorithm.XXH3).checksum
    assert published(working, "2026/a.h5").read_bytes() == b"content"


async def test_a_directory_becomes_a_book(working, either, source):
    path = source(BOOK)

    done = await either.upload(path, "2026/book")

    assert done.kind is Kind.BOOK
    assert measure_blocking(published(working, "2026/book"), Algorithm.XXH3) == measure_blocking(path, Algorithm.XXH3)
    assert (published(working, "2026/book") / "empty" / "deeper").is_dir()


@pytest.mark.parametrize("content", [b"", {}, {"only/empty": None}, {"empty file": b""}], ids=repr)
async def test_empty_things_are_kept_too(working, either, source, content):
    path = source(content)

    done = await either.upload(path, "empty thing")

    assert done.checksum == measure_blocking(path, Algorithm.XXH3).checksum


@pytest.mark.parametrize("algorithm", list(Algorithm))
async def test_any_algorithm_may_be_asked_for(either, source, algorithm):
    path = source(BOOK)

    done = await either.upload(path, "book", algorithm=algorithm)

    assert done.checksum == measure_blocking(path, algorithm).checksum


async def test_a_link_to_the_source_is_followed(working, client, source, tmp_path):
    (tmp_path / "link").symlink_to(source(b"content"))

    await client.upload(tmp_path / "link", "a")

    assert published(working, "a").read_bytes() == b"content"


@pytest.mark.parametrize(
    "make", [lambda path: path.symlink_to("b"), lambda path: os.mkfifo(path)], ids=["link", "fifo"]
)
async def test_what_a_book_cannot_hold_is_refused_before_anything_is_sent(working, client, source, make):
    path = source(BOOK)
    make(path / "odd")

    with pytest.raises(UnsupportedMember, match="odd"):
        await client.upload(path, "book")

    assert (await client.page()).files == []


async def test_a_source_that_is_not_there_is_refused(client, tmp_path):
    with pytest.raises(NotFound):
        await client.upload(tmp_path / "absent", "a")


@pytest.mark.parametrize("name", ["../a", "/a", "", "a//b", "a\nb", ".librarian-x"])
async def test_a_bad_name_is_refused(client, source, name):
    with pytest.raises(BadName):
        await client.upload(source(b"x"), name)


async def test_an_equal_file_of_the_name_is_success(either, source):
    path = source(b"content")
    first = await either.upload(path, "a")

    again = await either.upload(path, "a", algorithm=Algorithm.SHA256)

    assert again.was_held
    assert again.checksum == first.checksum


async def test_an_equal_book_of_the_name_is_success(either, source):
    path = source(BOOK)
    await either.upload(path, "book")

    assert (await either.upload(path, "book")).was_held


@pytest.mark.parametrize("content", [b"CONTENT", b"longer content", {"x": b"content"}], ids=repr)
async def test_another_file_of_the_name_is_refused(client, source, content):
    await client.upload(source(b"content"), "a")

    with pytest.raises(NameHeld) as refused:
        await client.upload(source(content), "a")

    assert refused.value.details["size"] == 7


async def test_a_name_inside_a_held_one_is_refused(client, source):
    await client.upload(source(BOOK), "book")

    with pytest.raises(NameNested):
        await client.upload(source(b"x"), "book/inside")


async def test_a_reader_may_not_upload(working, source):
    async with LibrarianClient(working.url, user="reader", password=password_of("reader")) as reader:
        with pytest.raises(Forbidden):
            await reader.upload(source(b"x"), "a")


async def test_a_wrong_password_is_told_at_once(working, source):
    async with LibrarianClient(working.url, user="uploader", password="wrong") as stranger:
        with pytest.raises(Unauthenticated):
            await stranger.upload(source(b"x"), "a")


async def test_progress_ends_with_everything_done(client, source):
    seen = []

    await client.upload(source(BOOK), "book", progress=seen.append)

    assert seen[-1].phase is Phase.DONE
    assert seen[-1].done_bytes == seen[-1].total_bytes == sum(len(content or b"") for content in BOOK.values())
    assert (seen[-1].done_files, seen[-1].total_files) == (1, 1)


async def test_a_connection_that_breaks_is_resumed(working, proxy, far_client, source, some_bytes):
    path = source(some_bytes(8 * 1024**2))
    proxy.cut_after_upload(3 * 1024**2)

    await far_client.upload(path, "large")

    assert published(working, "large").read_bytes() == path.read_bytes()
    assert proxy.bytes_up < 8 * 1024**2 + 3 * 1024**2


@pytest.mark.parametrize("before", range(4))
async def test_any_answer_may_be_lost(working, proxy, far_client, source, before):
    path = source(b"content" * 1000)
    proxy.lose_answer(after=before)

    await far_client.upload(path, "a")

    assert proxy.answers > 4
    assert published(working, "a").read_bytes() == path.read_bytes()


async def test_a_librarian_that_is_away_is_waited_for(proxy, far_client, source):
    proxy.go_down()
    asyncio.get_running_loop().call_later(0.2, proxy.come_up)

    done = await far_client.upload(source(b"content"), "a")

    assert done.size == 7


async def test_a_librarian_that_stays_away_is_told_with_its_address(proxy, source):
    proxy.go_down()
    async with LibrarianClient(proxy.url, patience=timedelta(0)) as client:
        with pytest.raises(PeerUnavailable, match="cannot reach"):
            await client.upload(source(b"x"), "a")


async def an_interrupted_upload(client, path, name, count):
    """Open an upload of *path*, and leave it with its first *count* bytes in staging."""
    opened = await client.request(
        "POST", "/uploads", body=OpenUpload(name=name, size=path.stat().st_size), answer=Upload
    )
    Path(opened.staging_path).write_bytes(path.read_bytes()[:count])
    return opened


async def test_an_upload_goes_on_where_a_killed_client_left_it(working, proxy, client, far_client, source, some_bytes):
    path = source(some_bytes(4 * 1024**2))
    await an_interrupted_upload(client, path, "large", 3 * 1024**2)

    await far_client.upload(path, "large")

    assert proxy.bytes_up < 2 * 1024**2
    assert published(working, "large").read_bytes() == path.read_bytes()


async def test_an_upload_goes_on_in_staging_where_a_killed_client_left_it(working, client, source, some_bytes):
    path = source(some_bytes(4 * 1024**2))
    opened = await an_interrupted_upload(client, path, "large", 3 * 1024**2)
    inode = Path(opened.staging_path).stat().st_ino

    await client.upload(path, "large")

    assert published(working, "large").stat().st_ino == inode
    assert published(working, "large").read_bytes() == path.read_bytes()


async def test_what_an_interrupted_upload_of_another_source_left_does_no_harm(working, either, client, source):
    await an_interrupted_upload(client, source(b"other content"), "a", 5)
    path = source(b"right content")

    await either.upload(path, "a")

    assert published(working, "a").read_bytes() == b"right content"


async def test_an_upload_that_the_librarian_has_forgotten_is_begun_afresh(
    working, far_client, proxy, source, some_bytes
):
    path = source(some_bytes(4 * 1024**2))
    proxy.freeze_after_upload(2 * 1024**2)
    uploading = asyncio.create_task(far_client.upload(path, "a"))
    await proxy.frozen()

    # As a catalog does that came back from a backup.
    async with working.site.catalog.begin() as tx:
        await tx._connection.execute(text("DELETE FROM incoming_transfers"))
    proxy.thaw()
    await uploading

    assert published(working, "a").read_bytes() == path.read_bytes()


async def test_an_upload_that_was_committed_before_the_client_died_is_waited_for(working, client, source):
    path = source(b"content")
    opened = await an_interrupted_upload(client, path, "a", 7)
    checksum = measure_blocking(path, Algorithm.XXH3).checksum
    await client.request("POST", f"/uploads/{opened.id}/commit", body=CommitUpload(checksum=checksum), answer=Upload)

    done = await client.upload(path, "a")

    assert done.checksum == checksum


async def test_a_file_that_is_written_after_it_was_looked_at_is_refused(working, either, source):
    path = source(b"content")

    def write(progress):
        path.write_bytes(b"CONTENT")

    with pytest.raises(SourceChanged):
        await either.upload(path, "a", progress=write)

    assert not published(working, "a").exists()


async def test_a_member_that_is_added_while_a_book_is_uploaded_is_refused(working, either, source):
    path = source(BOOK)

    def add(progress):
        (path / "late").write_bytes(b"x")

    with pytest.raises(SourceChanged, match="late"):
        await either.upload(path, "book", progress=add)

    assert not published(working, "book").exists()


async def test_a_source_that_stands_still_again_can_be_uploaded(working, client, source, some_bytes):
    path = source(some_bytes(2 * 1024**2))

    def shrink(progress):
        path.write_bytes(b"short")

    with pytest.raises(SourceChanged):
        await client.upload(path, "a", progress=shrink)

    assert (await client.upload(path, "b")).size == 5


async def test_a_cancelled_upload_stops_and_can_be_repeated(working, far_client, proxy, source, some_bytes):
    path = source(some_bytes(4 * 1024**2))
    await far_client.ping()
    proxy.freeze()
    uploading = asyncio.create_task(far_client.upload(path, "a"))
    await asyncio.sleep(0)
    uploading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    proxy.thaw()

    await far_client.upload(path, "a")

    assert published(working, "a").read_bytes() == path.read_bytes()


async def test_a_large_upload_flows_through_little_memory(working, far_client, source):
    size = 64 * 1024**2
    path = source(b"")
    os.truncate(path, size)
    tracemalloc.start()

    await far_client.upload(path, "large")

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * 1024**2


async def test_many_files_are_all_verified_when_upload_many_returns(working, either, source):
    items = [(source(f"content {number}".encode()), f"many/{number}") for number in range(30)]

    done = await either.upload_many(items)

    assert [each.name for each in done] == [name for _, name in items]
    assert [published(working, name).read_bytes() for _, name in items] == [path.read_bytes() for path, _ in items]


async def test_many_may_mix_files_and_books_small_and_large(working, client, source, some_bytes):
    items = [
        (source(b"x"), "a"),
        (source(BOOK), "book"),
        (source(b""), "empty"),
        (source(some_bytes(40 * 1024**2)), "l"),
    ]

    done = await client.upload_many(items)

    assert [each.checksum for each in done] == [measure_blocking(path, Algorithm.XXH3).checksum for path, _ in items]


async def test_of_many_each_failure_is_told_and_the_others_are_kept(working, client, source, tmp_path):
    await client.upload(source(b"first"), "held")
    items = [
        (source(b"good"), "good"),
        (source(b"other"), "held"),
        (tmp_path / "absent", "absent"),
        (source(b"first"), "nested/a"),
        (source(b"first"), "nested/a/b"),
    ]

    with pytest.raises(SomeFailed) as failed:
        await client.upload_many(items)

    kinds = [type(outcome) for outcome in failed.value.outcomes]
    assert kinds == [Uploaded, NameHeld, NotFound, Uploaded, NameNested]
    assert failed.value.exit_code == 2
    assert published(working, "good").read_bytes() == b"good"


async def test_a_repeat_of_many_sends_nothing_again(working, client, source):
    items = [(source(f"content {number}".encode()), f"many/{number}") for number in range(5)]
    await client.upload_many(items)

    again = await client.upload_many(items)

    assert all(each.was_held for each in again)


async def test_no_files_are_many_too(client):
    assert await client.upload_many([]) == []
