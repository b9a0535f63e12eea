"""Who is calling, and what may they do: HTTP Basic over argon2id, with a cache of verified logins.

A login costs about 100 ms and 64 MiB once; afterwards one HMAC. A verified login is kept as
HMAC(credential, account version) under a key that never leaves this process, and dropped when the account changes.
Every write to accounts passes through the process that owns the catalog, so that no cached login outlives a change.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.to_thread
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from librarian.catalog.records import Account, Happening
from librarian.catalog.records import Login as KnownLogin
from librarian.doors import Addresses, Throttle
from librarian.errors import BadName, BadRequest, Forbidden, Throttled, Unauthenticated
from librarian.guard import forbid_io_in_transaction
from librarian.names import AccountId, AccountName
from librarian.states import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aiohttp import web

    from librarian.catalog.database import Catalog

Result = TypeVar("Result")

#: Each verification takes 64 MiB: two at once, and no more than this many waiting.
HASHES_AT_ONCE: Final = 2
HASHES_WAITING: Final = 64
#: A cached login is verified anew after this long, in seconds.
LOGIN_SECONDS: Final = 3600.0
#: Shortest and longest password, in characters and in bytes. Length is the one rule that helps.
PASSWORD_CHARACTERS: Final = 8
PASSWORD_BYTES: Final = 256
#: Longest Authorization header that is looked at.
_HEADER_CHARACTERS: Final = 2048

_BELOW: Final[dict[Role, frozenset[Role]]] = {
    Role.ADMIN: frozenset({Role.ADMIN, Role.UPLOADER, Role.READER}),
    Role.UPLOADER: frozenset({Role.UPLOADER, Role.READER}),
    Role.READER: frozenset({Role.READER}),
    Role.UPSTREAM: frozenset({Role.UPSTREAM}),
    Role.CALLBACK: frozenset({Role.CALLBACK}),
}

#: Whoever may open the admin socket: the file's permission is the credential.
OPERATOR: Final = Account(
    id=AccountId(0),
    name=AccountName("operator"),
    roles=frozenset({Role.ADMIN}),
    is_enabled=True,
    version=0,
    created_at=datetime(1970, 1, 1, tzinfo=UTC),
)


def implied(roles: Iterable[Role]) -> frozenset[Role]:
    """*roles* with all that they include: admin ⊃ uploader ⊃ reader; upstream and callback include nothing."""
    return frozenset().union(*(_BELOW[role] for role in roles))


def require(account: Account, roles: frozenset[Role]) -> None:
    """Pass if *account* has one of *roles*, or a role that includes one.

    Raises
    ------
    Forbidden
        It has none.
    """
    if any(role in roles for mine in account.roles for role in _BELOW[mine]):
        return
    wanted = sorted(roles)
    raise Forbidden(
        f"the account {account.name!r} lacks the role for this",
        remedy=f"Ask an admin for one of: {', '.join(wanted)}.",
        details={"roles": wanted},
    )


def check_password(password: str) -> None:
    """Refuse a password that cannot be used: 8 characters to 256 bytes, without control characters.

    Raises
    ------
    BadRequest
        It breaks the rule; the message does not repeat it.
    """
    remedy = f"Choose {PASSWORD_CHARACTERS} characters to {PASSWORD_BYTES} bytes without control characters."
    if len(password) < PASSWORD_CHARACTERS:
        raise BadRequest("the password is too short", remedy=remedy)
    try:
        size = len(password.encode())
    except UnicodeEncodeError as error:
        raise BadRequest("the password is not valid text", remedy=remedy) from error
    if size > PASSWORD_BYTES:
        raise BadRequest("the password is too long", remedy=remedy)
    if any(ord(character) < 32 or ord(character) == 127 for character in password):
        raise BadRequest("the password has a control character", remedy=remedy)


@dataclass(frozen=True, slots=True)
class _Login:
    mac: bytes
    account: Account
    ends_at: float


class Doorkeeper:
    """Knows who is calling. One per site."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        trusted_proxies: Sequence[str] = (),
        hasher: PasswordHasher | None = None,
        throttle: Throttle | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._addresses = Addresses(trusted_proxies)
        self._hasher = hasher or PasswordHasher()
        self._throttle = throttle or Throttle()
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._logins: dict[str, _Login] = {}
        self._gate = asyncio.Semaphore(HASHES_AT_ONCE)
        self._threads = anyio.CapacityLimiter(HASHES_AT_ONCE)
        self._waiting = 0
        self._dummy_hash: str | None = None
        #: Grows with every change, so that a verification that began before a change is not cached after it.
        self._changes = 0

    def __repr__(self) -> str:
        return f"Doorkeeper({len(self._logins)} cached logins)"

    async def admit(self, request: web.Request) -> Account:
        """The account that *request* is made under.

        Raises
        ------
        Unauthenticated
            No credentials, or wrong ones, or a disabled account: which of these is not told.
        Throttled
            Too many wrong attempts came from the address or for the account; a cached login is never refused.
        """
        header = request.headers.get("Authorization")
        if header is None:
            raise Unauthenticated("this needs an account", remedy="Send a name and password (HTTP Basic).")
        name, password = _read_basic(header)
        known = self._cached(name, password)
        if known is not None:
            return known
        # Whoever was let in before is verified anew, however many others guess meanwhile.
        is_known = self._login(name, password) is not None
        return await self._verify(name, password, address=self._addresses.of(request), is_known=is_known)

    def forget(self, name: str) -> None:
        """The account called *name* has changed: its next call is verified anew."""
        self._changes += 1
        self._logins.pop(name, None)

    async def hash(self, password: str) -> str:
        """The argon2id hash of *password*; raises BadRequest for one that breaks the rules."""
        check_password(password)
        forbid_io_in_transaction("hash a password")
        async with self._gate:
            return await self._in_thread(self._hasher.hash, password)

    def _mac(self, name: str, password: str, version: int) -> bytes:
        return hmac.digest(self._key, f"{version}\0{name}\0{password}".encode("utf-8", "surrogatepass"), "sha256")

    def _login(self, name: str, password: str) -> _Login | None:
        """The login that was verified before with these credentials, however long ago."""
        login = self._logins.get(name)
        if login is None or not hmac.compare_digest(login.mac, self._mac(name, password, login.account.version)):
            return None
        return login

    def _cached(self, name: str, password: str) -> Account | None:
        login = self._login(name, password)
        return None if login is None or login.ends_at < self._clock() else login.account

    async def _verify(self, name: str, password: str, *, address: str, is_known: bool) -> Account:
        if not is_known:
            self._throttle.check(address=address, account=name)
        if self._waiting >= HASHES_WAITING:
            raise Throttled("too many logins at once", remedy="Try again in a moment.", details={"retry_after": 1})
        self._waiting += 1
        try:
            return await self._verify_in_turn(name, password, address=address, is_known=is_known)
        finally:
            self._waiting -= 1

    async def _verify_in_turn(self, name: str, password: str, *, address: str, is_known: bool) -> Account:
        async with self._gate:
            # While this call waited, another may have verified the same login, or failed with it too often.
            known = self._cached(name, password)
            if known is not None:
                return known
            if not is_known:
                self._throttle.check(address=address, account=name)
            changes = self._changes
            found = await self._look_up(name)
            account = found.account if found and await self._matches(found.password_hash, password) else None
            if found is None:
                await self._matches(None, password)
            elif account is None and found.next_hash and await self._matches(found.next_hash, password):
                account = await self._promote(name, found.next_hash)
                changes = self._changes
        if account is None or not account.is_enabled:
            self._throttle.failed(address=address, account=name)
            raise Unauthenticated(
                "the name or the password is wrong", remedy="Check both, and that the account is enabled."
            )
        self._throttle.succeeded(address=address, account=name)
        if changes == self._changes:
            mac = self._mac(name, password, account.version)
            self._logins[name] = _Login(mac, account, self._clock() + LOGIN_SECONDS)
        return account

    async def _promote(self, name: str, next_hash: str) -> Account | None:
        """The next password of an account was used: the one before it ends."""
        async with self._catalog.begin() as tx:
            account = await tx.accounts.promote(name, next_hash=next_hash)
        self.forget(name)
        return account

    async def _look_up(self, name: str) -> KnownLogin | None:
        try:
            parsed = AccountName(name)
        except BadName:
            return None
        async with self._catalog.read() as tx:
            return await tx.accounts.login_of(parsed)

    async def _matches(self, password_hash: str | None, password: str) -> bool:
        """Whether *password* has the hash; without one the same time passes and the answer is no."""
        if self._dummy_hash is None:
            self._dummy_hash = await self._in_thread(self._hasher.hash, secrets.token_hex(16))
        wanted = password_hash or self._dummy_hash
        is_right = await self._in_thread(_is_right, self._hasher, wanted, password)
        return is_right and password_hash is not None

    async def _in_thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        # The gate counts; the limiter is ours alone, because the default one is shared with everybody.
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._threads)


