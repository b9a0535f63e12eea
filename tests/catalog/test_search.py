"""Search: every condition, every order, pages, and patterns that mean what fnmatch means on both databases."""

import asyncio
import fnmatch
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from librarian.catalog import globbing, rows
from librarian.catalog import search as search_module
from librarian.catalog.database import Catalog, make_engine
from librarian.catalog.files import NewFile
from librarian.catalog.instances import NewInstance
from librarian.catalog.search import FileQuery, Order
from librarian.checksum import Algorithm, Checksum
from librarian.globs import Glob
from librarian.names import FileName, StoreName
from librarian.states import Kind, VerifiedFrom

START = datetime(2026, 11, 1, tzinfo=UTC)
EMPTY = Checksum.of(Algorithm.XXH3, "0" * 32)


def a_file(name, *, minute=0, size=1, uploader="ana", origin="here", kind=Kind.FILE):
    return NewFile(
        name=FileName(name),
        kind=kind,
        size=size,
        checksum=EMPTY,
        uploader=uploader,
        origin=origin,
        created_at=START + timedelta(minutes=minute),
    )


@pytest.fixture
async def catalog(database_url):
    async with Catalog(database_url) as opened:
        yield opened


@pytest.fixture
def holding(catalog):
    async def hold(*files):
        async with catalog.begin() as tx:
            return await tx.files.add(files)

    return hold


@pytest.fixture
def names_of(catalog):
    """Every name that a query finds, page after page of *limit*."""

    async def find(query, *, limit=64, budget=search_module.SCAN_BUDGET):
        names, after = [], None
        for _ in range(1000):
            async with catalog.read() as tx:
                found = await tx.search.find(query, after=after, limit=limit, budget=budget)
            assert len(found.files) <= limit
            names += [str(file.name) for file in found.files]
            if found.next_after is None:
                return names
            after = found.next_after
        raise AssertionError("the pages never end")

    return find


async def test_the_newest_come_first(holding, names_of):
    await holding(a_file("old", minute=1), a_file("new", minute=3), a_file("middle", minute=2))

    assert await names_of(FileQuery()) == ["new", "middle", "old"]


