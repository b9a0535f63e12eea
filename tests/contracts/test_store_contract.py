"""What every store promises, kept by a store of each kind."""

import os
import socket
import stat
from datetime import timedelta

import pytest

from librarian.checksum import Algorithm, Checksum, Hasher
from librarian.errors import Bug, NameNested, NotFound, UnsupportedMember
from librarian.guard import transaction_open
from librarian.names import FileName, MemberPath, Token
from librarian.states import Kind
from librarian.stores.base import BadCopy, Publication, Publishing
from librarian.stores.local import LocalStore
from tests.contracts.conftest import Bench, PowerCut, inspected, publish, stage_book, stage_file


def mode_of(path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def digest_of(content: bytes) -> str:
    hasher = Hasher(Algorithm.XXH3)
    hasher.update(content)
    return hasher.hexdigest()


async def test_a_file_is_published_read_only_under_its_name(store: LocalStore):
    token = await stage_file(store, b"truth")

    answer = await publish(store, token, "2026/11/a.fits")

    assert answer is Publishing.PUBLISHED
    assert store.path_of(FileName("2026/11/a.fits")).read_bytes() == b"truth"
    assert mode_of(store.path_of(FileName("2026/11/a.fits"))) == 0o444


async def test_a_book_is_published_read_only_all_the_way_down(store: LocalStore):
    token = await stage_book(store, a=b"1", sub__b=b"22", sub__deep__c=b"333")

    answer = await publish(store, token, "books/one", Kind.BOOK)

    top = store.path_of(FileName("books/one"))
    assert answer is Publishing.PUBLISHED
    assert (top / "sub" / "deep" / "c").read_bytes() == b"333"
    assert [mode_of(top / part) for part in ("", "sub", "sub/deep")] == [0o555] * 3
    assert [mode_of(top / part) for part in ("a", "sub/b", "sub/deep/c")] == [0o444] * 3


async def test_a_name_that_stands_is_never_replaced(store: LocalStore):
    await publish(store, await stage_file(store, b"first"), "a")
    second = await stage_file(store, b"second")

    answer = await publish(store, second, "a")

    assert answer is Publishing.NAME_TAKEN
    assert store.path_of(FileName("a")).read_bytes() == b"first"
    assert (await inspected(store, second)).path.read_bytes() == b"second"


async def test_a_book_is_never_published_over_a_book(store: LocalStore):
    await publish(store, await stage_book(store, a=b"1"), "book", Kind.BOOK)

    answer = await publish(store, await stage_book(store, b=b"2"), "book", Kind.BOOK)

    assert answer is Publishing.NAME_TAKEN
    assert [entry.name for entry in store.path_of(FileName("book")).iterdir()] == ["a"]


async def test_of_two_payloads_for_one_name_in_one_batch_one_wins(store: LocalStore):
    tokens = [await stage_file(store, content) for content in (b"first", b"second")]
    await store.inspect(tokens)

    answers = await store.publish([Publication(token=t, name=FileName("a"), kind=Kind.FILE) for t in tokens])

    assert answers == [Publishing.PUBLISHED, Publishing.NAME_TAKEN]
    assert store.path_of(FileName("a")).read_bytes() == b"first"


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.BOOK])
async def test_nothing_is_published_into_a_file_or_a_book(store: LocalStore, kind: Kind):
    outer = await stage_file(store) if kind is Kind.FILE else await stage_book(store, a=b"1")
    await publish(store, outer, "outer", kind)

    answer = await publish(store, await stage_file(store), "outer/inner")

    assert isinstance(answer, NameNested)


async def test_a_refused_item_does_not_stop_its_batch(store: LocalStore):
    good, absent = await stage_file(store), Token.mint()
    await store.inspect([good])

    answers = await store.publish(
        [
            Publication(token=absent, name=FileName("absent"), kind=Kind.FILE),
            Publication(token=good, name=FileName("good"), kind=Kind.FILE),
        ]
    )

    assert answers == [Publishing.PAYLOAD_MISSING, Publishing.PUBLISHED]


async def test_publishing_again_says_that_the_name_alone_is_there(store: LocalStore):
    token = await stage_file(store)
    await publish(store, token, "a")

    answer = await publish(store, token, "a")

    assert answer is Publishing.NAME_ONLY


async def test_a_payload_of_the_other_kind_is_refused(store: LocalStore):
    token = await stage_book(store, a=b"1")

    answer = await publish(store, token, "a", Kind.FILE)

    assert isinstance(answer, UnsupportedMember)


