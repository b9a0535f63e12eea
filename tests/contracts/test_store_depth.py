"""Books deeper than anybody needs: refused before they are written, and gone when somebody brought one all the same."""

import os

import pytest

from librarian.errors import UnsupportedMember
from librarian.names import MemberPath, Token
from librarian.states import Kind
from librarian.stores.base import Publishing
from librarian.stores.local import LocalStore
from tests.contracts.conftest import inspected, publish

#: As deep as a book may be.
DEEPEST = MemberPath("d/" * 200 + "m")
TOO_DEEP = MemberPath("d/" * 201 + "m")


async def content():
    yield b"1"


async def a_token(store: LocalStore) -> Token:
    token = Token.mint()
    await store.stage([token])
    return token


async def test_a_member_as_deep_as_can_be_is_kept(store: LocalStore):
    token = await a_token(store)

    await store.write(token, DEEPEST, content(), offset=0, limit=1)

    assert (await inspected(store, token)).size == 1
    assert await publish(store, token, "book", Kind.BOOK) is Publishing.PUBLISHED


async def test_a_deeper_member_is_refused_before_anything_is_made(store: LocalStore):
    token = await a_token(store)

    with pytest.raises(UnsupportedMember):
        await store.write(token, TOO_DEEP, content(), offset=0, limit=1)
    (answer,) = await store.write_small([(token, TOO_DEEP, b"1")])
    with pytest.raises(UnsupportedMember):
        await store.make_book_directories(token, [TOO_DEEP])

    assert isinstance(answer, UnsupportedMember)
    assert await store.staged_members(token) == {}


async def test_a_bottomless_book_that_somebody_brought_is_refused_and_can_be_cleared(store: LocalStore):
    token = await a_token(store)
    bring_deep(store.staging_path(token), 1000)

    (answer,) = await store.inspect([token])
    left = await store.clear([token])

    assert isinstance(answer, UnsupportedMember)
    assert left == []
    assert {entry.name for entry in store.staging.iterdir()} == {".private", ".quarantine"}


def bring_deep(top, levels: int) -> None:
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