def _is_right(hasher: PasswordHasher, password_hash: str, password: str) -> bool:
    try:
        return hasher.verify(password_hash, password.encode("utf-8", "surrogatepass"))
    except (Argon2Error, InvalidHashError):
        return False


def _read_basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic" or len(header) > _HEADER_CHARACTERS:
        raise Unauthenticated("the Authorization header is not HTTP Basic", remedy="Send a name and password.")
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Unauthenticated(
            "the Authorization header is not HTTP Basic", remedy="Encode as UTF-8, then Base64."
        ) from error
    name, colon, password = text.partition(":")
    if not colon:
        raise Unauthenticated("the Authorization header has no password", remedy="Send 'name:password'.")
    return name, password


async def ensure_first_admin(catalog: Catalog, doorkeeper: Doorkeeper) -> str | None:
    """Create the account ``admin`` where there is no account at all, and return its password, shown once.

    A repeat returns None and changes nothing.
    """
    async with catalog.read() as tx:
        if await tx.accounts.count():
            return None
    password = secrets.token_urlsafe(15)
    password_hash = await doorkeeper.hash(password)
    name = AccountName("admin")
    async with catalog.begin() as tx:
        if await tx.accounts.count():
            return None
        await tx.accounts.create(name, password_hash=password_hash, roles=frozenset({Role.ADMIN}))
        await tx.events.tell(
            [Happening(subject=f"account:{name}", what="created", who="site", why="there was no account")]
        )
    return password
