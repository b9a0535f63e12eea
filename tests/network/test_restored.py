"""The catalog of either site comes back from yesterday's backup: what it forgot is found, and comes again."""

import shutil
import sqlite3
from contextlib import AsyncExitStack, asynccontextmanager, closing

import pytest

from librarian.names import FileName
from tests.clone_fixtures import acquaint, party, until

NAMES = ("2026/before", "2026/after")


@pytest.fixture
def restoring(databases, tmp_path):
    """Opens one of two sites, from its own catalog or from a backup of it; both stay at their ports."""
    folders = {name: tmp_path / name for name in ("chajnantor", "nersc")}
    catalogs = {name: tmp_path / f"{name}.sqlite" for name in folders}
    urls = {name: databases.new_sqlite(path) for name, path in catalogs.items()}
    ports: dict[str, int] = {}

    @asynccontextmanager
    async def opened(*names: str, backup: bool = False):
        async with AsyncExitStack() as stack:
            parties = []
            for name in names:
                if backup:
                    put_back(name)
                site = party(urls[name], folders[name], name, port=ports.get(name, 0))
                parties.append(await stack.enter_async_context(site))
                ports[name] = parties[-1].port
            yield parties

    def back_up(name: str) -> None:
        backup = catalogs[name].with_suffix(".backup")
        with closing(sqlite3.connect(catalogs[name])) as source, closing(sqlite3.connect(backup)) as copy:
            source.backup(copy)

    def put_back(name: str) -> None:
        for rest in ("-wal", "-shm"):
            catalogs[name].with_name(catalogs[name].name + rest).unlink(missing_ok=True)
        shutil.copyfile(catalogs[name].with_suffix(".backup"), catalogs[name])

    return opened, back_up


async def agree(sender, receiver) -> None:
    """Wait until every file is at the receiver, and known to be."""

    async def all_back() -> bool:
        known = await sender.remote_instances(NAMES)
        return all([known[name] and await receiver.file(name) for name in NAMES])

    await until(all_back)


@pytest.mark.parametrize("which", ["chajnantor", "nersc"])
async def test_what_a_restored_site_forgot_is_found_again(restoring, which):
    opened, back_up = restoring
    async with opened("chajnantor", "nersc") as (sender, receiver):
        await acquaint(sender, receiver)
        await sender.replicates_to(receiver)
        await sender.upload({NAMES[0]: b"held before the backup"})
        await sender.knows_copies_at(receiver, NAMES[:1])
    back_up(which)
    async with opened("chajnantor", "nersc") as (sender, receiver):
        await sender.upload({NAMES[1]: b"held after the backup"})
        await sender.knows_copies_at(receiver, NAMES)

    other = next(name for name in ("chajnantor", "nersc") if name != which)
    async with opened(which, backup=True) as (restored,), opened(other) as (kept,):
        sender, receiver = (restored, kept) if which == "chajnantor" else (kept, restored)
        if sender is restored:
            # Its user brings again what it does not know; the bytes that stand there are adopted.
            await sender.upload({NAMES[1]: b"held after the backup"})

        await agree(sender, receiver)

        assert (receiver.folder / "fast" / FileName(NAMES[1])).read_bytes() == b"held after the backup"
        assert "site:restored" in [alert.cause for alert in await restored.alerts()]


async def test_a_site_that_was_restored_within_one_run_is_known_by_its_first_greeting(restoring):
    opened, back_up = restoring
    async with opened("chajnantor", "nersc") as (sender, receiver):
        await acquaint(sender, receiver)
        await sender.replicates_to(receiver)
        await sender.upload({NAMES[0]: b"held before the backup"})
        await sender.knows_copies_at(receiver, NAMES[:1])
        back_up("nersc")
        await sender.upload({NAMES[1]: b"held after the backup"})
        await sender.knows_copies_at(receiver, NAMES)

    # Its stores bear the generation of the backup: only the other site can know.
    async with opened("nersc", backup=True) as (receiver,), opened("chajnantor") as (sender,):
        await agree(sender, receiver)

        assert "site:restored" in [alert.cause for alert in await receiver.alerts()]
