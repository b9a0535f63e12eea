"""Ownership: a generation that grows and is stamped, restored backups that are noticed, a lock that is watched."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from librarian import ownership
from librarian.catalog.database import make_engine
from librarian.errors import ConfigurationError, DatabaseUnavailable, OwnedElsewhere
from librarian.names import SiteName
from librarian.ownership import CONFIRM_SECONDS, GENERATION_SECONDS, RESTORED, STEP, UNCONFIRMED_SECONDS
from tests.owning import IDENTITY, NAME, Hours, Over, Owner


@dataclass(frozen=True)
class Silence:
    """How a lock's database falls silent, and how it speaks again."""

    begin: Callable[[], object]
    end: Callable[[], object]


@pytest.fixture
def owning(database_url, tmp_path):
    """Makes owners of one catalog, one after the other."""

    @asynccontextmanager
    async def own(*stores: str, begins: bool = True, ends_at: float = 60.0):
        owner = Owner(database_url, tmp_path, stores or ("fast",), Hours(ends_at=ends_at))
        await owner.lock.take()
        try:
            if begins:
                await owner.ownership.begin(NAME)
            yield owner
        finally:
            await owner.catalog.close()
            await owner.stores.close()
            await owner.lock.release()

    return own


@pytest.fixture
def silence(database_url, databases, tmp_path):
    """Makes that the lock cannot be confirmed: its file is out of sight, or PostgreSQL stopped. ``end`` ends it."""
    if database_url.startswith("sqlite"):
        path = Path(database_url.partition(":///")[2] + ".owner")
        yield Silence(begin=lambda: path.rename(tmp_path / "hidden"), end=lambda: (tmp_path / "hidden").rename(path))
        return
    yield Silence(begin=databases.cluster.stop, end=databases.cluster.start)
    if databases.cluster.process is None:
        databases.cluster.start()


@pytest.fixture
def lose(monkeypatch):
    """Arranges that the next transaction of a catalog is lost: its request, or only the answer to it."""

    def arrange(owner: Owner, what: str) -> None:
        begin = owner.catalog.begin

        @asynccontextmanager
        async def losing():
            monkeypatch.setattr(owner.catalog, "begin", begin)
            async with begin() as tx:
                yield tx
                if what == "request":
                    raise DatabaseUnavailable("lost before it was committed")
            raise DatabaseUnavailable("committed, but nobody was told")

        monkeypatch.setattr(owner.catalog, "begin", losing)

    return arrange


async def test_each_start_is_a_generation_and_every_store_bears_it(owning):
    async with owning("fast", "slow"):
        pass

    async with owning("fast", "slow") as owner:
        assert ((await owner.site()).generation, owner.stamp_of("fast"), owner.stamp_of("slow")) == (2, 2, 2)


async def test_a_catalog_of_another_site_is_refused(owning):
    async with owning():
        pass

    async with owning(begins=False) as owner:
        with pytest.raises(OwnedElsewhere, match="belongs to the site 'chajnantor', not to 'nersc'"):
            await owner.ownership.begin(SiteName("nersc"))


async def test_a_start_that_lost_its_lock_while_it_waited_changes_nothing(owning, database_url):
    async with owning() as first:
        await first.lock.release()
        async with owning() as second:
            with pytest.raises((OwnedElsewhere, DatabaseUnavailable)):
                await first.ownership.begin(NAME)

            assert (await second.site()).generation == 2
            await second.write()


async def test_a_start_whose_answers_were_lost_can_be_repeated(owning, lose):
    async with owning() as owner:
        lose(owner, "answer")
        with pytest.raises(DatabaseUnavailable):
            await owner.ownership.begin(NAME)

        site = await owner.ownership.begin(NAME)

        await owner.write()
        assert (site.generation, owner.stamp_of(), site.restored_at) == (3, 3, None)


async def test_the_generation_grows_hourly_and_is_stamped(owning):
    async with owning(ends_at=2 * GENERATION_SECONDS + 10) as owner:
        with pytest.raises(Over):
            await owner.ownership.watch()
        await owner.look()

        assert (await owner.site()).generation == owner.stamp_of() == 1 + 2 * STEP
        await owner.write()


