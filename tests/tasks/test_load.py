"""Copies onto other stores of ours, on both databases: what is made, when, and what becomes of what goes wrong."""

import os
import stat

import pytest
from sqlalchemy import text

from librarian.catalog.due_totals import loading_subject
from librarian.catalog.instances import NewInstance
from librarian.names import FileName, SiteName, StoreName
from librarian.states import DueState, Reach, VerifiedFrom
from librarian.tasks.load import Load
from librarian.tasks.reread import Reread
from librarian.timing import plenty_of_time, utc_now
from tests.holding import hold
from tests.loading import assert_sound, dues_of, load, rule, stores_of
from tests.site_fixtures import opened_site
from tests.uploading import alerts_of, committed, ingest, story_of, tally_of

GOOD = ("present", "cache")


@pytest.fixture
async def site(database_url, tmp_path):
    """A site with three stores; files are held on the first."""
    async with opened_site(database_url, tmp_path / "chajnantor", stores=("fast", "slow", "spare")) as opened:
        async with opened.catalog.begin() as tx:
            for name in ("slow", "spare"):
                await tx.stores.set_open(StoreName(name), is_open=True)
        yield opened


@pytest.fixture
async def one_database(sqlite_url, tmp_path):
    """The same, where the database makes no difference."""
    async with opened_site(sqlite_url, tmp_path / "chajnantor", stores=("fast", "slow", "spare")) as opened:
        yield opened


def path_on(site, store, name):
    return site.stores.lookup(store).path_of(FileName(name))


async def rule_id(site, name="copies"):
    async with site.catalog.read() as tx:
        return (await tx.rules.find(name)).id


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def damage(path, content):
    path.chmod(0o644)
    path.write_bytes(content)


async def suspect(site, name, store):
    async with site.catalog.begin() as tx:
        file = (await tx.files.named([FileName(name)]))[FileName(name)]
        await tx.suspects.mark([file.id], store=StoreName(store))


async def test_a_rule_copies_what_is_there_already(site):
    await hold(site, "2026/a", b"truth")
    await hold(site, "2026/book", {"data": b"members", "empty": None})
    await rule(site, "slow")
    owed = await tally_of(site, loading_subject(await rule_id(site)))

    await load(site)

    assert owed == (2, 12)
    assert await stores_of(site, "2026/a") == {"fast": GOOD, "slow": GOOD}
    assert await stores_of(site, "2026/book") == {"fast": GOOD, "slow": GOOD}
    assert path_on(site, "slow", "2026/a").read_bytes() == b"truth"
    assert path_on(site, "slow", "2026/book/empty").is_dir()
    assert await dues_of(site, "2026/a") == ()
    assert await tally_of(site, loading_subject(await rule_id(site))) == (0, 0)
    assert await story_of(site, "2026/a") == ["ingested", "copy ingested"]


async def test_what_arrives_is_copied_at_once_and_no_second_time(site):
    await rule(site, "slow", "spare")
    async with site.catalog.begin() as tx:
        await tx.stores.set_open(StoreName("slow"), is_open=False)
        await tx.stores.set_open(StoreName("spare"), is_open=False)
    await committed(site, "new", b"fresh")
    async with site.catalog.begin() as tx:
        await tx.stores.set_open(StoreName("slow"), is_open=True)
    await ingest(site)

    await load(site)
    await load(site)

    assert await stores_of(site, "new") == {"fast": GOOD, "slow": GOOD}
    assert await dues_of(site, "new") == ()


async def test_a_copy_on_each_store_is_made_on_each(site):
    await hold(site, "a", b"truth")
    await rule(site, "slow", "spare", copies="each")
    owed = {due.store for due in await dues_of(site, "a")}

    await load(site)

    assert owed == {"slow", "spare"}
    assert await stores_of(site, "a") == {"fast": GOOD, "slow": GOOD, "spare": GOOD}
    assert await dues_of(site, "a") == ()