async def test_inspecting_tells_kind_size_and_ownership(store: LocalStore):
    file, book = await stage_file(store, b"12345"), await stage_book(store, a=b"1", sub__b=b"22")

    found = [await inspected(store, token) for token in (file, book)]

    assert [(each.kind, each.size, each.members, each.is_ours) for each in found] == [
        (Kind.FILE, 5, 0, True),
        (Kind.BOOK, 3, 2, True),
    ]


async def test_inspecting_again_gives_the_same(store: LocalStore):
    token = await stage_book(store, a=b"1")

    assert await inspected(store, token) == await inspected(store, token)


async def test_inspecting_nothing_says_so(store: LocalStore):
    token = Token.mint()
    await store.stage([token])

    (answer,) = await store.inspect([token])

    assert isinstance(answer, NotFound)


@pytest.mark.parametrize("where", ["", "inside"])
@pytest.mark.parametrize("what", ["symlink", "fifo", "socket"])
async def test_special_files_are_refused(store: LocalStore, what: str, where: str, monkeypatch):
    token = Token.mint()
    await store.stage([token])
    payload = store.staging_path(token)
    if where:
        payload.mkdir()
        payload /= "bad"
    monkeypatch.chdir(payload.parent)
    match what:
        case "symlink":
            payload.symlink_to("/etc/passwd")
        case "fifo":
            os.mkfifo(payload)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(payload.name)

    (answer,) = await store.inspect([token])

    assert isinstance(answer, UnsupportedMember)


async def test_a_member_that_is_not_utf8_is_refused(store: LocalStore):
    token = await stage_book(store, a=b"1")
    (store.staging_path(token) / os.fsdecode(b"\xff")).touch()

    (answer,) = await store.inspect([token])

    assert isinstance(answer, UnsupportedMember)


async def test_staging_again_does_nothing(store: LocalStore):
    token = await stage_file(store, b"truth")

    await store.stage([token])

    assert await store.staged_members(token) == {None: 5}


async def test_clearing_removes_all_that_was_staged(store: LocalStore):
    tokens = [await stage_file(store), await stage_book(store, a=b"1", sub__b=b"2"), Token.mint()]
    await store.inspect(tokens)

    left = await store.clear(tokens)

    assert left == []
    assert not any(store.staging_path(token).parent.exists() for token in tokens)
    assert await store.staged_sizes(tokens) == {}


async def test_clearing_removes_a_book_that_was_made_read_only(store: LocalStore, power_cut_at):
    token = await stage_book(store, a=b"1", sub__b=b"2")
    power_cut_at("first barrier")
    with pytest.raises(PowerCut):
        await publish(store, token, "book", Kind.BOOK)

    assert await store.clear([token]) == []
    assert await store.staged_sizes([token]) == {}


async def test_staged_sizes_count_what_stands(store: LocalStore):
    file, book = await stage_file(store, b"12345"), await stage_book(store, a=b"1", sub__b=b"22")

    assert await store.staged_sizes([file, book, Token.mint()]) == {file: 5, book: 3}


async def test_staged_members_tell_where_to_resume(store: LocalStore):
    token = await stage_book(store, a=b"1", sub__b=b"22")

    assert await store.staged_members(token) == {MemberPath("a"): 1, MemberPath("sub/b"): 2}
    assert await store.staged_members(Token.mint()) == {}


async def test_the_size_of_one_member_tells_where_to_resume_it(store: LocalStore, open_folder):
    file, book = await stage_file(store, b"12345"), await stage_book(store, sub__b=b"22")
    (store.staging_path(book) / "link").symlink_to(open_folder)

    assert await store.staged_size(file, None) == 5
    assert await store.staged_size(book, MemberPath("sub/b")) == 2
    for absent in (None, MemberPath("sub"), MemberPath("sub/c"), MemberPath("no/b")):
        assert await store.staged_size(book, absent) is None
    with pytest.raises(UnsupportedMember):
        await store.staged_size(book, MemberPath("link/store"))


async def test_taking_copies_and_measures_a_file(store: LocalStore):
    token = await stage_file(store, b"truth" * 500_000)

    measured = await store.take(token, Algorithm.XXH3)

    found = await inspected(store, token)
    assert measured.checksum == Checksum.of(Algorithm.XXH3, digest_of(b"truth" * 500_000))
    assert found.is_ours
    assert found.path != store.staging_path(token)
    assert found.path.read_bytes() == b"truth" * 500_000


