"""Who may come in, at what cost, and what is never told."""

import asyncio
import base64
import logging
import time

import pytest
from aiohttp.test_utils import make_mocked_request
from argon2 import PasswordHasher

from librarian.auth import LOGIN_SECONDS, OPERATOR, Doorkeeper, check_password, ensure_first_admin, implied, require
from librarian.catalog.database import Catalog
from librarian.doors import Addresses, Throttle
from librarian.errors import BadRequest, ConfigurationError, Forbidden, Throttled, Unauthenticated
from librarian.names import AccountName
from librarian.states import Role

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class CountingHasher(PasswordHasher):
    """Cheap, and counts what it is asked to verify."""

    def __init__(self):
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified = 0

    def verify(self, hash, password):  # noqa: A002
        self.verified += 1
        return super().verify(hash, password)


@pytest.fixture
async def catalog(sqlite_url):
    async with Catalog(sqlite_url) as opened:
        yield opened


@pytest.fixture
def hasher():
    return CountingHasher()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def doorkeeper(catalog, hasher, clock):
    opened = Doorkeeper(catalog, hasher=hasher, throttle=Throttle(clock=clock), clock=clock)
    async with catalog.begin() as tx:
        await tx.accounts.create(AccountName("ana"), password_hash=CHEAP.hash(PASSWORD), roles=frozenset({Role.READER}))
    return opened


def a_request(name="ana", password=PASSWORD, **headers):
    token = base64.b64encode(f"{name}:{password}".encode()).decode()
    return make_mocked_request("GET", "/", headers={"Authorization": f"Basic {token}", **headers})


async def test_the_right_password_opens(doorkeeper):
    account = await doorkeeper.admit(a_request())

    assert account.name == "ana"
    assert account.roles == {Role.READER}


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic !", "Basic YW5h", "Bearer abc", "Basic " + "A" * 5000, "Basic /////w==", "Digest x"],
)
async def test_a_broken_authorization_header_is_not_a_login(doorkeeper, header):
    request = make_mocked_request("GET", "/", headers={"Authorization": header})

    with pytest.raises(Unauthenticated):
        await doorkeeper.admit(request)


async def test_no_credentials_are_not_a_login(doorkeeper):
    with pytest.raises(Unauthenticated):
        await doorkeeper.admit(make_mocked_request("GET", "/"))


@pytest.mark.parametrize("name", ["bob", "", "No Such\x00Name", "a" * 2000])
async def test_an_unknown_name_costs_as_much_hashing_as_a_known_one(doorkeeper, hasher, name):
    with pytest.raises(Unauthenticated):
        await doorkeeper.admit(a_request(name=name[:500]))

    assert hasher.verified == 1


async def test_unknown_name_wrong_password_and_disabled_account_are_told_alike(doorkeeper, catalog):
    async with catalog.begin() as tx:
        await tx.accounts.create(AccountName("off"), password_hash=CHEAP.hash(PASSWORD), roles=frozenset({Role.READER}))
        await tx.accounts.change("off", is_enabled=False)

    told = set()
    for request in (a_request(name="bob"), a_request(password="wrong horse"), a_request(name="off")):
        with pytest.raises(Unauthenticated) as refusal:
            await doorkeeper.admit(request)
        told.add((refusal.value.message, refusal.value.remedy))

    assert len(told) == 1


async def test_a_cached_login_needs_neither_the_database_nor_a_hash(doorkeeper, catalog, hasher):
    await doorkeeper.admit(a_request())
    statements, verified = catalog.statements, hasher.verified

    account = await doorkeeper.admit(a_request())

    assert account.name == "ana"
    assert (catalog.statements, hasher.verified) == (statements, verified)


async def test_a_changed_password_ends_the_cached_login(doorkeeper, catalog):
    await doorkeeper.admit(a_request())
    async with catalog.begin() as tx:
        await tx.accounts.change("ana", password_hash=CHEAP.hash("another horse"))
    doorkeeper.forget("ana")

    with pytest.raises(Unauthenticated):
        await doorkeeper.admit(a_request())

    assert (await doorkeeper.admit(a_request(password="another horse"))).name == "ana"


