"""Accounts as rows."""

import asyncio

import pytest

from librarian.catalog.database import Catalog
from librarian.errors import Conflict, NotFound
from librarian.names import AccountName
from librarian.states import Role

ADMIN = frozenset({Role.ADMIN})
READER = frozenset({Role.READER})


@pytest.fixture
async def catalog(database_url):
    async with Catalog(database_url) as opened:
        yield opened


async def create(catalog, name, roles):
    async with catalog.begin() as tx:
        return await tx.accounts.create(AccountName(name), password_hash="$hash", roles=roles)


async def test_a_created_account_is_enabled_and_found(catalog):
    created = await create(catalog, "ana", READER | {Role.CALLBACK})

    async with catalog.read() as tx:
        found = await tx.accounts.get("ana")
        login = await tx.accounts.login_of("ana")

    assert found == created
    assert found.roles == {Role.READER, Role.CALLBACK}
    assert found.is_enabled
    assert (login.account, login.password_hash, login.next_hash) == (created, "$hash", None)


async def test_accounts_are_listed_by_name(catalog):
    for name in ("zoe", "ana", "bob"):
        await create(catalog, name, READER)

    async with catalog.read() as tx:
        names = [account.name for account in await tx.accounts.all()]
        count = await tx.accounts.count()

    assert names == ["ana", "bob", "zoe"]
    assert count == 3


async def test_a_name_is_given_once(catalog):
    await create(catalog, "ana", READER)

    with pytest.raises(Conflict):
        await create(catalog, "ana", ADMIN)


async def test_two_who_create_one_name_at_once_get_one_account(catalog):
    outcomes = await asyncio.gather(*(create(catalog, "ana", READER) for _ in range(4)), return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Account", "Conflict", "Conflict", "Conflict"]


async def test_an_unknown_account_is_not_found(catalog):
    async with catalog.read() as tx:
        with pytest.raises(NotFound):
            await tx.accounts.get("nobody")
        assert await tx.accounts.login_of("nobody") is None


@pytest.mark.parametrize(
    "change",
    [{"roles": ADMIN}, {"password_hash": "$other"}, {"is_enabled": False}],
    ids=lambda change: next(iter(change)),
)
async def test_every_change_gives_the_account_a_new_version(catalog, change):
    before = await create(catalog, "ana", READER)

    async with catalog.begin() as tx:
        after = await tx.accounts.change("ana", **change)

    assert after.version == before.version + 1


async def test_a_change_leaves_the_rest_as_it_was(catalog):
    await create(catalog, "ana", READER)

    async with catalog.begin() as tx:
        await tx.accounts.change("ana", is_enabled=False)
        login = await tx.accounts.login_of("ana")

    assert (login.account.roles, login.account.is_enabled, login.password_hash) == (READER, False, "$hash")


@pytest.mark.parametrize("change", [{"roles": READER}, {"is_enabled": False}], ids=["demoted", "disabled"])
async def test_the_last_enabled_admin_stays_one(catalog, change):
    await create(catalog, "root", ADMIN)
    await create(catalog, "asleep", ADMIN)
    async with catalog.begin() as tx:
        await tx.accounts.change("asleep", is_enabled=False)

    with pytest.raises(Conflict):
        async with catalog.begin() as tx:
            await tx.accounts.change("root", **change)


async def test_two_admins_cannot_disable_each_other_at_once(catalog):
    await create(catalog, "root", ADMIN)
    await create(catalog, "toor", ADMIN)

    async def disable(name):
        async with catalog.begin() as tx:
            await tx.accounts.change(name, is_enabled=False)

    outcomes = await asyncio.gather(disable("root"), disable("toor"), return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "NoneType"]
    async with catalog.read() as tx:
        assert [account.is_enabled for account in await tx.accounts.all()].count(True) == 1


async def test_a_disabled_admin_may_be_demoted(catalog):
    await create(catalog, "root", ADMIN)
    await create(catalog, "old", ADMIN)

    async with catalog.begin() as tx:
        await tx.accounts.change("old", is_enabled=False)
        demoted = await tx.accounts.change("old", roles=READER)

    assert demoted.roles == READER
