"""What every store promises about bytes that come through the server."""

import os
from collections.abc import AsyncIterator

import pytest

from librarian.errors import NotFound, RangeUnsatisfiable, TooLarge, UnsupportedMember
from librarian.names import MemberPath, Token
from librarian.stores.local import LocalStore
from tests.contracts.conftest import inspected, stage_book, stage_file


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_a_stream_is_written_whole(store: LocalStore):
    token = Token.mint()
    await store.stage([token])
    chunks = [bytes([number]) * 100_000 for number in range(50)]

    size = await store.write(token, None, pieces(*chunks), offset=0, limit=5_000_000)

    assert size == 5_000_000
    assert store.staging_path(token).read_bytes() == b"".join(chunks)


async def test_a_stream_of_very_many_pieces_is_written_whole(store: LocalStore):
    token = Token.mint()
    await store.stage([token])

    await store.write(token, None, pieces(*[b"12"] * 3000), offset=0, limit=6000)

    assert store.staging_path(token).read_bytes() == b"12" * 3000


async def test_an_empty_stream_makes_an_empty_file(store: LocalStore):
    token = Token.mint()
    await store.stage([token])

    assert await store.write(token, None, pieces(), offset=0, limit=0) == 0
    assert (await inspected(store, token)).size == 0


async def test_writing_resumes_at_an_offset_and_cuts_off_what_was_behind(store: LocalStore):
    token = await stage_file(store, b"0123456789")

    size = await store.write(token, None, pieces(b"abc"), offset=4, limit=10)

    assert size == 7
    assert store.staging_path(token).read_bytes() == b"0123abc"


@pytest.mark.parametrize("content", [b"", b"01"])
async def test_writing_beyond_the_end_is_refused(store: LocalStore, content: bytes):
    token = await stage_file(store, content)

    with pytest.raises(RangeUnsatisfiable) as refusal:
        await store.write(token, None, pieces(b"abc"), offset=4, limit=10)

    assert refusal.value.details["size"] == len(content)


async def test_a_body_that_is_too_large_is_refused(store: LocalStore):
    token = Token.mint()
    await store.stage([token])

    with pytest.raises(TooLarge):
        await store.write(token, None, pieces(b"0" * 2_000_000, b"1" * 2_000_000), offset=0, limit=3_000_000)


async def test_what_arrived_of_a_broken_stream_is_kept(store: LocalStore):
    token = Token.mint()
    await store.stage([token])

    async def broken() -> AsyncIterator[bytes]:
        yield b"0" * 2_500_000
        yield b"1" * 10
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.write(token, None, broken(), offset=0, limit=3_000_000)

    assert await store.staged_members(token) == {None: 2_500_010}


async def test_a_member_is_written_into_its_book(store: LocalStore):
    token = Token.mint()
    await store.stage([token])

    await store.write(token, MemberPath("deep/er/m"), pieces(b"1", b"2"), offset=0, limit=2)

    assert (store.staging_path(token) / "deep" / "er" / "m").read_bytes() == b"12"


async def test_writing_without_staging_is_refused(store: LocalStore):
    with pytest.raises(NotFound):
        await store.write(Token.mint(), None, pieces(b"1"), offset=0, limit=1)


async def test_a_member_is_not_written_through_a_link(store: LocalStore, open_folder):
    token = await stage_book(store, a=b"1")
    (store.staging_path(token) / "sub").symlink_to(open_folder)

    with pytest.raises(UnsupportedMember):
        await store.write(token, MemberPath("sub/b"), pieces(b"1"), offset=0, limit=1)
    (answer,) = await store.write_small([(token, MemberPath("sub/b"), b"1")])

    assert isinstance(answer, UnsupportedMember)
    assert not (open_folder / "b").exists()


async def test_a_fifo_in_the_way_is_refused_and_closes_no_store(store: LocalStore):
    token = Token.mint()
    await store.stage([token])
    os.mkfifo(store.staging_path(token))

    (answer,) = await store.write_small([(token, None, b"1")])

    assert isinstance(answer, UnsupportedMember)
    assert store.problem is None


async def test_small_payloads_are_written_in_one_trip_with_an_answer_each(store: LocalStore):
    token, absent = Token.mint(), Token.mint()
    await store.stage([token])

    answers = await store.write_small([(token, None, b"long before"), (absent, None, b"1"), (token, None, b"short")])

    assert [type(answer) for answer in answers] == [type(None), NotFound, type(None)]
    assert store.staging_path(token).read_bytes() == b"short"


async def test_empty_directories_of_a_book_are_made(store: LocalStore):
    token = Token.mint()
    await store.stage([token])

    await store.make_book_directories(token, [MemberPath("empty/deep")])
    await store.make_book_directories(token, [MemberPath("empty/deep")])

    assert (store.staging_path(token) / "empty" / "deep").is_dir()