async def test_names_come_in_the_order_of_their_bytes(holding, names_of):
    await holding(*(a_file(name) for name in ["b", "a/b", "Z", "a", "é", "a-b", "\U0001f600", "\uffee"]))

    found = await names_of(FileQuery(order=Order.NAME))

    assert found == sorted(["b", "a/b", "Z", "a", "é", "a-b", "\U0001f600", "\uffee"], key=str.encode)


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_pages_of_any_size_hold_every_file_once(holding, names_of, order, limit):
    # Some share an instant: the id then decides.
    await holding(*(a_file(f"f{number:02}", minute=number // 3) for number in range(20)))

    found = await names_of(FileQuery(order=order), limit=limit)

    assert sorted(found) == [f"f{number:02}" for number in range(20)]


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize(
    "changes",
    [
        {"since": START + timedelta(minutes=10)},
        {"until": START + timedelta(minutes=10)},
        {"since": START + timedelta(minutes=3), "until": START + timedelta(minutes=9)},
        {"uploader": "ben"},
        {"origin": "there"},
        {"uploader": "ben", "origin": "there"},
        {"min_size": 15},
        {"max_size": 4},
        {"min_size": 3, "max_size": 8},
        {"kind": Kind.BOOK},
        {"glob": Glob("a/*")},
        {"glob": Glob("*/1*")},
        {"glob": Glob("a/3")},
        {"glob": Glob("b/[0-4]")},
        {"glob": Glob("a/*"), "uploader": "ben", "min_size": 4},
        {"glob": Glob("*")},
        {"glob": Glob("absent*")},
        {"store": "fast"},
        {"store": "unknown"},
        {"uploader": "nobody"},
    ],
    ids=repr,
)
@pytest.mark.parametrize("narrow", [0, 5000], ids=["walking", "sorting"])
async def test_every_condition_holds_for_what_is_found(catalog, holding, names_of, order, changes, narrow, monkeypatch):
    monkeypatch.setattr(search_module, "NARROW", narrow)
    files = [
        a_file(
            f"{'ab'[number % 2]}/{number}",
            minute=number,
            size=number,
            uploader="ana" if number % 3 else "ben",
            origin="here" if number % 5 else "there",
            kind=Kind.BOOK if number % 7 == 0 else Kind.FILE,
        )
        for number in range(20)
    ]
    await holding(*files)
    on_fast = await put_on_store(catalog, "fast", [file.name for file in files[::4]])
    query = FileQuery(order=order, **changes)

    found = await names_of(query, limit=3, budget=4)

    assert found == expected(files, query, on_fast if query.store == "fast" else set())


async def put_on_store(catalog, store, names):
    """Register *store* and record a copy of each of *names* there."""
    async with catalog.begin() as tx:
        await tx.stores.register(StoreName(store), uuid=str(uuid4()), kind="local")
        held = await tx.files.named(names)
        await tx.instances.add(
            [
                NewInstance(
                    file_id=held[name].id, store=StoreName(store), verified_at=START, verified_from=VerifiedFrom.CACHE
                )
                for name in names
            ]
        )
    return set(names)


def expected(files, query, on_store):
    """What a loop over all files finds."""
    chosen = [
        file
        for file in files
        if (query.glob is None or fnmatch.fnmatchcase(file.name, query.glob.pattern))
        and (query.since is None or file.created_at >= query.since)
        and (query.until is None or file.created_at < query.until)
        and query.uploader in (None, file.uploader)
        and query.origin in (None, file.origin)
        and query.kind in (None, file.kind)
        and (query.min_size is None or file.size >= query.min_size)
        and (query.max_size is None or file.size <= query.max_size)
        and (query.store is None or file.name in on_store)
    ]
    if query.order is Order.NAME:
        return sorted(str(file.name) for file in chosen)
    return [str(file.name) for file in sorted(chosen, key=lambda file: file.created_at, reverse=True)]


async def test_a_page_that_used_up_its_budget_is_short_and_has_a_next_one(catalog, holding):
    await holding(*(a_file(f"f{number}", minute=number) for number in range(10)), a_file("wanted", minute=-1))
    query = FileQuery(glob=Glob("*wanted*"))

    async with catalog.read() as tx:
        first = await tx.search.find(query, budget=6)
        second = await tx.search.find(query, after=first.next_after, budget=6)

    assert first.files == ()
    assert [file.name for file in second.files] == ["wanted"]
    assert second.next_after is None


async def test_a_file_that_arrives_while_somebody_pages_moves_nothing(catalog, holding):
    await holding(*(a_file(f"f{number}", minute=number) for number in range(4)))
    async with catalog.read() as tx:
        first = await tx.search.find(FileQuery(), limit=2)
    await holding(a_file("late", minute=99))

    async with catalog.read() as tx:
        second = await tx.search.find(FileQuery(), after=first.next_after, limit=2)

    assert [file.name for file in first.files + second.files] == ["f3", "f2", "f1", "f0"]


TRICKY = "ab-]![^*?/\\%_é😀 .+(){}|$"
NAMES = ("a", "b-", "]", "^a", "a/b", "-", "é", "\\", "%", "_", "[a]", "*", "?", "😀", "a-b", "!", "a.b", "$ (x)")


@pytest.fixture
def matching(database_url):
    """Which of some names the database says match a pattern."""
    engine = make_engine(database_url)
    table = rows.table_of(engine.dialect.name, "names", name=rows.TEXT)

    async def ask(connection, pattern, names):
        given = globbing.values_of(Glob(pattern), engine.dialect.name)
        found = await connection.scalars(
            select(table.c.name).where(*globbing.matches(table.c.name, frozenset(given))),
            given | {"names": rows.pack((name,) for name in names)},
        )
        return sorted(found)

    with asyncio.Runner() as runner:
        connection = runner.run(engine.connect().start())
        yield lambda pattern, names: runner.run(ask(connection, pattern, names))
        runner.run(connection.close())
        runner.run(engine.dispose())


@settings(max_examples=500)
@given(pattern=st.text(TRICKY, min_size=1, max_size=8), more=st.text(TRICKY, min_size=1, max_size=5))
@example(pattern="[]^-]", more="^")
@example(pattern="[!]^-]", more="^")
@example(pattern="[^]", more="^")
@example(pattern="[-^]", more="-")
@example(pattern="[Z-a]", more="]")
@example(pattern="[!Z-a]x*", more="bx\\")
@example(pattern="[z-a]", more="z")
@example(pattern="[!z-a]", more="z")
def test_a_pattern_means_to_the_database_what_it_means_to_fnmatch(matching, pattern, more):
    names = sorted({*NAMES, more})

    assert matching(pattern, names) == [name for name in names if fnmatch.fnmatchcase(name, pattern)]
