"""A real site on both databases with a real store, and a real server on loopback, for whoever tests against one.

``site``: opened, not served, no task runs. ``live_server``: the same, served, with one account per role
(name = role, password = ``password_of(name)``). ``opened_site`` and ``served`` make more of them.
"""

import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from argon2 import PasswordHasher
from yarl import URL

from librarian import guard
from librarian.auth import Doorkeeper
from librarian.names import AccountName
from librarian.settings import Limits, Settings, StoreSettings
from librarian.site import Site, open_site
from librarian.states import Role
from librarian.web.app import create_app, make_runner

#: Argon2 as cheap as it gets: what it costs is not what these tests are about.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def password_of(name: str) -> str:
    return f"{name}-password"


def basic(name: str, password: str | None = None) -> str:
    """The Authorization header of an account made by ``create_account``."""
    return "Basic " + base64.b64encode(f"{name}:{password or password_of(name)}".encode()).decode()


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self):
        return json.loads(self.raw)


@dataclass
class Live:
    """A site that is served on loopback."""

    site: Site
    url: str
    session: aiohttp.ClientSession

    async def call(self, method, path, *, user="admin", password=None, body=None, data=None, headers=None) -> Reply:
        """Send one request; *body* as JSON, *data* as it is; without *user* no credentials."""
        given = dict(headers or {})
        if user is not None:
            given.setdefault("Authorization", basic(user, password))
        sent = json.dumps(body).encode() if body is not None else data
        url = URL(self.url + path, encoded=True)
        async with self.session.request(method, url, data=sent, headers=given, allow_redirects=False) as answer:
            return Reply(answer.status, dict(answer.headers), await answer.read())


async def create_account(site: Site, name: str, *roles: Role) -> None:
    async with site.catalog.begin() as tx:
        await tx.accounts.create(AccountName(name), password_hash=CHEAP.hash(password_of(name)), roles=frozenset(roles))


@asynccontextmanager
async def opened_site(
    database_url: str, folder: Path, *, name="chajnantor", stores=("fast",), change=lambda settings: settings
) -> AsyncIterator[Site]:
    """A new site called *name* with empty *stores* in *folder*; *change* has its settings first. No task runs."""
    folder.mkdir(exist_ok=True, parents=True)
    async with open_site(change(settings_of(database_url, folder, name, stores))) as site:
        site.doorkeeper = Doorkeeper(site.catalog, hasher=CHEAP)
        yield site


def settings_of(database_url: str, folder: Path, name: str, stores: tuple[str, ...]) -> Settings:
    for store in stores:
        (folder / store).mkdir(exist_ok=True)
        (folder / f"{store}-staging").mkdir(exist_ok=True)
    return Settings(
        name=name,
        state=folder,
        database=database_url,
        stores=tuple(
            StoreSettings(name=store, root=folder / store, staging=folder / f"{store}-staging") for store in stores
        ),
        limits=Limits(workers=1, database_wait=timedelta(seconds=20)),
    )


@asynccontextmanager
async def served(site: Site, *, port: int = 0, certificate: Path | None = None, **options) -> AsyncIterator[Live]:
    """Serve *site* on loopback, on any port by default, with TLS if there is a *certificate*.

    *options* go to ``create_app``.
    """
    shown, trust = None, True
    if certificate is not None:
        shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        shown.load_cert_chain(certificate, f"{certificate}.key")
        trust = ssl.create_default_context(cafile=certificate)
    runner = make_runner(create_app(site, **options), lingering=timedelta(milliseconds=100))
    await runner.setup()
    place = aiohttp.web.TCPSite(runner, "127.0.0.1", port, ssl_context=shown)
    await place.start()
    url = f"{'http' if shown is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        connector = aiohttp.TCPConnector(ssl=trust)
        async with aiohttp.ClientSession(auto_decompress=False, connector=connector) as session:
            yield Live(site, url, session)
    finally:
        await runner.cleanup()


@pytest.fixture
async def site(database_url, tmp_path) -> AsyncIterator[Site]:
    """An empty site with one store, on each database; no task runs."""
    async with opened_site(database_url, tmp_path / "chajnantor") as opened:
        yield opened


@pytest.fixture
async def live_server(site) -> AsyncIterator[Live]:
    """The site, served on loopback, with one account per role."""
    for role in Role:
        await create_account(site, role.value, role)
    async with served(site) as live:
        yield live


@pytest.fixture
def at_step(monkeypatch):
    """Does something when a step is passed for the first time, in the thread that passes it."""

    def watch(step, act):
        seen = []

        def observe(name):
            if name == step and not seen:
                seen.append(name)
                act()

        monkeypatch.setattr(guard, "_on_step", [observe])

    return watch
