"""What a store cannot keep, on both databases."""

from datetime import timedelta

import pytest

from librarian.catalog.loading import ANY_STORE, Owed, Setback
from librarian.catalog.misfits import MISFIT, Misfit
from librarian.names import StoreName
from librarian.states import DueState
from librarian.timing import utc_now
from tests.holding import hold
from tests.loading import dues_of, rule
from tests.site_fixtures import opened_site
from tests.uploading import file_called


@pytest.fixture
async def site(database_url, tmp_path):
    """A site with two stores."""
    async with opened_site(database_url, tmp_path / "chajnantor", stores=("fast", "slow")) as opened:
        yield opened


async def test_a_store_refuses_a_file_until_it_is_forgotten(site):
    for name in ("a", "b"):
        await hold(site, name, b"truth")
    a, b = [(await file_called(site, name)).id for name in ("a", "b")]
    fast, slow = StoreName("fast"), StoreName("slow")
    async with site.catalog.begin() as tx:
        found = [Misfit(file_id=a, store=store, reason=f"not on {store}") for store in (fast, slow)]
        await tx.misfits.add([*found, Misfit(file_id=b, store=fast, reason="nor this")])
        await tx.misfits.add(found)
        known = await tx.misfits.of_files([a, b])
        await tx.misfits.forget((await tx.stores.by_name())[fast].id)
        after = await tx.misfits.of_files([a, b])
        await tx.misfits.forget()
        at_last = await tx.misfits.of_files([a, b])

    assert known == {a: {fast: "not on fast", slow: "not on slow"}, b: {fast: "nor this"}}
    assert (after, at_last) == ({a: {slow: "not on slow"}}, {})


async def test_what_no_store_could_keep_is_due_when_another_comes(site):
    for name in ("a", "b"):
        await hold(site, name, b"truth")
    await rule(site, "slow")
    later = utc_now() + timedelta(hours=1)
    dues = [(await dues_of(site, name))[0] for name in ("a", "b")]
    async with site.catalog.begin() as tx:
        rule_id = (await tx.rules.find("copies")).id
        await tx.loading.put_off(
            [
                Setback(
                    owed=Owed(file_id=due.file_id, rule_id=rule_id, store=StoreName("slow")),
                    state=DueState.DUE,
                    next_try_at=later,
                    code=code,
                    reason="",
                )
                for due, code in zip(dues, (MISFIT, "away"), strict=True)
            ]
        )
        await tx.misfits.add([Misfit(file_id=due.file_id, store=StoreName("slow"), reason="") for due in dues])
        await tx.misfits.look_again()

    (a,), (b,) = await dues_of(site, "a"), await dues_of(site, "b")
    assert a.next_try_at < later == b.next_try_at


async def test_what_was_put_aside_after_it_was_chosen_is_not_claimed(site):
    await hold(site, "a", b"truth")
    await rule(site, "slow")
    async with site.catalog.begin() as tx:
        chosen = await tx.loading.candidates(
            (await tx.rules.find("copies")).id, store=ANY_STORE, now=utc_now(), since=None, largest=5, limit=1
        )
        owed = Owed(file_id=chosen[0].file_id, rule_id=chosen[0].rule_id, store=StoreName("slow"))
        aside = Setback(owed=owed, state=DueState.QUARANTINED, next_try_at=utc_now(), code="name_held", reason="")
        await tx.loading.put_off([aside])
        await tx.loading.claim(chosen)

    assert [due.state for due in await dues_of(site, "a")] == [DueState.QUARANTINED]
