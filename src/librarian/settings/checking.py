"""Whether settings can work on this machine: everything that is wrong, found at once, nothing started or kept."""

from __future__ import annotations

import ipaddress
import os
import ssl
import uuid
from itertools import combinations
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from librarian.settings.models import Settings, StoreSettings, TlsSettings

_SCHEMES: Final = ("sqlite+aiosqlite", "postgresql+asyncpg")


def problems_of(settings: Settings) -> list[str]:
    """Everything for which *settings* cannot work; empty when they can.

    Paths are probed for real (a rename from staging to root), with nothing left behind. Folders that do not exist
    yet only need a parent in which they can be made.
    """
    problems = [*_network(settings), *_database(settings), *_files(settings), *_rules(settings)]
    for store in settings.stores:
        problems += _store(store)
    return [*problems, *_overlaps(settings)]


def _network(settings: Settings) -> Iterator[str]:
    host, separator, port = settings.listen.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        yield f"listen: {settings.listen!r} is not '<address>:<port>'"
    elif not (settings.tls or settings.allow_plaintext or is_loopback(host.strip("[]"))):
        yield (
            f"listen: {settings.listen} is not loopback, and passwords would travel in the clear; "
            "set 'tls', or say 'allow_plaintext = true' if something in front provides TLS"
        )
    if settings.public_url is not None:
        url = urlsplit(settings.public_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            yield f"public_url: {settings.public_url!r} is not an http(s) URL"
        elif url.scheme == "http" and not (settings.allow_plaintext or is_loopback(url.hostname)):
            yield f"public_url: {url.geturl()} is neither https nor loopback; say 'allow_plaintext = true' if meant"
    for proxy in settings.trusted_proxies:
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            yield f"trusted_proxies: {proxy!r} is no address or network"


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine and nobody else."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _database(settings: Settings) -> Iterator[str]:
    url = urlsplit(settings.database_url)
    if url.scheme not in _SCHEMES:
        yield f"database: {url.scheme!r} is not known; use 'sqlite', 'sqlite:////path' or 'postgresql://…'"
    elif url.password is not None:
        yield "database: a password in the URL ends up in backups and logs; use 'database_password_file'"
    file = settings.database_file
    if file is None:
        return
    if not file.is_absolute():
        yield f"database: {file} is not an absolute path"
    elif "?" in str(file):
        yield f"database: the path {file} has a '?', which ends the path in the address of a database"
    elif file.parent != settings.state and not file.parent.is_dir():
        yield f"database: the folder {file.parent} does not exist"


def _files(settings: Settings) -> Iterator[str]:
    if not settings.state.is_absolute():
        yield f"state: {settings.state} is not an absolute path"
    elif (reason := _unmakeable(settings.state)) is not None:
        yield f"state: {reason}"
    wanted = {"database_password_file": settings.database_password_file}
    if settings.tls is not None:
        wanted |= {"tls.certificate": settings.tls.certificate, "tls.key": settings.tls.key}
    unreadable = [key for key, path in wanted.items() if path is not None and not os.access(path, os.R_OK)]
    yield from (f"{key}: {wanted[key]} cannot be read" for key in unreadable)
    if settings.tls is not None and not unreadable and (reason := _unusable(settings.tls)) is not None:
        yield f"tls: {reason}"


def _unusable(tls: TlsSettings) -> str | None:
    """Why nothing can be served with *tls*."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # A key with a passphrase would ask for it, where there may be nobody to answer.
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except (OSError, ssl.SSLError) as error:
        return f"{tls.certificate} and {tls.key} are no certificate with its key in PEM: {error}"
    return None


def _rules(settings: Settings) -> Iterator[str]:
    stores = {store.name for store in settings.stores}
    seen: set[str] = set()
    for rule in settings.rules:
        if rule.name in seen:
            yield f"rules: the name {rule.name!r} is given twice"
        seen.add(rule.name)
        if rule.from_store is not None and rule.from_store not in stores:
            yield f"rules.{rule.name}: there is no store {rule.from_store!r}"
        if rule.peer == settings.name:
            yield f"rules.{rule.name}: the peer is this site itself"


def _store(store: StoreSettings) -> Iterator[str]:
    place = f"stores.{store.name}"
    absolute = [(key, path) for key, path in (("root", store.root), ("staging", store.staging))]
    usable = True
    for key, path in absolute:
        if not path.is_absolute():
            usable = False
            yield f"{place}.{key}: {path} is not an absolute path"
        elif (reason := _unmakeable(path)) is not None:
            usable = False
            yield f"{place}.{key}: {reason}"
    if usable and store.root.is_dir() and store.staging.is_dir() and (reason := _unmovable(store)) is not None:
        yield f"{place}: {reason}"


def _unmakeable(path: Path) -> str | None:
    """Why *path* is no folder that we can write, nor one that we could make."""
    nearest = next(place for place in (path, *path.parents) if place.exists())
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"{nearest} is not writable by user {os.geteuid()}"
    return None


def _unmovable(store: StoreSettings) -> str | None:
    """Why a payload in staging could not be renamed into the root; only trying tells."""
    probe = f".librarian-probe-{uuid.uuid4().hex}"
    source, target = store.staging / probe, store.root / probe
    try:
        source.mkdir()
        source.rename(target)
    except OSError as error:
        return f"a folder cannot be renamed from {store.staging} into {store.root}: {error.strerror}"
    finally:
        for left in (source, target):
            if left.is_dir():
                left.rmdir()
    return None


def _overlaps(settings: Settings) -> Iterator[str]:
    for one, other in combinations(settings.stores, 2):
        if one.name == other.name:
            yield f"stores: the name {one.name!r} is given twice"
        for a, b in ((one.root, other.root), (one.root, other.staging), (one.staging, other.root)):
            if _inside(a, b) or _inside(b, a):
                yield f"stores: {one.name!r} and {other.name!r} share {a if _inside(a, b) else b}"
        if one.staging.resolve() == other.staging.resolve():
            yield f"stores: {one.name!r} and {other.name!r} share the staging {one.staging}"
    for store in settings.stores:
        published = store.staging.resolve().parts[len(store.root.resolve().parts) :]
        if _inside(store.staging, store.root) and not (published and published[0].startswith(".librarian")):
            yield f"stores.{store.name}: staging lies among the published names; put it beside the root"


def _inside(inner: Path, outer: Path) -> bool:
    return inner.resolve().is_relative_to(outer.resolve())