async def test_nothing_is_stamped_by_a_process_that_was_overtaken(owning):
    async with owning() as owner:
        await owner.set_back(generation=7)

        with pytest.raises(OwnedElsewhere):
            await owner.ownership.step()

        assert owner.stamp_of() == 1


@pytest.mark.parametrize("what", ["request", "answer"])
async def test_a_step_that_was_lost_keeps_the_owner_and_can_be_repeated(owning, lose, what):
    async with owning() as owner:
        lose(owner, what)
        with pytest.raises(DatabaseUnavailable):
            await owner.ownership.step()
        await owner.write()

        generation = await owner.ownership.step()

        await owner.write()
        assert generation == (await owner.site()).generation == owner.stamp_of()


async def test_anothers_start_is_not_taken_for_a_step_that_was_lost(owning, lose):
    async with owning() as owner:
        lose(owner, "request")
        with pytest.raises(DatabaseUnavailable):
            await owner.ownership.step()

        await owner.set_back(generation=2)

        with pytest.raises(OwnedElsewhere):
            await owner.write()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_step_that_hangs_ends_neither_the_watch_nor_the_ownership(owning, database_url, monkeypatch):
    monkeypatch.setattr(ownership, "UNCONFIRMED_SECONDS", 0.2)
    engine = make_engine(database_url)
    async with owning(ends_at=GENERATION_SECONDS + 10) as owner, engine.begin() as other:
        await other.execute(text("UPDATE site SET name = name"))

        with pytest.raises(Over):
            await owner.ownership.watch()

        await other.rollback()
        await owner.write()
    await engine.dispose()


async def test_a_store_is_never_stamped_with_a_generation_that_may_not_be_committed(owning, lose):
    async with owning() as owner:
        (owner.folder / "fast").rename(owner.folder / "away")
        await owner.look()
        for _ in range(2):
            lose(owner, "request")
            with pytest.raises(DatabaseUnavailable):
                await owner.ownership.step()
        (owner.folder / "away").rename(owner.folder / "fast")

        await owner.look()

        assert owner.stamp_of() <= (await owner.site()).generation


async def test_a_store_ahead_of_its_catalog_shows_a_restored_backup(owning):
    async with owning() as owner:
        for _ in range(2):
            await owner.ownership.step()
        await owner.set_back(generation=1)

    began_at = int(time.time() * 1000)
    async with owning() as owner:
        site = await owner.site()
        assert site.epoch >= began_at
        assert "store 'fast' has seen generation 5, the catalog is at 1" in site.restored_why
        assert site.generation == owner.stamp_of() == 6
        assert await owner.alerts() == [RESTORED]
        await owner.write()


async def test_a_backup_that_is_older_by_one_start_alone_is_noticed(owning):
    async with owning():
        pass
    async with owning() as owner:
        await owner.set_back(generation=1)

    async with owning() as owner:
        assert (await owner.site()).restored_at is not None


async def test_a_start_that_was_never_stamped_is_no_restored_backup(owning):
    async with owning() as owner:
        await owner.set_back(generation=9)

    async with owning() as owner:
        assert (await owner.site()).restored_at is None
        assert owner.stamp_of() == 10


async def test_a_last_step_before_an_orderly_end_is_no_restored_backup(owning):
    async with owning() as owner:
        await owner.ownership.step()

    async with owning() as owner:
        assert (await owner.site()).restored_at is None


async def test_an_epoch_beyond_the_clock_grows_all_the_same(owning):
    future = int(time.time() * 1000) + 1_000_000
    async with owning() as owner:
        await owner.ownership.step()
        await owner.set_back(generation=0, epoch=future)

    async with owning() as owner:
        assert (await owner.site()).epoch == future + 1


async def test_a_restored_catalog_stays_restored_over_starts_with_one_epoch(owning):
    async with owning() as owner:
        await owner.ownership.step()
        await owner.set_back(generation=0)
    async with owning() as owner:
        found = await owner.site()

    async with owning() as owner:
        again = await owner.site()

    assert (again.restored_at, again.epoch) == (found.restored_at, found.epoch)


