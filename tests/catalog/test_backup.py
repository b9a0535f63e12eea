"""Backups: whole, private, never over another; and checks that find what is really broken."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text

from librarian.catalog import backup, migrations
from librarian.catalog.database import Catalog, make_engine
from librarian.catalog.records import Happening
from librarian.errors import BadRequest, CatalogDamaged, Conflict, DatabaseUnavailable, NotFound
from tests.contracts.mounts import Mounts
from tests.postgres import running_cluster

EVENTS = "SELECT count(*) FROM events"
FILE = (
    "INSERT INTO files (id, name, kind, size, checksum, uploader, origin, created_at)"
    " VALUES ({id}, '{name}', '{kind}', 1, 'xxh3:00', 'ana', 'here', 0)"
)
#: What breaks each invariant, and the words that tell it.
CONTRADICTIONS = {
    "files that no copy was ever recorded for": [FILE.format(id=1, name="a", kind="file")],
    "books without a member listing": [FILE.format(id=1, name="a", kind="book")],
    "names that lie inside another file": [
        FILE.format(id=1, name="a", kind="file"),
        FILE.format(id=2, name="a/b", kind="file"),
    ],
    "copies of files that the catalog does not know": [
        (
            "INSERT INTO instances (id, file_id, store_id, presence, intent, verified_at, verified_from, created_at)"
            " VALUES (1, 99, 1, 'present', 'keep', 0, 'cache', 0)"
        )
    ],
}


@pytest.fixture
async def catalog(database_url):
    async with Catalog(database_url) as opened:
        yield opened


@pytest.fixture
def mounts():
    made = Mounts()
    yield made
    made.clean_up()


@pytest.fixture
def own_cluster():
    """A PostgreSQL cluster that this test may break."""
    with running_cluster() as cluster:
        if cluster is None:
            pytest.skip("needs: PostgreSQL")
        yield cluster


def path_of(url):
    return Path(url.partition(":///")[2])


async def tell(catalog, count):
    """Write *count* events in one transaction."""
    async with catalog.begin() as tx:
        await tx.events.tell([Happening(subject="test", what="told", who="test") for _ in range(count)])


async def ask(url, question):
    engine = make_engine(url)
    async with engine.connect() as connection:
        answer = await connection.scalar(text(question))
    await engine.dispose()
    return answer


async def force(url, *statements):
    """Run *statements* against the database with nothing that would refuse them."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(path_of(url))) as connection, connection:
            for statement in statements:
                connection.execute(statement)
        return
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    await connection.execute("; ".join(["SET session_replication_role = replica", *statements]))
    await connection.close()


def break_pages(path):
    """Overwrite what every page but the first few holds, as a bad disk might."""
    with path.open("r+b") as file:
        for page in range(3, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 100)


async def test_a_backup_of_sqlite_is_the_same_catalog_again(sqlite_url, tmp_path):
    async with Catalog(sqlite_url) as catalog:
        await tell(catalog, 3)

        size = await backup.back_up(sqlite_url, tmp_path / "copy")

    restored = f"sqlite+aiosqlite:///{tmp_path / 'copy'}"
    assert size == (tmp_path / "copy").stat().st_size
    assert await ask(restored, EVENTS) == 3
    assert await migrations.current(restored) == migrations.head()


async def test_a_backup_of_postgresql_is_the_same_catalog_again(postgresql_url, databases, tmp_path):
    async with Catalog(postgresql_url) as catalog:
        await tell(catalog, 3)
    await backup.back_up(postgresql_url, tmp_path / "dump")

    cluster = databases.cluster
    restored = cluster.create()
    where = ["--host", cluster.home, "--username", "postgres", "--dbname", restored]
    subprocess.run(["pg_restore", *where, "--exit-on-error", tmp_path / "dump"], check=True)

    assert await ask(cluster.url(restored), EVENTS) == 3
    assert await backup.check(cluster.url(restored)) == ()
    cluster.drop(restored)