async def test_a_disabled_account_cannot_go_on_with_its_cached_login(doorkeeper, catalog):
    await doorkeeper.admit(a_request())
    async with catalog.begin() as tx:
        await tx.accounts.change("ana", is_enabled=False)
    doorkeeper.forget("ana")

    with pytest.raises(Unauthenticated):
        await doorkeeper.admit(a_request())


async def test_a_login_that_was_verified_while_the_account_changed_is_not_cached(catalog, clock):
    class Meddling(CountingHasher):
        def verify(self, hash, password):  # noqa: A002
            doorkeeper.forget("ana")
            return super().verify(hash, password)

    hasher = Meddling()
    doorkeeper = Doorkeeper(catalog, hasher=hasher, throttle=Throttle(clock=clock))
    async with catalog.begin() as tx:
        await tx.accounts.create(AccountName("ana"), password_hash=CHEAP.hash(PASSWORD), roles=frozenset({Role.READER}))

    await doorkeeper.admit(a_request())
    await doorkeeper.admit(a_request())

    assert hasher.verified == 2


async def test_many_calls_with_one_new_login_hash_once_or_twice(doorkeeper, hasher):
    admitted = await asyncio.gather(*(doorkeeper.admit(a_request()) for _ in range(30)))

    assert len(admitted) == 30
    assert hasher.verified <= 2


async def test_failed_attempts_are_made_to_wait(doorkeeper, clock):
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await doorkeeper.admit(a_request(password="wrong horse"))

    with pytest.raises(Throttled) as refusal:
        await doorkeeper.admit(a_request())

    assert refusal.value.details["retry_after"] >= 1
    clock.now += refusal.value.details["retry_after"]
    assert (await doorkeeper.admit(a_request())).name == "ana"


async def test_a_throttled_attempt_costs_no_hashing(doorkeeper, hasher):
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await doorkeeper.admit(a_request(password="wrong horse"))
    verified = hasher.verified

    with pytest.raises(Throttled):
        await doorkeeper.admit(a_request(password="wrong horse"))

    assert hasher.verified == verified


async def test_a_login_that_is_verified_anew_is_not_throttled_either(doorkeeper, clock, hasher):
    await doorkeeper.admit(a_request())
    clock.now += LOGIN_SECONDS + 1
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await doorkeeper.admit(a_request(password="wrong horse"))
    verified = hasher.verified

    account = await doorkeeper.admit(a_request())

    assert (account.name, hasher.verified) == ("ana", verified + 1)


async def test_a_correct_cached_login_is_never_throttled(doorkeeper):
    await doorkeeper.admit(a_request())
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await doorkeeper.admit(a_request(password="wrong horse"))

    with pytest.raises(Throttled):
        await doorkeeper.admit(a_request(password="wrong horse"))

    assert (await doorkeeper.admit(a_request())).name == "ana"


def test_one_address_trying_many_names_is_throttled(clock):
    throttle = Throttle(clock=clock)
    for number in range(20):
        throttle.failed(address="10.0.0.1", account=f"name{number}")

    with pytest.raises(Throttled):
        throttle.check(address="10.0.0.1", account="somebody-else")

    throttle.check(address="10.0.0.2", account="somebody-else")


def test_one_account_tried_from_many_addresses_is_throttled(clock):
    throttle = Throttle(clock=clock)
    for number in range(100):
        throttle.failed(address=f"10.0.{number}.1", account="ana")

    with pytest.raises(Throttled):
        throttle.check(address="10.9.9.9", account="ana")


def test_waits_double_up_to_a_minute_and_failures_are_forgotten(clock):
    throttle = Throttle(clock=clock)
    waits = []
    for _ in range(15):
        throttle.failed(address="a", account="ana")
        try:
            throttle.check(address="a", account="ana")
        except Throttled as refusal:
            waits.append(refusal.details["retry_after"])

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]

    clock.now += 1000
    throttle.failed(address="a", account="ana")
    throttle.check(address="a", account="ana")


def test_the_throttle_remembers_a_bounded_number_of_sources(clock):
    throttle = Throttle(clock=clock)

    for number in range(12_000):
        throttle.failed(address=f"address-{number}", account=f"account-{number}")

    assert len(throttle._failures) <= 10_000


