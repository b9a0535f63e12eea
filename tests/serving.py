"""A librarian as a process of its own: started with settings, asked over HTTP, signalled, killed, started again."""

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import aiohttp

from librarian.client import LibrarianClient
from tests.crash.harness import PATIENCE, TOP, free_port, until
from tests.site_fixtures import Reply, basic
from tests.starting import Started

#: The program as people start it, and the same with less patience (see there).
LIBRARIAN = ("librarian.cli",)
HASTY = ("tests.fakes.hasty_server",)


@dataclass
class Server:
    """A site in *folder*, and its process while it runs.

    *top*, *each_store* and *settings* are TOML: before the tables, in each store's, and behind everything.
    """

    folder: Path
    database: str = "sqlite"
    top: str = ""
    settings: str = ""
    stores: tuple[str, ...] = ("fast",)
    each_store: str = ""
    #: The certificate that it shows, when it serves https by itself.
    certificate: Path | None = None
    program: tuple[str, ...] = LIBRARIAN
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def config(self) -> Path:
        return self.folder / "site.toml"

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Everything that it wrote so far, over all starts."""
        return (self.folder / "log").read_text()

    @property
    def password(self) -> str:
        """Of the account 'admin', as it was shown at the first start."""
        return re.search(r"Password of the account 'admin' \(shown only now\): (\S+)", self.log)[1]

    def configure(self) -> None:
        self.folder.mkdir(exist_ok=True)
        text = (
            f'name = "chajnantor"\nlisten = "127.0.0.1:{self.port}"\nstate = "{self.folder}/state"\n'
            f'database = "{self.database.replace("+asyncpg", "")}"\n{self.top}\n'
        )
        for store in self.stores:
            place = self.folder / store
            text += (
                f'[[stores]]\nname = "{store}"\nroot = "{place}/root"\nstaging = "{place}/staging"\n{self.each_store}\n'
            )
        limits = "" if "[limits]" in self.settings else "[limits]\nworkers = 1\n"
        self.config.write_text(text + limits + self.settings)

    def start(self, options: Sequence[str | Path] | None = None, **environment: str) -> None:
        """Start the process: with its settings file, or with *options* alone."""
        self.configure()
        options = ("--config", self.config) if options is None else options
        with (self.folder / "log").open("ab") as log:
            self.process = Started(
                [*self.program, "serve", *options],
                cwd=TOP,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def ask(self, method: str, path: str, *, user: str | None = "admin", body=None, data=None) -> Reply | None:
        """The answer to one request; None when there is none."""
        headers = {} if user is None else {"Authorization": basic(user, self.password)}
        sent = json.dumps(body).encode() if body is not None else data and io.BytesIO(data)
        trust = ssl.create_default_context(cafile=self.certificate) if self.certificate else True
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session,
                session.request(method, self.url + path, data=sent, headers=headers, ssl=trust) as answer,
            ):
                return Reply(answer.status, answer.headers, await answer.read())
        except (aiohttp.ClientError, OSError):
            return None

    async def answers(self, path: str, status: int) -> Reply:
        """Wait until *path* is answered with *status*, without an account; that answer."""

        async def asked() -> Reply | None:
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log}")
            reply = await self.ask("GET", path, user=None)
            return reply if reply is not None and reply.status == status else None

        return await until(asked)

    async def ready(self) -> None:
        await self.answers("/readyz", 200)

    async def logged(self, words: str, *, times: int = 1) -> None:
        """Wait until it wrote *words*."""

        async def written() -> bool:
            return self.log.count(words) >= times

        await until(written)

    async def status(self) -> dict:
        """What ``/api/v1/status`` tells."""
        reply = await self.ask("GET", "/api/v1/status")
        assert reply is not None
        assert reply.status == 200, reply.raw
        return reply.json

    def client(self, *, url: str | None = None, patience: float = PATIENCE, **options) -> LibrarianClient:
        return LibrarianClient(
            url or self.url, user="admin", password=self.password, patience=timedelta(seconds=patience), **options
        )

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the end of the process; its exit code."""
        code = await asyncio.to_thread(self.process.wait, PATIENCE)
        self.process = None
        return code

    async def stop(self) -> int:
        """Ask it to end; its exit code."""
        self.signal()
        return await self.ended()

    def kill(self) -> None:
        """kill -9, and see it gone; nothing when it has ended."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(PATIENCE)
            self.process = None


@contextlib.contextmanager
def servers(folder: Path):
    """Makes servers that are gone afterwards, whatever happened: ``make(name, …)``."""
    made: list[Server] = []

    def make(name: str = "chajnantor", **options) -> Server:
        made.append(Server(folder / name, **options))
        return made[-1]

    try:
        yield make
    finally:
        for server in made:
            server.kill()