async def test_a_backup_can_be_read_by_nobody_else(database_url, tmp_path):
    await backup.back_up(database_url, tmp_path / "copy")

    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("copy*")] == ["copy"]


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
async def test_a_backup_never_overwrites(sqlite_url, tmp_path, make):
    target = tmp_path / "copy"
    make(target)
    before = target.lstat()

    with pytest.raises(Conflict, match="copy exists"):
        await backup.back_up(sqlite_url, target)

    assert target.lstat() == before


async def test_of_two_backups_to_one_name_one_is_refused(database_url, tmp_path):
    ends = await asyncio.gather(
        backup.back_up(database_url, tmp_path / "copy"),
        backup.back_up(database_url, tmp_path / "copy"),
        return_exceptions=True,
    )

    assert [type(end) for end in ends if isinstance(end, Exception)] == [Conflict]
    assert await backup.check_backup(tmp_path / "copy") == ()


async def test_a_backup_is_sound_while_others_write(catalog, database_url, tmp_path):
    copying = asyncio.create_task(backup.back_up(database_url, tmp_path / "copy"))

    while not copying.done():
        await tell(catalog, 2)

    await copying
    assert await backup.check_backup(tmp_path / "copy") == ()


async def test_what_was_written_together_is_in_the_backup_together(sqlite_url, tmp_path):
    async with Catalog(sqlite_url) as catalog:
        copying = asyncio.create_task(backup.back_up(sqlite_url, tmp_path / "copy"))
        while not copying.done():
            await tell(catalog, 2)

    assert await ask(f"sqlite+aiosqlite:///{tmp_path / 'copy'}", EVENTS) % 2 == 0


async def test_paths_may_hold_what_means_something_in_an_address(sqlite_url, tmp_path):
    folder = tmp_path / "a #1 100% é"
    folder.mkdir()
    shutil.move(path_of(sqlite_url), folder / "catalog.sqlite")

    await backup.back_up(f"sqlite+aiosqlite:///{folder}/catalog.sqlite", folder / "copy #2%20")

    assert await backup.check_backup(folder / "copy #2%20") == ()


async def test_a_full_disk_is_told_and_leaves_nothing(sqlite_url, tmp_path, mounts):
    small = mounts.tmpfs(tmp_path / "small", "size=64k")

    with pytest.raises(BadRequest, match=r"cannot write .*copy: No space left on device"):
        await backup.back_up(sqlite_url, small / "copy")

    assert list(small.iterdir()) == []


async def test_a_dump_onto_a_full_disk_leaves_nothing(postgresql_url, tmp_path, mounts):
    small = mounts.tmpfs(tmp_path / "small", "size=4k")

    with pytest.raises(DatabaseUnavailable, match="No space left on device"):
        await backup.back_up(postgresql_url, small / "copy")

    assert list(small.iterdir()) == []


@pytest.mark.parametrize("target", ["absent/copy", "file/copy"])
async def test_a_target_that_cannot_be_written_is_told(sqlite_url, tmp_path, target):
    (tmp_path / "file").touch()

    with pytest.raises(BadRequest, match=f"cannot write {tmp_path / target}"):
        await backup.back_up(sqlite_url, tmp_path / target)


@pytest.mark.parametrize("act", [backup.check, lambda url: backup.back_up(url, Path("/nonexistent/copy"))])
async def test_where_there_is_no_catalog_none_is_made(tmp_path, act):
    url = f"sqlite+aiosqlite:///{tmp_path}/absent.sqlite"

    with pytest.raises((NotFound, BadRequest)):
        await act(url)

    assert list(tmp_path.iterdir()) == []


async def test_an_empty_sqlite_file_is_no_catalog(tmp_path):
    (tmp_path / "empty.sqlite").touch()

    with pytest.raises(NotFound, match="there is no catalog"):
        await backup.back_up(f"sqlite+aiosqlite:///{tmp_path}/empty.sqlite", tmp_path / "copy")

    assert not (tmp_path / "copy").exists()


