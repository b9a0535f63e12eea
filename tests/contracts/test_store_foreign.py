"""Payloads that other users brought: never renamed into place, copied while they are hashed."""

import grp
import os
import stat
from pathlib import Path

import pytest

from librarian.checksum import Algorithm, Checksum, Hasher
from librarian.errors import SourceChanged, UnsupportedMember, WrongState
from librarian.names import FileName, Token
from librarian.states import Kind
from librarian.stores import copying, parts
from librarian.stores.base import Publication, Publishing
from tests.contracts.conftest import NOBODY, acting_as, inspected, publish, stage_book, stage_file

STRANGER = 12345
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs: root, to act as another user")


@pytest.fixture
async def shared_store(new_store, open_folder):
    """A store of root's that others write into."""
    store = new_store(open_folder / "shared", takes_foreign_writes=True, staging_mode=0o2777)
    await store.open(expected_uuid=None, generation=1)
    return store


async def a_strangers_file(store, content: bytes = b"truth", *, umask: int = 0o022) -> Token:
    token = Token.mint()
    await store.stage([token])
    with acting_as(STRANGER):
        before = os.umask(umask)
        store.staging_path(token).write_bytes(content)
        os.umask(before)
    return token


async def a_strangers_book(store, *, umask: int = 0o022) -> Token:
    token = Token.mint()
    await store.stage([token])
    with acting_as(STRANGER):
        before = os.umask(umask)
        (store.staging_path(token) / "sub").mkdir(parents=True)
        (store.staging_path(token) / "sub" / "m").write_bytes(b"truth")
        os.umask(before)
    return token


@needs_root
async def test_a_strangers_file_is_copied_and_published(shared_store):
    token = await a_strangers_file(shared_store)
    brought = await inspected(shared_store, token)

    measured = await shared_store.take(token, Algorithm.XXH3)
    answer = await publish(shared_store, token, "a")

    published = shared_store.path_of(FileName("a")).stat()
    hasher = Hasher(Algorithm.XXH3)
    hasher.update(b"truth")
    assert not brought.is_ours
    assert answer is Publishing.PUBLISHED
    assert measured.checksum == Checksum.of(Algorithm.XXH3, hasher.hexdigest())
    assert (published.st_uid, stat.S_IMODE(published.st_mode), published.st_nlink) == (0, 0o444, 1)


@needs_root
async def test_a_strangers_book_is_copied_and_published(shared_store):
    token = await a_strangers_book(shared_store)
    brought = await inspected(shared_store, token)

    await shared_store.take(token, Algorithm.XXH3)
    answer = await publish(shared_store, token, "book", Kind.BOOK)

    top = shared_store.path_of(FileName("book"))
    assert not brought.is_ours
    assert answer is Publishing.PUBLISHED
    assert {each.stat().st_uid for each in (top, top / "sub", top / "sub" / "m")} == {0}


@needs_root
async def test_a_strangers_open_descriptor_cannot_change_what_is_published(shared_store):
    token = await a_strangers_file(shared_store)
    with shared_store.staging_path(token).open("r+b", buffering=0) as still_open:
        await shared_store.take(token, Algorithm.XXH3)
        await publish(shared_store, token, "a")

        still_open.write(b"wrong")

    assert shared_store.path_of(FileName("a")).read_bytes() == b"truth"


@needs_root
async def test_a_strangers_payload_is_not_published_without_a_copy(shared_store):
    token = await a_strangers_file(shared_store)

    answer = await publish(shared_store, token, "a")

    assert isinstance(answer, WrongState)


async def test_a_payload_with_another_link_is_not_ours(new_store, tmp_path):
    store = new_store()
    await store.open(expected_uuid=None, generation=1)
    file, book = await stage_file(store), await stage_book(store, a=b"1", b=b"2")
    os.link(store.staging_path(file), tmp_path / "elsewhere")
    os.link(store.staging_path(book) / "a", tmp_path / "elsewhere too")

    found = [await inspected(store, token) for token in (file, book)]
    answer = await publish(store, file, "a")

    assert [each.is_ours for each in found] == [False, False]
    assert isinstance(answer, WrongState)


async def test_what_others_may_write_is_not_ours(shared_store):
    token = await stage_file(shared_store)
    shared_store.staging_path(token).chmod(0o664)

    assert not (await inspected(shared_store, token)).is_ours


async def test_our_own_payload_is_moved_out_of_others_reach_before_it_is_measured(shared_store):
    token = await stage_file(shared_store, b"truth")

    found = await inspected(shared_store, token)
    shared_store.staging_path(token).write_bytes(b"exchanged")
    await publish(shared_store, token, "a")

    assert found.is_ours
    assert found.path != shared_store.staging_path(token)
    assert shared_store.path_of(FileName("a")).read_bytes() == b"truth"


