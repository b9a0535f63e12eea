"""Whatever may be called a name or a member can be kept, and never leaves its root."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from librarian.errors import BadName
from librarian.names import FileName, MemberPath
from librarian.states import Kind
from librarian.stores.base import Publication, Publishing
from librarian.stores.local import LocalStore
from tests.contracts.conftest import a_spec, publish, stage_book, stage_file

parts = st.text(min_size=1, max_size=30) | st.sampled_from(
    ["payload", ".private", "\\", "~", "-rf", "*", "\u2028", "a b"]
)


def parses(path: str) -> bool:
    try:
        return bool(MemberPath(path))
    except BadName:
        return False


paths = st.lists(parts, min_size=1, max_size=4).map("/".join).filter(parses)


async def keep(folder: Path, name: str, member: str) -> None:
    store = LocalStore(a_spec(folder))
    await store.open(expected_uuid=None, generation=1)
    book = await stage_book(store)
    assert await store.write_small([(book, MemberPath(member), b"m")]) == [None]
    assert await publish(store, await stage_file(store, b"f"), f"files/{name}") is Publishing.PUBLISHED
    assert await publish(store, book, f"books/{name}", Kind.BOOK) is Publishing.PUBLISHED
    with await store.open_published(FileName(f"files/{name}"), None) as file:
        assert file.read() == b"f"
    with await store.open_published(FileName(f"books/{name}"), MemberPath(member)) as file:
        assert file.read() == b"m"
    assert {path.name for path in store.root.iterdir()} == {"files", "books", ".librarian-store"}
    await store.close()


@given(name=paths, member=paths)
def test_every_name_that_parses_is_kept_below_the_root(name: str, member: str):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(keep(Path(folder), name, member))


async def test_what_fat_would_take_for_something_else_is_refused(mounts, tmp_path, new_store):
    store = new_store(mounts.fat(tmp_path / "medium", tmp_path / "disk"))
    await store.open(expected_uuid=None, generation=1)
    first = await publish(store, await stage_book(store), "Hollow", Kind.BOOK)
    full = await stage_book(store, a=b"1")
    files = [await stage_file(store) for _ in range(5)]
    names = [FileName(name) for name in ("Dir/a", "dir/b", "Dir/A", "a:b", "dot.")]
    together = [Publication(token=t, name=n, kind=Kind.FILE) for t, n in zip(files, names, strict=True)]

    onto = await publish(store, full, "hollow", Kind.BOOK)
    taken, *refused = await store.publish(together)

    assert (first, taken) == (Publishing.PUBLISHED, Publishing.PUBLISHED)
    assert [type(answer) for answer in (onto, *refused)] == [BadName] * 5
    standing = {str(path.relative_to(store.root)) for path in store.root.rglob("*")} - {".librarian-store"}
    assert standing == {"Hollow", "Dir", "Dir/a"}