async def test_an_empty_postgresql_database_is_no_catalog(databases, tmp_path):
    if databases.cluster is None:
        pytest.skip("needs: PostgreSQL")
    name = databases.cluster.create()

    with pytest.raises(NotFound, match=f"there is no catalog in {name}"):
        await backup.back_up(databases.cluster.url(name), tmp_path / "copy")

    databases.cluster.drop(name)
    assert list(tmp_path.iterdir()) == []


async def test_without_postgresqls_programs_the_remedy_names_them(postgresql_url, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BadRequest, match="pg_dump is not installed") as refused:
        await backup.back_up(postgresql_url, tmp_path / "copy")

    assert "postgresql-client" in refused.value.remedy


async def test_a_database_that_is_away_is_told(tmp_path):
    with pytest.raises(DatabaseUnavailable):
        await backup.back_up("postgresql+asyncpg://nobody@127.0.0.1:9/none", tmp_path / "copy")

    assert list(tmp_path.iterdir()) == []


async def test_a_sound_catalog_is_sound(database_url):
    assert await backup.check(database_url) == ()


@pytest.mark.parametrize("words", CONTRADICTIONS)
async def test_contradictions_are_found(database_url, words):
    await force(database_url, *CONTRADICTIONS[words])

    problems = await backup.check(database_url)

    assert any(problem.endswith(f" {words}") for problem in problems), problems


async def test_a_catalog_of_a_newer_librarian_is_told(database_url):
    await force(database_url, "UPDATE alembic_version SET version_num = '9999'")

    (problem,) = await backup.check(database_url)

    assert "it is at revision 9999, which a newer librarian wrote" in problem


async def test_broken_pages_are_found(sqlite_url):
    break_pages(path_of(sqlite_url))

    problems = await backup.check(sqlite_url)

    assert problems
    assert all("malformed" in problem or problem.startswith("SQLite finds: ") for problem in problems)


async def test_a_file_that_is_no_database_is_damage(sqlite_url, tmp_path):
    with path_of(sqlite_url).open("r+b") as file:
        file.write(b"not a database at all")

    problems = await backup.check(sqlite_url)

    assert problems == ("the catalog's database is damaged: file is not a database",)
    with pytest.raises(CatalogDamaged):
        await backup.back_up(sqlite_url, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


async def test_broken_blocks_of_postgresql_are_found(own_cluster):
    name = own_cluster.create(name="broken")
    await migrations.upgrade(own_cluster.url(name))
    await force(own_cluster.url(name), FILE.format(id=1, name="a", kind="file"), "CHECKPOINT")
    place = await ask(own_cluster.url(name), "SELECT pg_relation_filepath('files')")
    own_cluster.stop()
    with (own_cluster.home / "data" / place).open("r+b") as file:
        file.write(b"\xff" * 64)
    own_cluster.start()

    (problem,) = await backup.check(own_cluster.url(name))

    assert "damaged: invalid page in block 0" in problem


async def test_a_good_backup_is_sound(database_url, tmp_path):
    await backup.back_up(database_url, tmp_path / "copy")

    assert await backup.check_backup(tmp_path / "copy") == ()


async def test_a_broken_backup_of_sqlite_is_found(sqlite_url, tmp_path):
    await backup.back_up(sqlite_url, tmp_path / "copy")
    break_pages(tmp_path / "copy")

    assert await backup.check_backup(tmp_path / "copy") != ()


async def test_a_dump_that_was_cut_off_is_found(postgresql_url, tmp_path):
    await backup.back_up(postgresql_url, tmp_path / "copy")
    os.truncate(tmp_path / "copy", (tmp_path / "copy").stat().st_size // 2)

    (problem,) = await backup.check_backup(tmp_path / "copy")

    assert problem.startswith("pg_restore finds: ")


async def test_what_is_no_backup_is_refused(tmp_path):
    (tmp_path / "notes").write_text("not a backup")

    with pytest.raises(BadRequest, match="notes is no backup of a catalog"):
        await backup.check_backup(tmp_path / "notes")
    with pytest.raises(NotFound):
        await backup.check_backup(tmp_path / "absent")
