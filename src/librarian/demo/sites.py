"""The two sites of the demonstration: their settings, accounts and servers, made as an operator would."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from librarian.client import Address, LibrarianClient
from librarian.errors import Unavailable
from librarian.states import Role
from librarian.wire.accounts import AccountDescription, CreateAccount
from librarian.wire.pairing import Invite, Invited, Join
from librarian.wire.peers import PeerDescription, PutPeer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from librarian.demo.globus import Globus

FIRST: Final = "chajnantor"
SECOND: Final = "nersc"
RULE: Final = "everything"
#: A server that has not ended this long after SIGTERM is killed, in seconds.
PATIENCE: Final = 30.0
#: Seconds between two looks whether a server is up.
_LOOK: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class DemoSite:
    """A librarian that the demonstration runs."""

    name: str
    folder: Path
    port: int
    passwords: dict[str, str]
    #: What its server finds in its environment beyond ours.
    environment: dict[str, str]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        """Its settings file."""
        return self.folder / "site.toml"

    @property
    def store(self) -> Path:
        """Where its payloads stand."""
        return self.folder / "store"

    @property
    def log(self) -> Path:
        """What its server says."""
        return self.folder / "log"

    @property
    def last_words(self) -> str:
        """The last line of its log."""
        return next(reversed(self.log.read_text().splitlines()), "")

    @property
    def socket(self) -> Path:
        """Where its operator is served."""
        return self.folder / "state" / "admin.sock"

    def operator(self) -> LibrarianClient:
        """A client that may do everything, as the admin commands have it."""
        return LibrarianClient(Address(url=self.url, socket=self.socket))

    def client(self, account: str = "demo") -> LibrarianClient:
        """A client with *account*'s credentials."""
        return LibrarianClient(self.url, user=account, password=self.passwords[account])


def make_site(folder: Path, name: str, globus: Globus | None = None, *, link: str | None = None) -> DemoSite:
    """Settings for a site with SQLite and one store; with *globus*, the first sends through it.

    Where others reach it over a *link*, that is its URL, and the first has its files carried on drives.
    """
    home = folder / name
    home.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = f"""\
name = "{name}"
listen = "127.0.0.1:{port}"
state = "{home}/state"
{"" if link is None else f'public_url = "{link}"'}

[[stores]]
name = "main"
root = "{home}/store"
staging = "{home}/staging"
"""
    if globus is not None:
        settings += f"""
[stores.globus]
collection = "{globus.collection}"
root = "/{name}/store"
staging = "/{name}/staging"

[globus]
client_id = "{globus.client_id}"
client_secret_file = "{globus.secret_file}"
"""
    if name == FIRST:
        way = 'stores = ["D*"]' if link else f'engines = ["{"http" if globus is None else "globus"}"]'
        settings += f"""
[[rules]]
name = "{RULE}"
peer = "{SECOND}"
{way}
"""
    accounts = ("demo", SECOND if name == FIRST else FIRST)
    site = DemoSite(
        name=name,
        folder=home,
        port=port,
        passwords={who: secrets.token_urlsafe(15) for who in accounts},
        environment={} if globus is None else globus.environment,
    )
    site.config.write_text(settings)
    return site


async def introduce(first: DemoSite, second: DemoSite) -> None:
    """Do what operators do to connect two sites: an account for the other, then where the other is.

    See docs/how-to/pair-two-sites.md for the same in commands.
    """
    async with first.operator() as ours, second.operator() as theirs:
        await asyncio.gather(
            _create(ours, first, {"demo": Role.UPLOADER, SECOND: Role.CALLBACK}),
            _create(theirs, second, {"demo": Role.READER, FIRST: Role.UPSTREAM}),
        )
        await asyncio.gather(_add_peer(ours, second, first), _add_peer(theirs, first, second))


async def pair(first: DemoSite, second: DemoSite) -> None:
    """Connect two sites by an invitation, which has each know the other's key as well."""
    async with first.operator() as ours, second.operator() as theirs:
        await _create(ours, first, {"demo": Role.UPLOADER})
        await _create(theirs, second, {"demo": Role.READER})
        wanted = Invite(name=second.name, direction="send")
        invited = await ours.request("POST", "/invitations", body=wanted, answer=Invited)
        joining = Join(token=SecretStr(invited.token))
        await theirs.request("POST", "/pairings", body=joining, answer=PeerDescription, repeats=False)


async def _create(operator: LibrarianClient, site: DemoSite, roles: dict[str, Role]) -> None:
    for account, role in roles.items():
        wanted = CreateAccount(name=account, password=SecretStr(site.passwords[account]), roles=frozenset({role}))
        await operator.request("POST", "/accounts", body=wanted, answer=AccountDescription)


async def _add_peer(operator: LibrarianClient, peer: DemoSite, us: DemoSite) -> None:
    wanted = PutPeer(url=peer.url, username=us.name, password=SecretStr(peer.passwords[us.name]))
    await operator.request("PUT", f"/peers/{peer.name}", body=wanted, answer=PeerDescription)


@asynccontextmanager
async def serving(first: DemoSite, second: DemoSite) -> AsyncIterator[None]:
    """Run both servers as processes of their own while the block runs; they answer when the block begins.

    Raises
    ------
    Unavailable
        One ended at once.
    """
    async with _started(first) as one, _started(second) as other:
        await asyncio.gather(_up(first, one), _up(second, other))
        yield


async def _up(site: DemoSite, process: Process) -> None:
    ended = asyncio.create_task(process.wait(), name=f"{site.name} ends")
    answers = asyncio.create_task(_answers(site), name=f"{site.name} answers")
    try:
        await asyncio.wait((ended, answers), return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise Unavailable(f"the server of {site.name} ended: {site.last_words}")
        await answers
    finally:
        answers.cancel()
        ended.cancel()


async def _answers(site: DemoSite) -> None:
    # Another process makes it: there is nobody to ring a bell here.
    while not site.socket.exists():  # noqa: ASYNC110
        await asyncio.sleep(_LOOK)
    async with site.operator() as client:
        await client.ping()


@asynccontextmanager
async def _started(site: DemoSite) -> AsyncIterator[Process]:
    """The server as a process that does not outlive the block. Ctrl-C reaches it through us alone."""
    command = (sys.executable, "-m", "librarian.cli", "serve", "--config", str(site.config))
    with site.log.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=os.environ | site.environment,
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
