"""Two sites as processes, the link between them, and what their catalogs and disks say."""

import asyncio
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.crash.harness import PASSWORD, TOP, CrashSite
from tests.model.invariants import Ledger
from tests.starting import Started

ROLES = ("upstream", "callback")
#: Nobody wants to wait a minute until what was cancelled has left staging; strangers are put aside at a start.
HOUSEKEEPING = "\n[housekeeping]\ninterval = 1\nstranger_after = 0.1\n"


@dataclass
class SoakSite(CrashSite):
    """A site whose clock can be moved, and whose catalog can be put back."""

    #: How far its clock is ahead.
    weeks: int = 0
    #: Copies of its catalog, oldest first.
    backups: list[Path] = field(default_factory=list)

    @property
    def database(self) -> Path:
        return self.folder / "state" / "catalog.sqlite"

    @property
    def disk_folder(self) -> Path:
        """Where its store is, and nothing else."""
        return self.folder / "disk"

    def configure(self) -> None:
        super().configure()
        text = self.config.read_text()
        for place in ("store", "staging"):
            text = text.replace(f'"{self.folder}/{place}"', f'"{self.disk_folder}/{place}"')
        self.config.write_text(text + HOUSEKEEPING)

    def ledger(self) -> Ledger:
        return Ledger(self.name, self.database, self.disk_folder / "store", self.disk_folder / "staging")

    def start(self) -> None:
        with (self.logs / f"{self.name}.log").open("ab") as log:
            command = ["tests.soak.server", str(self.weeks), "serve", "--config", self.config]
            self.process = Started(command, cwd=TOP, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def move_clock(self) -> None:
        """A week passes."""
        self.weeks += 1
        if self.process is not None:
            self.process.send_signal(signal.SIGUSR1)

    async def switch(self, peer: str, *, is_enabled: bool) -> None:
        await self.call("PATCH", f"/api/v1/peers/{peer}", {"is_enabled": is_enabled})

    async def say(self, method: str, path: str, *, user: str, body: dict) -> int:
        """One request as *user*; its status."""
        headers = {"Librarian-Protocol": "1", "Authorization": aiohttp.encode_basic_auth(user, PASSWORD)}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, self.url + path, json=body) as answer,
        ):
            return answer.status

    def back_up(self) -> None:
        copy = self.logs / f"{self.name}-{len(self.backups)}.backup"
        with closing(sqlite3.connect(self.database)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        self.backups.append(copy)

    def put_back(self, backup: Path) -> None:
        """The catalog is *backup* again; the stores stay as they are. The server must be down."""
        for former in ("", "-wal", "-shm"):
            self.database.with_name(self.database.name + former).unlink(missing_ok=True)
        shutil.copyfile(backup, self.database)


async def acquaint(sender: SoakSite, receiver: SoakSite, *, url: str) -> None:
    """Accounts at each other, each a peer of the other; *url*: where *sender* calls *receiver*."""
    for site, other in ((sender, receiver), (receiver, sender)):
        site.configure()
        site.admin("account", "create", "demo", "--role", "uploader")
        site.admin("account", "create", other.name, *(word for role in ROLES for word in ("--role", role)))
        site.start()
    for site in (sender, receiver):
        await site.ready()
    await sender.knows(receiver, url=url)
    await receiver.knows(sender)


async def restarted(*sites: SoakSite) -> None:
    """Start *sites*, side by side, and wait for them."""
    for site in sites:
        site.start()
    await asyncio.gather(*(site.ready() for site in sites))