async def test_a_store_that_comes_back_is_stamped_and_used(owning):
    async with owning("fast", "slow") as owner:
        (owner.folder / "slow").rename(owner.folder / "away")
        await owner.look()
        await owner.ownership.step()
        (owner.folder / "away").rename(owner.folder / "slow")
        before = owner.stamp_of("slow")

        await owner.look()

        assert (before, owner.stamp_of("slow")) == (1, 1 + STEP)
        assert owner.stores.lookup("slow").problem is None


async def test_a_store_that_is_missing_at_start_comes_back(owning):
    async with owning("fast", "slow"):
        pass
    folder = None
    async with owning("fast") as owner:
        folder = owner.folder
        (folder / "slow").rename(folder / "away")
    async with owning("fast", "slow") as owner:
        assert owner.stores.lookup("slow").problem is not None
        (folder / "away").rename(folder / "slow")

        await owner.look()

        assert (owner.stores.lookup("slow").problem, owner.stamp_of("slow")) == (None, 3)


async def test_a_late_store_ahead_of_its_catalog_shows_a_restored_backup(owning):
    async with owning("fast", "slow") as owner:
        await owner.ownership.step()
        await owner.set_back(generation=1)
        folder = owner.folder
        # Only the store that is away has seen what the catalog forgot.
        (folder / "slow").rename(folder / "away")
        stamped = json.loads((folder / "fast" / IDENTITY).read_text())
        (folder / "fast" / IDENTITY).write_text(json.dumps(stamped | {"generation": 1}))
    async with owning("fast", "slow") as owner:
        before = (await owner.site()).restored_at
        (folder / "away").rename(folder / "slow")

        await owner.look()

        site = await owner.site()
        assert before is None
        assert "store 'slow' has seen generation 3, the catalog is at 1" in site.restored_why
        assert site.generation == owner.stamp_of("fast") == owner.stamp_of("slow")
        assert [store.problem for store in owner.stores] == [None, None]


async def test_a_new_store_is_registered_when_it_can_be_used_at_last(owning):
    async with owning() as owner:
        (owner.folder / "slow").mkdir()
        (owner.folder / "slow" / "somebody's").touch()
    async with owning("fast", "slow") as owner:
        before = await owner.registered()
        (owner.folder / "slow" / "somebody's").unlink()

        await owner.look()

        assert (before, await owner.registered()) == (["fast"], ["fast", "slow"])
        assert owner.stamp_of("slow") == 2


async def test_a_store_that_was_given_another_name_is_refused(owning, tmp_path):
    async with owning("fast"):
        pass
    for end in ("", "-staging"):
        (tmp_path / f"fast{end}").rename(tmp_path / f"quick{end}")

    async with owning("quick", begins=False) as owner:
        with pytest.raises(ConfigurationError, match="the store 'quick' is known to this catalog as 'fast'"):
            await owner.ownership.begin(NAME)


async def test_looking_again_changes_nothing(owning):
    async with owning() as owner:
        statements = owner.catalog.statements

        await owner.look()

        assert owner.catalog.statements == statements


async def test_a_lock_that_cannot_be_confirmed_for_long_ends_the_ownership(owning, silence):
    async with owning(ends_at=1000) as owner:
        silence.begin()

        with pytest.raises(OwnedElsewhere, match="could not be confirmed for 15 s"):
            await owner.ownership.watch()

        assert owner.hours.now == UNCONFIRMED_SECONDS


async def test_a_short_silence_is_forgiven(owning, silence):
    async with owning(ends_at=100) as owner:
        silence.begin()
        owner.hours.at[UNCONFIRMED_SECONDS - CONFIRM_SECONDS] = silence.end

        with pytest.raises(Over):
            await owner.ownership.watch()

        await owner.write()


async def test_an_owner_that_was_overtaken_during_a_silence_stops(owning, silence):
    async with owning(ends_at=100) as owner:
        silence.begin()

        def another_was_there() -> None:
            silence.end()
            asyncio.run(owner.set_back(generation=9))

        owner.hours.at[CONFIRM_SECONDS * 2] = another_was_there

        with pytest.raises(OwnedElsewhere, match=r"the catalog is now at .*9"):
            await owner.ownership.watch()
