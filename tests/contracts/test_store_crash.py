"""The recovery table: whatever a power cut leaves behind, a repeat finishes."""

import os
import stat

import pytest

from librarian.checksum import Algorithm
from librarian.names import FileName, Token
from librarian.states import Kind
from librarian.stores.base import Publication, Publishing
from tests.contracts.conftest import Bench, PowerCut, inspected, publish, stage_book, stage_file

PUBLISHING_STEPS = ("first barrier", "k of n renames", "second barrier")


@pytest.mark.parametrize("step", PUBLISHING_STEPS)
async def test_a_repeat_finishes_a_batch_of_files(bench: Bench, power_cut_at, step: str):
    tokens = [await stage_file(bench.store, str(number).encode()) for number in range(4)]
    items = [Publication(token=t, name=FileName(f"dir/{n}"), kind=Kind.FILE) for n, t in enumerate(tokens)]
    await bench.store.inspect(tokens)
    power_cut_at(step)
    with pytest.raises(PowerCut):
        await bench.store.publish(items)

    again = await bench.restarted()
    await again.store.inspect(tokens)
    answers = await again.store.publish(items)

    assert set(answers) <= {Publishing.PUBLISHED, Publishing.NAME_ONLY}
    assert [(again.store.path_of(item.name)).read_bytes() for item in items] == [b"0", b"1", b"2", b"3"]
    await again.store.close()


@pytest.mark.parametrize("step", PUBLISHING_STEPS)
async def test_a_repeat_finishes_a_book_and_makes_it_read_only(bench: Bench, power_cut_at, step: str):
    token = await stage_book(bench.store, a=b"1", sub__b=b"22")
    power_cut_at(step)
    with pytest.raises(PowerCut):
        await publish(bench.store, token, "dir/book", Kind.BOOK)

    again = await bench.restarted()
    answer = await publish(again.store, token, "dir/book", Kind.BOOK)

    top = again.store.path_of(FileName("dir/book"))
    assert answer in (Publishing.PUBLISHED, Publishing.NAME_ONLY)
    assert (top / "sub" / "b").read_bytes() == b"22"
    assert stat.S_IMODE(top.stat().st_mode) == 0o555
    await again.store.close()


async def test_a_book_cut_off_between_rename_and_mode_ends_read_only(bench: Bench):
    token = await stage_book(bench.store, a=b"1")
    await publish(bench.store, token, "book", Kind.BOOK)
    bench.store.path_of(FileName("book")).chmod(0o755)

    answer = await publish(bench.store, token, "book", Kind.BOOK)

    assert answer is Publishing.NAME_ONLY
    assert stat.S_IMODE(bench.store.path_of(FileName("book")).stat().st_mode) == 0o555


async def test_a_file_cut_off_between_link_and_unlink_is_published(bench: Bench):
    token = await stage_file(bench.store, b"truth")
    staged = await inspected(bench.store, token)
    os.link(staged.path, bench.store.path_of(FileName("a")))

    (answer,) = await bench.store.publish([Publication(token=token, name=FileName("a"), kind=Kind.FILE)])

    assert answer is Publishing.PUBLISHED
    assert not staged.path.exists()
    assert bench.store.path_of(FileName("a")).stat().st_nlink == 1


async def test_an_empty_directory_under_the_name_is_our_own_claim(bench: Bench):
    token = await stage_book(bench.store, a=b"1")
    bench.store.path_of(FileName("book")).mkdir()

    answer = await publish(bench.store, token, "book", Kind.BOOK)

    assert answer is Publishing.PUBLISHED
    assert [entry.name for entry in bench.store.path_of(FileName("book")).iterdir()] == ["a"]


async def test_an_empty_book_beside_an_empty_directory_is_left_to_measuring(bench: Bench):
    token = await stage_book(bench.store)
    bench.store.path_of(FileName("book")).mkdir()

    answer = await publish(bench.store, token, "book", Kind.BOOK)

    assert answer is Publishing.NAME_TAKEN


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.BOOK])
async def test_other_bytes_under_the_name_stay_untouched(bench: Bench, kind: Kind):
    token = await stage_file(bench.store) if kind is Kind.FILE else await stage_book(bench.store, a=b"1")
    bench.store.path_of(FileName("a")).write_bytes(b"other")

    answer = await publish(bench.store, token, "a", kind)

    assert answer is Publishing.NAME_TAKEN
    assert bench.store.path_of(FileName("a")).read_bytes() == b"other"


async def test_neither_payload_nor_name(bench: Bench):
    assert await publish(bench.store, Token.mint(), "a") is Publishing.PAYLOAD_MISSING


async def test_a_repeat_makes_the_staging_of_a_cut_off_batch(bench: Bench, power_cut_at):
    tokens = [Token.mint(), Token.mint()]
    power_cut_at("directory made")
    with pytest.raises(PowerCut):
        await bench.store.stage(tokens)

    await bench.store.stage(tokens)

    assert await bench.store.staged_sizes(tokens) == dict.fromkeys(tokens, 0)


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.BOOK])
async def test_a_copy_that_was_cut_off_starts_over(bench: Bench, power_cut_at, kind: Kind):
    token = await stage_file(bench.store, b"12") if kind is Kind.FILE else await stage_book(bench.store, a=b"1", b=b"2")
    power_cut_at("half copied")
    with pytest.raises(PowerCut):
        await bench.store.take(token, Algorithm.XXH3)

    measured = await bench.store.take(token, Algorithm.XXH3)

    assert measured.size == 2
    assert (await inspected(bench.store, token)).size == 2


async def test_an_upload_that_was_cut_off_resumes_where_it_broke(bench: Bench, power_cut_at):
    token = Token.mint()
    await bench.store.stage([token])

    async def body():
        yield b"0" * 3_000_000
        yield b"1" * 1_000_000

    power_cut_at("half copied")
    with pytest.raises(PowerCut):
        await bench.store.write(token, None, body(), offset=0, limit=4_000_000)

    present = (await bench.store.staged_members(token))[None]

    async def rest():
        yield b"1" * (4_000_000 - present)

    assert await bench.store.write(token, None, rest(), offset=present, limit=4_000_000) == 4_000_000


async def test_what_an_opening_left_that_was_cut_off_is_gone_after_the_next(bench: Bench):
    folders = (bench.spec.root, bench.spec.staging)
    for folder in folders:
        for name in (".librarian-probe-rename", ".librarian-probe-rename-other"):
            (folder / name).touch()

    await bench.restarted()

    assert [list(folder.glob(".librarian-probe-rename*")) for folder in folders] == [[], []]
