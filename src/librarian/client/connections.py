"""Named connections: ``~/.config/librarian/client.toml`` and the environment.

::

    default = "nersc"

    [nersc]
    url = "https://librarian.nersc.example:8443"
    user = "ana"
    password_file = "~/.config/librarian/nersc.password"    # or: password = "…"
    ca = "/etc/ssl/nersc.pem"                               # only for an authority the system does not know

A file that holds a password is refused when anybody but its owner may read it.
"""

from __future__ import annotations

import ipaddress
import os
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from librarian.client.address import Address
from librarian.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LARGEST: Final = 1024**2


class NamedConnection(BaseModel):
    """One table of ``client.toml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    user: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    ca: Path | None = Field(default=None, description="PEM file of the certificate authority.")
    #: The explicit word for sending a password over an unencrypted network.
    allow_plain_http: bool = False


def configuration_file(environment: Mapping[str, str]) -> Path:
    """Where named connections stand: ``$XDG_CONFIG_HOME/librarian/client.toml``, by default below ``~/.config``."""
    home = environment.get("XDG_CONFIG_HOME", "")
    # The XDG specification has relative paths ignored.
    base = Path(home) if home.startswith("/") else Path.home() / ".config"
    return base / "librarian" / "client.toml"


def resolve(
    where: str | None,
    *,
    user: str | None = None,
    password: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Address:
    """The address that a URL or a name means; None: ``LIBRARIAN_URL``, then the default connection.

    User and password come from the arguments, else from the named connection, else from ``LIBRARIAN_USER`` and
    ``LIBRARIAN_PASSWORD``.

    Raises
    ------
    ConfigurationError
        Nothing of that name, no default, a file that is broken or open to others, or a password that would cross
        an unencrypted network.
    """
    given = os.environ if environment is None else environment
    chosen = where or given.get("LIBRARIAN_URL") or _default(given)
    named = NamedConnection(url=chosen) if "://" in chosen else _named(chosen, given)
    is_plain_allowed = named.allow_plain_http or given.get("LIBRARIAN_ALLOW_PLAIN_HTTP", "") in ("1", "true", "yes")
    secret = password if password is not None else _password_of(named)
    if secret is None and named.user is None:
        secret = given.get("LIBRARIAN_PASSWORD") or None
    address = Address.parse(
        named.url,
        user=user or named.user or given.get("LIBRARIAN_USER") or None,
        password=secret,
        ca_file=named.ca.expanduser() if named.ca else _optional_path(given.get("LIBRARIAN_CA")),
    )
    if address.authorization is not None and not is_plain_allowed:
        _refuse_plain_http(address)
    return address


def _optional_path(text: str | None) -> Path | None:
    return Path(text).expanduser() if text else None


def _default(environment: Mapping[str, str]) -> str:
    path = configuration_file(environment)
    default = _read(path).get("default") if path.exists() else None
    if not isinstance(default, str):
        raise ConfigurationError(
            "no librarian was named",
            remedy=f"Give a URL or a name, set LIBRARIAN_URL, or write 'default = \"<name>\"' into {path}.",
        )
    return default


def _named(name: str, environment: Mapping[str, str]) -> NamedConnection:
    path = configuration_file(environment)
    tables = _read(path) if path.exists() else {}
    table = tables.get(name)
    if not isinstance(table, dict):
        known = ", ".join(sorted(key for key, value in tables.items() if isinstance(value, dict))) or "none"
        raise ConfigurationError(
            f"{path} has no connection {name!r} (known: {known})",
            remedy=f"Add a table [{name}] with at least 'url', or give a URL.",
        )
    try:
        connection = NamedConnection.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise ConfigurationError(
            f"{path}, [{name}]: {field}: {first['msg']}", remedy="See docs/reference/client.md for the keys."
        ) from error
    if connection.password is not None:
        refuse_open_file(path)
    return connection


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}", remedy="Correct the file, or remove it.") from error


def _password_of(named: NamedConnection) -> str | None:
    if named.password is not None:
        return named.password.get_secret_value()
    if named.password_file is None:
        return None
    path = named.password_file.expanduser()
    refuse_open_file(path)
    try:
        return path.read_bytes()[:_LARGEST].decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the password in {path}: {error}", remedy="Correct the file.") from error


def refuse_open_file(path: Path) -> None:
    """Refuse a file with a password that others may read; raises ConfigurationError."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", remedy="Check the path.") from error
    if mode & 0o077:
        raise ConfigurationError(
            f"{path} holds a password and others may read it (mode {mode:04o})", remedy=f"Run: chmod 600 {path}"
        )


def _refuse_plain_http(address: Address) -> None:
    parts = urlsplit(address.url)
    if parts.scheme == "https" or is_loopback(parts.hostname or ""):
        return
    raise ConfigurationError(
        f"the password would cross the network to {parts.hostname} unencrypted",
        remedy="Use https://, or say 'allow_plain_http = true' in client.toml (LIBRARIAN_ALLOW_PLAIN_HTTP=1).",
    )


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine by its very name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