async def test_where_others_write_nothing_is_published_unseen(shared_store):
    token = await stage_file(shared_store)

    (answer,) = await shared_store.publish([Publication(token=token, name=FileName("a"), kind=Kind.FILE)])

    assert isinstance(answer, WrongState)


async def test_a_seclusion_that_was_cut_off_is_done_again(shared_store):
    token = await stage_file(shared_store, b"truth")
    private = shared_store.staging / ".private" / token
    private.mkdir()
    shared_store.staging_path(token).rename(private / "arriving")

    found = await inspected(shared_store, token)

    assert found.is_ours
    assert found.path.read_bytes() == b"truth"


@needs_root
async def test_a_stranger_cannot_look_into_private_places(shared_store):
    token = await stage_file(shared_store)
    found = await inspected(shared_store, token)

    with acting_as(STRANGER), pytest.raises(PermissionError):
        found.path.read_bytes()


@needs_root
async def test_the_server_does_not_write_into_a_strangers_file(shared_store):
    token = await a_strangers_file(shared_store)

    (answer,) = await shared_store.write_small([(token, None, b"1")])

    assert isinstance(answer, WrongState)


async def test_the_server_does_not_write_through_a_hard_link(new_store, tmp_path):
    store = new_store()
    await store.open(expected_uuid=None, generation=1)
    precious = tmp_path / "precious"
    precious.write_bytes(b"truth")
    token = Token.mint()
    await store.stage([token])
    os.link(precious, store.staging_path(token))

    (answer,) = await store.write_small([(token, None, b"1")])

    assert isinstance(answer, WrongState)
    assert precious.read_bytes() == b"truth"


@needs_root
async def test_staging_has_the_mode_and_group_of_the_settings(new_store, tmp_path):
    group = grp.getgrgid(NOBODY).gr_name
    store = new_store(takes_foreign_writes=True, staging_group=group)
    await store.open(expected_uuid=None, generation=1)
    token = Token.mint()

    await store.stage([token])

    made = store.staging_path(token).parent.stat()
    assert (stat.S_IMODE(made.st_mode), made.st_gid) == (0o2770, NOBODY)


@needs_root
@pytest.mark.parametrize("umask", [0o022, 0o077])
async def test_a_server_without_privileges_takes_what_it_may_read(new_store, open_folder, as_nobody, umask):
    store = new_store(open_folder / "shared", takes_foreign_writes=True, staging_mode=0o2777)
    await store.open(expected_uuid=None, generation=1)
    with as_root():
        file, book = await a_strangers_file(store, umask=umask), await a_strangers_book(store, umask=umask)

    async def arrive(token: Token, name: str, kind: Kind) -> object:
        (found,) = await store.inspect([token])
        if isinstance(found, UnsupportedMember):
            return found
        try:
            await store.take(token, Algorithm.XXH3)
        except UnsupportedMember as refusal:
            return refusal
        return await publish(store, token, name, kind)

    answers = [await arrive(file, "a", Kind.FILE), await arrive(book, "book", Kind.BOOK)]

    if umask == 0o022:
        assert answers == [Publishing.PUBLISHED, Publishing.PUBLISHED]
    else:
        assert [type(answer) for answer in answers] == [UnsupportedMember, UnsupportedMember]
        assert all("umask" in answer.remedy for answer in answers)


@needs_root
async def test_what_the_server_cannot_remove_is_listed(new_store, open_folder, as_nobody):
    store = new_store(open_folder / "shared", takes_foreign_writes=True, staging_mode=0o2777)
    await store.open(expected_uuid=None, generation=1)
    with as_root():
        file, book = await a_strangers_file(store), await a_strangers_book(store)

    assert await store.clear([file, book]) == [book]
    assert await store.staged_sizes([file, book]) == {book: 5}


def as_root():
    """Back to root for the test's own preparations, inside ``as_nobody``."""
    return _Root()


class _Root:
    def __enter__(self):
        os.seteuid(0)
        os.setegid(0)

    def __exit__(self, *_):
        os.setegid(NOBODY)
        os.seteuid(NOBODY)


class _ChangingTrip:
    """Appends to the source whenever the copy gets on."""

    def __init__(self, source: Path) -> None:
        self._source = source

    def beat(self) -> None:
        with self._source.open("ab") as file:
            file.write(b"more")


def test_a_source_that_changes_while_it_is_copied_is_refused(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"0" * 3_000_000)
    fd = os.open(tmp_path, parts.DIRECTORY)
    copier = copying.Copier(trip=_ChangingTrip(source), algorithm=Algorithm.XXH3)

    with pytest.raises(SourceChanged):
        copier.copy_file("source", "copy", source_fd=fd, target_fd=fd)

    os.close(fd)
