"""Whether settings can work on this machine: everything that is wrong, found at once, nothing started or kept."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import shutil
import ssl
import threading
import uuid
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from librarian.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from librarian.settings.models import Settings, StoreSettings, TlsSettings

log = logging.getLogger(__name__)

#: The folders of a store that say nothing for so long are left to the running server.
LONGEST_LOOK: Final = timedelta(seconds=2)
#: rsync takes what it is to run apart at spaces and quotes, and ssh what its options say.
_PLAIN: Final = re.compile(r"(/[A-Za-z0-9._+=,@-]+)+")
_SCHEMES: Final = ("sqlite+aiosqlite", "postgresql+asyncpg")


def problems_of(settings: Settings) -> list[str]:
    """Everything for which *settings* cannot work; empty when they can.

    Paths are probed for real (a rename from staging to root), with nothing left behind. Folders that do not exist
    yet only need a parent in which they can be made. A store that does not answer is no reason not to start: the
    server tells of it, and works with the others.
    """
    problems = [*_network(settings), *_database(settings), *_files(settings), *_rules(settings)]
    looks = _look_at(settings.stores)
    for look in looks:
        problems += look.problems
    for store in settings.stores:
        problems += _collection(store)
    return [*problems, *_overlaps(settings.stores, looks)]


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
    if settings.globus is not None:
        known = settings.globus
        given = {
            "globus.client_secret_file": known.client_secret_file,
            "globus.refresh_token_file": known.refresh_token_file,
        }
        wanted |= given
        if sum(path is not None for path in given.values()) != 1:
            yield "globus: give either 'client_secret_file' or 'refresh_token_file'"
        if not any(store.globus for store in settings.stores):
            yield "globus: no store says where it is found at Globus; give one 'globus = {collection = …}'"
    if settings.rsync is not None:
        given = {"rsync.key_file": settings.rsync.key_file, "rsync.known_hosts_file": settings.rsync.known_hosts_file}
        wanted |= given
        yield from _ssh(given)
    if settings.slack is not None:
        try:
            settings.slack.read_webhook()
        except ConfigurationError as error:
            yield f"slack.webhook_file: {error.message}"
    unreadable = [key for key, path in wanted.items() if path is not None and not os.access(path, os.R_OK)]
    yield from (f"{key}: {wanted[key]} cannot be read" for key in unreadable)
    if settings.tls is not None and not unreadable and (reason := _unusable(settings.tls)) is not None:
        yield f"tls: {reason}"


def _ssh(given: Mapping[str, Path | None]) -> Iterator[str]:
    for program in ("rsync", "ssh"):
        if shutil.which(program) is None:
            yield f"rsync: there is no program '{program}' on this machine"
    for key, path in given.items():
        if path is not None and not _PLAIN.fullmatch(str(path)):
            yield f"{key}: {str(path)!r} is not an absolute path of letters, digits and '._+=,@-' alone"
    key_file = given["rsync.key_file"]
    if key_file is not None and key_file.is_file() and key_file.stat().st_mode & 0o077:
        yield f"rsync.key_file: others may read {key_file}, and ssh would refuse it; run: chmod 600 {key_file}"


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


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What a look at the folders of a store found: where they really are, and what is wrong with them."""

    name: str
    root: Path
    staging: Path
    problems: list[str]


def _look_at(stores: Sequence[StoreSettings]) -> list[_Look]:
    """Look at every store at once, each in a thread that a dead mount may keep; a dead one is left out."""
    asked = [(store, _ask(store)) for store in stores]
    looks = []
    for store, answer in asked:
        try:
            looks.append(answer.result(min(store.answer_timeout, LONGEST_LOOK).total_seconds()))
        except OSError as error:
            log.warning("Cannot look at the folders of store %s: %s", store.name, str(error) or "they do not answer")
    return looks


def _ask(store: StoreSettings) -> Future[_Look]:
    answer: Future[_Look] = Future()

    def look() -> None:
        try:
            answer.set_result(
                _Look(
                    name=store.name,
                    problems=list(_store(store)),
                    root=store.root.resolve(),
                    staging=store.staging.resolve(),
                )
            )
        except OSError as error:
            answer.set_exception(error)

    threading.Thread(target=look, name=f"look at {store.name}", daemon=True).start()
    return answer


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


def _collection(store: StoreSettings) -> Iterator[str]:
    if store.globus is None:
        return
    for key, path in (("root", store.globus.root), ("staging", store.globus.staging)):
        parts = path.split("/")
        if parts[0] not in ("", "~") or ".." in parts or "\n" in path or not path.startswith(("/", "~/")):
            yield f"stores.{store.name}.globus.{key}: {path!r} is not a path in a collection, such as '/data/store'"


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


def _overlaps(stores: Sequence[StoreSettings], looks: Sequence[_Look]) -> Iterator[str]:
    for one, other in combinations(stores, 2):
        if one.name == other.name:
            yield f"stores: the name {one.name!r} is given twice"
    for here, there in combinations(looks, 2):
        for a, b in ((here.root, there.root), (here.root, there.staging), (here.staging, there.root)):
            if a.is_relative_to(b) or b.is_relative_to(a):
                yield f"stores: {here.name!r} and {there.name!r} share {a if a.is_relative_to(b) else b}"
        if here.staging == there.staging:
            yield f"stores: {here.name!r} and {there.name!r} share the staging {here.staging}"
    for look in looks:
        if not look.staging.is_relative_to(look.root):
            continue
        below = look.staging.relative_to(look.root).parts
        if not (below and below[0].startswith(".librarian")):
            yield f"stores.{look.name}: staging lies among the published names; put it beside the root"