async def test_a_copy_is_staged_as_its_store_is_set_up_and_stands_read_only_for_all(sqlite_url, tmp_path):
    def shares_staging(settings):
        slow = settings.stores[1].model_copy(update={"takes_foreign_writes": True, "staging_mode": "2775"})
        return settings.model_copy(update={"stores": (settings.stores[0], slow)})

    opening = opened_site(sqlite_url, tmp_path / "chajnantor", stores=("fast", "slow"), change=shares_staging)
    before = os.umask(0o077)
    try:
        async with opening as site:
            async with site.catalog.begin() as tx:
                await tx.stores.set_open(StoreName("slow"), is_open=True)
            await hold(site, "2026/book", {"deep/data": b"members"})
            await rule(site, "slow")
            await Load(site).run_pass(plenty_of_time())
            slow = site.stores.lookup("slow")
            staged = [mode_of(each) for each in slow.staging.iterdir() if not each.name.startswith(".")]
            await ingest(site)
    finally:
        os.umask(before)

    assert staged == [0o2775]
    assert {str(path.relative_to(slow.root)): mode_of(path) for path in slow.root.rglob("*")} == {
        ".librarian-store": 0o644,
        "2026": 0o755,
        "2026/book": 0o555,
        "2026/book/deep": 0o555,
        "2026/book/deep/data": 0o444,
    }


async def test_one_store_that_is_closed_keeps_no_copy_from_the_other(site):
    await hold(site, "a", b"truth")
    await rule(site, "slow", "spare", copies="each")
    async with site.catalog.begin() as tx:
        await tx.stores.set_open(StoreName("slow"), is_open=False)

    await load(site)

    assert await stores_of(site, "a") == {"fast": GOOD, "spare": GOOD}
    assert [due.store for due in await dues_of(site, "a")] == ["slow"]


async def test_what_is_on_one_of_the_stores_already_owes_nothing(site):
    await hold(site, "a", b"truth", store="slow")

    await rule(site, "s*")

    assert await dues_of(site, "a") == ()


async def test_only_what_a_rule_asks_for_is_copied(site):
    await hold(site, "2026/a", b"one")
    await hold(site, "2025/a", b"two")
    await hold(site, "2026/b", b"three", store="spare")

    await rule(site, "slow", match=["2026/*"], from_store="fast")
    await load(site)

    assert set(await stores_of(site, "2026/a")) == {"fast", "slow"}
    assert set(await stores_of(site, "2025/a")) == {"fast"}
    assert set(await stores_of(site, "2026/b")) == {"spare"}


async def test_a_bad_source_is_found_blamed_and_replaced_by_another(site):
    await hold(site, "a", b"truth")
    await rule(site, "slow")
    await load(site)
    damage(path_on(site, "fast", "a"), b"trash")

    await rule(site, "spare", name="third")
    await load(site)
    doubted = await stores_of(site, "a")
    await Reread(site).run_pass(plenty_of_time())

    assert doubted == {"fast": ("suspect", "cache"), "slow": GOOD, "spare": GOOD}
    assert (await stores_of(site, "a"))["fast"] == ("corrupt", "cache")
    assert path_on(site, "spare", "a").read_bytes() == b"truth"
    assert "doubted on fast" in await story_of(site, "a")


async def test_the_only_source_being_bad_nothing_is_copied_until_a_good_one_comes(site):
    await hold(site, "a", b"truth")
    damage(path_on(site, "fast", "a"), b"trash")
    await rule(site, "slow")

    await load(site)
    (blocked,) = await dues_of(site, "a")
    await Reread(site).run_pass(plenty_of_time())

    assert blocked.state is DueState.BLOCKED
    assert set(await stores_of(site, "a")) == {"fast"}
    assert not path_on(site, "slow", "a").exists()
    await assert_sound(site, "slow")


async def test_a_copy_that_is_lost_is_owed_and_made_again(site):
    await hold(site, "a", b"truth")
    await rule(site, "slow")
    await load(site)
    path_on(site, "slow", "a").unlink()
    await suspect(site, "a", "slow")

    await Reread(site).run_pass(plenty_of_time())
    owed = await dues_of(site, "a")
    await load(site)

    assert [due.state for due in owed] == [DueState.DUE]
    assert await stores_of(site, "a") == {"fast": GOOD, "slow": GOOD}
    assert path_on(site, "slow", "a").read_bytes() == b"truth"
    await assert_sound(site, "slow")


async def test_a_copy_that_went_bad_on_its_store_is_replaced(site):
    await hold(site, "a", b"truth")
    await rule(site, "slow")
    await load(site)
    damage(path_on(site, "slow", "a"), b"trash")
    await suspect(site, "a", "slow")
    await Reread(site).run_pass(plenty_of_time())

    await load(site)

    assert await stores_of(site, "a") == {"fast": GOOD, "slow": GOOD}
    assert path_on(site, "slow", "a").read_bytes() == b"truth"