@pytest.mark.parametrize(
    ("trusted", "forwarded", "expected"),
    [
        ((), "1.2.3.4", "127.0.0.1"),
        (("10.0.0.0/8",), "1.2.3.4", "127.0.0.1"),
        (("127.0.0.1",), "1.2.3.4", "1.2.3.4"),
        (("127.0.0.1",), "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        (("127.0.0.1", "10.0.0.0/8"), "6.6.6.6, 1.2.3.4, 10.1.1.1", "1.2.3.4"),
        (("127.0.0.1",), "garbage", "127.0.0.1"),
        (("127.0.0.1",), "::1", "::1"),
    ],
)
def test_the_address_behind_a_proxy_counts_only_if_the_proxy_is_trusted(trusted, forwarded, expected):
    request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": forwarded}).clone(remote="127.0.0.1")

    assert Addresses(trusted).of(request) == expected


def test_a_trusted_proxy_that_is_no_address_is_refused():
    with pytest.raises(ConfigurationError):
        Addresses(["not-an-address"])


@pytest.mark.parametrize(
    ("mine", "wanted"),
    [
        (Role.ADMIN, Role.UPLOADER),
        (Role.ADMIN, Role.READER),
        (Role.UPLOADER, Role.READER),
        (Role.READER, Role.READER),
        (Role.UPSTREAM, Role.UPSTREAM),
        (Role.CALLBACK, Role.CALLBACK),
    ],
)
def test_a_role_includes_those_below_it(mine, wanted):
    assert wanted in implied([mine])


@pytest.mark.parametrize("peer_role", [Role.UPSTREAM, Role.CALLBACK])
def test_the_roles_of_peers_include_nothing_and_are_included_in_nothing(peer_role):
    assert implied([peer_role]) == {peer_role}
    assert peer_role not in implied([Role.ADMIN])


def test_a_missing_role_is_refused_with_the_roles_that_would_do():
    with pytest.raises(Forbidden) as refusal:
        require(OPERATOR, frozenset({Role.UPSTREAM}))

    assert refusal.value.details == {"roles": ["upstream"]}


@pytest.mark.parametrize("password", ["", "tiny", "x" * 300, "ü" * 129, "with\nnewline", "with\x7fdelete"])
def test_a_useless_password_is_refused_without_repeating_it(password):
    with pytest.raises(BadRequest) as refusal:
        check_password(password)

    assert not password or password not in str(refusal.value.message) + refusal.value.remedy


async def test_where_there_is_an_account_no_admin_is_made(catalog, doorkeeper):
    assert await ensure_first_admin(catalog, doorkeeper) is None


async def test_an_empty_catalog_gets_an_admin_whose_password_works(sqlite_url, hasher):
    async with Catalog(sqlite_url) as catalog:
        doorkeeper = Doorkeeper(catalog, hasher=hasher)

        password = await ensure_first_admin(catalog, doorkeeper)

        assert (await doorkeeper.admit(a_request("admin", password))).roles == {Role.ADMIN}
        assert await ensure_first_admin(catalog, doorkeeper) is None


async def test_passwords_show_in_no_log_error_or_repr(doorkeeper, caplog):
    caplog.set_level(logging.DEBUG)

    await doorkeeper.admit(a_request())
    with pytest.raises(Unauthenticated) as refusal:
        await doorkeeper.admit(a_request(password="wrong-and-secret"))

    shown = caplog.text + repr(doorkeeper) + repr(refusal.value) + str(doorkeeper._logins)
    assert PASSWORD not in shown
    assert "wrong-and-secret" not in shown
    assert "argon2" not in shown


async def test_an_unknown_name_takes_the_time_of_a_known_one(catalog):
    doorkeeper = Doorkeeper(catalog, throttle=Throttle(free_both=99, free_address=99))
    async with catalog.begin() as tx:
        await tx.accounts.create(
            AccountName("ana"), password_hash=PasswordHasher().hash(PASSWORD), roles=frozenset({Role.READER})
        )

    async def cost_of(name):
        best = 9.9
        for _ in range(4):
            started = time.process_time()
            with pytest.raises(Unauthenticated):
                await doorkeeper.admit(a_request(name=name, password="wrong horse"))
            best = min(best, time.process_time() - started)
        return best

    known, unknown = await cost_of("ana"), await cost_of("bob")

    assert 0.6 < known / unknown < 1.7
