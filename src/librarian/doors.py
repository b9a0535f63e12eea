"""Where a call comes from, and how often calls from there have failed to log in."""

from __future__ import annotations

import ipaddress
import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from librarian.errors import ConfigurationError, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp import web

#: What an address that is not on the network is called.
LOCAL: Final = "local"
#: Failed attempts that cost nothing but the argon2 time: per address and account, per address, per account.
FREE_BOTH: Final = 5
FREE_ADDRESS: Final = 20
FREE_ACCOUNT: Final = 100
#: Longest wait after a failed attempt, and how long failures are remembered after the last, in seconds.
LONGEST_WAIT: Final = 60.0
MEMORY: Final = 900.0
#: More sources than this are not remembered; the oldest go first.
SOURCES: Final = 10_000

_Key = tuple[str, str]
_Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
_SCHEME: Final = re.compile(r"https?")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


class Addresses:
    """Finds the address a request comes from, through proxies that are trusted."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        try:
            self._trusted = tuple(ipaddress.ip_network(text, strict=False) for text in trusted_proxies)
        except ValueError as error:
            raise ConfigurationError(
                f"'trusted_proxies' has something that is no address: {error}", remedy="Give addresses or networks."
            ) from error

    def of(self, request: web.Request) -> str:
        """The caller's address; ``X-Forwarded-For`` counts only as far as trusted proxies wrote it."""
        direct = _address(request.remote or "")
        if direct is None:
            return request.remote or LOCAL
        if not self._is_trusted(direct):
            return str(direct)
        chain = [hop.strip() for line in request.headers.getall("X-Forwarded-For", []) for hop in line.split(",")]
        # The last entry was written by the proxy that called us; whoever stands before a stranger may be invented.
        for text in reversed(chain):
            hop = _address(text)
            if hop is None:
                break
            if not self._is_trusted(hop):
                return str(hop)
        return str(direct)

    def base_of(self, request: web.Request) -> str:
        """The URL by which the caller reached us; a trusted proxy tells by ``X-Forwarded-Proto`` and ``-Host``."""
        scheme, host = request.scheme, request.host
        direct = _address(request.remote or "")
        if direct is not None and self._is_trusted(direct):
            scheme = _forwarded(request, "X-Forwarded-Proto", form=_SCHEME) or scheme
            host = _forwarded(request, "X-Forwarded-Host", form=_HOST) or host
        return f"{scheme}://{host}"

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def _address(text: str) -> _Address | None:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    # One socket that listens for both gives IPv4 addresses in the clothes of IPv6.
    return parsed.ipv4_mapped or parsed if isinstance(parsed, ipaddress.IPv6Address) else parsed


def _forwarded(request: web.Request, header: str, *, form: re.Pattern[str]) -> str | None:
    """What the nearest proxy wrote into *header*, if it looks like it."""
    last = ",".join(request.headers.getall(header, [])).rpartition(",")[2].strip()
    return last if form.fullmatch(last) else None


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int
    last_at: float
    next_at: float


class Throttle:
    """Failed attempts, and how long the next must wait: one second, then twice as long each time."""

    def __init__(
        self,
        *,
        free_both: int = FREE_BOTH,
        free_address: int = FREE_ADDRESS,
        free_account: int = FREE_ACCOUNT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free = {"both": free_both, "address": free_address, "account": free_account}
        self._clock = clock
        self._failures: dict[_Key, _Failures] = {}

    def check(self, *, address: str, account: str) -> None:
        """Pass, unless the next attempt must still wait.

        Raises
        ------
        Throttled
            With ``retry_after`` in whole seconds.
        """
        now = self._clock()
        failures = [self._failures[key] for key in _keys(address, account) if key in self._failures]
        next_at = max((each.next_at for each in failures), default=now)
        if next_at > now:
            seconds = math.ceil(next_at - now)
            raise Throttled(
                "too many failed logins",
                remedy=f"Wait {seconds} s, then try again with the right password.",
                details={"retry_after": seconds},
            )

    def failed(self, *, address: str, account: str) -> None:
        """An attempt has failed."""
        now = self._clock()
        for key in _keys(address, account):
            before = self._failures.pop(key, None)
            count = 1 if before is None or now - before.last_at > MEMORY else before.count + 1
            excess = count - self._free[key[0]]
            wait = 0.0 if excess < 0 else min(2.0 ** min(excess, 10), LONGEST_WAIT)
            # Popped and put back, so that the first key is always the one that failed longest ago.
            self._failures[key] = _Failures(count, now, now + wait)
        while len(self._failures) > SOURCES:
            del self._failures[next(iter(self._failures))]

    def succeeded(self, *, address: str, account: str) -> None:
        """An attempt was right: what failed from there for that account is forgiven."""
        self._failures.pop(_keys(address, account)[0], None)


def _keys(address: str, account: str) -> tuple[_Key, ...]:
    # Accounts are cut short: an attacker chooses them, and we remember them.
    short = account[:64]
    return (("both", f"{address} {short}"), ("address", address), ("account", short))