async def test_other_bytes_under_the_name_are_left_alone_and_told(site):
    await hold(site, "a", b"truth")
    path_on(site, "slow", "a").write_bytes(b"something else")
    await rule(site, "slow")

    await load(site)

    (due,) = await dues_of(site, "a")
    assert path_on(site, "slow", "a").read_bytes() == b"something else"
    assert (due.state, due.code, due.attempts) == (DueState.DUE, "name_taken_on_disk", 1)
    assert await alerts_of(site) == ["name_taken_on_disk:slow:a"]


async def test_equal_bytes_that_stand_there_already_are_adopted(site):
    await hold(site, "a", b"truth")
    path_on(site, "slow", "a").write_bytes(b"truth")
    await rule(site, "slow")

    await load(site)

    assert await stores_of(site, "a") == {"fast": GOOD, "slow": GOOD}


async def test_what_was_being_copied_when_the_server_died_is_due_again(site):
    await hold(site, "a", b"truth")
    await rule(site, "slow")
    killed = Load(site)
    killed._view = await killed._look()
    async with site.catalog.begin() as tx:
        claimed = await killed.plan(tx)

    async with site.catalog.begin() as tx:
        await Load(site).recover(tx)
    (due,) = await dues_of(site, "a")
    await load(site)

    assert [copy.due.name for copy in claimed.copies] == ["a"]
    assert due.state is DueState.DUE
    assert await stores_of(site, "a") == {"fast": GOOD, "slow": GOOD}


async def test_a_rule_that_was_changed_copies_nothing_twice(site):
    await hold(site, "a", b"truth")
    await rule(site, "slow")
    await load(site)

    await rule(site, "slow", "spare")
    await load(site)

    assert set(await stores_of(site, "a")) == {"fast", "slow"}
    assert await dues_of(site, "a") == ()


async def test_what_was_removed_on_purpose_is_not_copied_again(site):
    await hold(site, "a", b"truth")
    await rule(site, "slow", "spare")
    await _remove_on_purpose(site, "a", "slow")

    await load(site)

    assert await dues_of(site, "a") == ()
    assert not path_on(site, "spare", "a").exists()


async def _remove_on_purpose(site, name, store):
    """As a drive that is released leaves it."""
    async with site.catalog.begin() as tx:
        file = (await tx.files.named([FileName(name)]))[FileName(name)]
        await tx.instances.add(
            [
                NewInstance(
                    file_id=file.id, store=StoreName(store), verified_at=utc_now(), verified_from=VerifiedFrom.CACHE
                )
            ]
        )
        await tx._connection.execute(
            text("UPDATE instances SET presence = 'removed' WHERE store_id = (SELECT id FROM stores WHERE name = :s)"),
            {"s": store},
        )


async def test_rules_onto_stores_are_no_business_of_those_who_send(site):
    await _knows_nersc(site)
    await hold(site, "a", b"truth")
    await rule(site, "A*", name="by-post", peer="nersc")
    await rule(site, "slow")

    async with site.catalog.read() as tx:
        nersc = await tx.peers.get("nersc")
        assert await tx.waiting.peers(utc_now()) == ()
        assert await tx.waiting.rules(nersc.id, now=utc_now()) == ()
        assert (await tx.tallies.of(f"due:{nersc.id}")).files == 0
    assert {due.rule: (due.state, due.peer) for due in await dues_of(site, "a")} == {
        "by-post": (DueState.DUE, "nersc"),
        "copies": (DueState.DUE, None),
    }


async def _knows_nersc(site):
    async with site.catalog.begin() as tx:
        await tx.peers.add(
            SiteName("nersc"), url="", username="", secret=b"", reach=Reach.PUSH, accepts=[""], entry_points=[]
        )


async def test_what_a_peer_holds_need_not_be_carried_to_it(site):
    await _knows_nersc(site)
    await hold(site, "a", b"truth")
    await rule(site, "A*", name="by-post", peer="nersc")

    async with site.catalog.begin() as tx:
        nersc = await tx.peers.get("nersc")
        file = (await tx.files.named([FileName("a")]))[FileName("a")]
        await tx.copies_due.paid(nersc.id, [file.id])

    assert await dues_of(site, "a") == ()
    assert await tally_of(site, loading_subject(await rule_id(site, "by-post"))) == (0, 0)