async def test_taking_copies_and_measures_a_book(store: LocalStore):
    token = await stage_book(store, a=b"1", sub__b=b"22")
    await store.make_book_directories(token, [MemberPath("empty")])

    measured = await store.take(token, Algorithm.XXH3)

    assert {(member.path, member.size, member.hex) for member in measured.members} == {
        ("a", 1, digest_of(b"1")),
        ("sub/b", 2, digest_of(b"22")),
        ("empty", 0, None),
    }
    assert (await inspected(store, token)).size == 3


async def test_a_taken_payload_is_the_one_that_is_published(store: LocalStore):
    token = await stage_file(store, b"truth")
    await store.take(token, Algorithm.XXH3)
    store.staging_path(token).write_bytes(b"other")

    await publish(store, token, "a")

    assert store.path_of(FileName("a")).read_bytes() == b"truth"


async def test_taking_again_starts_over(store: LocalStore):
    token = await stage_book(store, a=b"1")
    await store.take(token, Algorithm.XXH3)
    await store.write_small([(token, MemberPath("b"), b"2")])

    measured = await store.take(token, Algorithm.XXH3)

    assert measured.size == 2


async def test_reading_what_is_published(store: LocalStore):
    await publish(store, await stage_file(store, b"truth"), "dir/a")
    await publish(store, await stage_book(store, sub__b=b"22"), "dir/book", Kind.BOOK)

    with await store.open_published(FileName("dir/a"), None) as file:
        assert file.read() == b"truth"
    with await store.open_published(FileName("dir/book"), MemberPath("sub/b")) as file:
        assert file.read() == b"22"
    assert store.published_member(FileName("dir/a"), None).read_bytes() == b"truth"


async def test_reading_does_not_follow_links_out_of_the_root(store: LocalStore, open_folder):
    (open_folder / "secret").mkdir()
    (open_folder / "secret" / "a").write_bytes(b"secret")
    (store.root / "link").symlink_to(open_folder / "secret")

    for name in (FileName("link"), FileName("link/a")):
        with pytest.raises(UnsupportedMember):
            await store.open_published(name, None)
        with pytest.raises(UnsupportedMember):
            store.published_member(name, None)


async def test_reading_what_is_not_there_says_so(store: LocalStore):
    with pytest.raises(NotFound):
        await store.open_published(FileName("a/b"), None)


async def test_strays_are_set_aside_and_removed_only_when_they_are_old(store: LocalStore):
    known, stray = await stage_file(store), await stage_file(store)

    fresh = await store.survey([known])
    strays = await store.survey([known], older_than=timedelta(0))
    left = await store.quarantine(strays)
    await store.expire_quarantine(timedelta(days=14))
    kept = list((store.staging / ".quarantine").iterdir())
    await store.expire_quarantine(-timedelta(days=1))

    assert fresh == []
    assert [each.place for each in strays] == [stray]
    assert left == []
    assert len(kept) == 1
    assert kept[0].name.endswith(stray)
    assert not list((store.staging / ".quarantine").iterdir())
    assert store.staging_path(known).exists()


async def test_room_is_within_the_limit_and_what_is_held(bench: Bench):
    capacity = await bench.store.capacity()

    assert 0 < capacity.free_bytes <= capacity.total_bytes
    assert capacity.free_inodes > 0
    assert capacity.free_beside(10**18) == capacity.free_bytes


async def test_a_restart_finds_the_same_store(bench: Bench):
    await bench.store.stamp(1)

    again = await bench.restarted()

    assert again.store.problem is None
    assert await again.store.probe() is None
    await again.store.close()


async def test_disk_work_is_refused_inside_a_transaction(store: LocalStore):
    with transaction_open(), pytest.raises(Bug):
        await store.stage([Token.mint()])
    with transaction_open(), pytest.raises(Bug):
        await store.capacity()


async def test_bad_copies_are_set_aside_where_they_do_not_expire_and_free_their_names(store: LocalStore):
    for token, name, kind in (
        (await stage_file(store, b"one"), "a/b", Kind.FILE),
        (await stage_file(store, b"two"), "a-b", Kind.FILE),
        (await stage_book(store, member=b"three"), "book", Kind.BOOK),
    ):
        await publish(store, token, name, kind)
    bad = [BadCopy(name=FileName(name)) for name in ("a/b", "a-b", "book", "nothing")]

    places = await store.set_bad_aside(bad)
    again = await store.set_bad_aside(bad)
    await store.expire_quarantine(-timedelta(days=1))

    assert [(store.staging / place).read_bytes() for place in places[:2]] == [b"one", b"two"]
    assert (store.staging / places[2] / "member").read_bytes() == b"three"
    assert (places[3], again) == ("", [""] * 4)
    assert await publish(store, await stage_file(store, b"new"), "a/b") is Publishing.PUBLISHED
