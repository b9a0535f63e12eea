"""One site of ``remote_clone``: serves on loopback, and does what it is told on standard input, one JSON line each."""

from __future__ import annotations

import asyncio
import cProfile
import json
import os
import resource
import sys
import uuid
from pathlib import Path
from typing import Any, Final

import uvloop
from aiohttp import web
from pydantic import SecretStr

from librarian import replication
from librarian.client import LibrarianClient
from librarian.names import AccountName
from librarian.policies import RulePolicy
from librarian.serve import spare_the_loop
from librarian.settings import CollectionSettings, GlobusSettings, Settings, StoreSettings
from librarian.settings.models import RuleSettings
from librarian.site import Site, open_site
from librarian.states import Role
from librarian.tasks.everything import all_tasks
from librarian.tasks.supervisor import Supervisor
from librarian.web.app import create_app, make_runner
from librarian.wire.peers import PeerDescription, PutPeer

ADMIN: Final = "admin"
PASSWORD: Final = "benchmark-password"
#: At the Globus of our own: a client, and a collection of the whole file system.
GLOBUS_CLIENT: Final = uuid.UUID(int=1)


async def account(site: Site, command: dict[str, Any]) -> dict[str, Any]:
    hashed = await site.doorkeeper.hash(PASSWORD)
    async with site.catalog.begin() as tx:
        await tx.accounts.create(
            AccountName(command["name"]), password_hash=hashed, roles=frozenset({Role(command["role"])})
        )
    return {}


async def peer(site: Site, url: str, command: dict[str, Any]) -> dict[str, Any]:
    body = PutPeer(url=command["url"], username=site.name, password=SecretStr(PASSWORD))
    async with LibrarianClient(url, user=ADMIN, password=PASSWORD) as client:
        await client.request("PUT", f"/peers/{command['name']}", answer=PeerDescription, body=body)
    return {}


async def rule(site: Site, command: dict[str, Any]) -> dict[str, Any]:
    policy = RulePolicy(peer=command["peer"], engines=(command["engine"],))
    async with site.catalog.begin() as tx:
        await replication.sync_rules(tx, [RuleSettings(name="all", **policy.model_dump())])
    site.bells.ring("backfill")
    return {}


async def wait(site: Site, command: dict[str, Any]) -> dict[str, Any]:
    async with site.catalog.read() as tx:
        (known,) = await tx.peers.all()
    asked = 0
    while True:
        # What the waiting itself costs is told, so that it can be taken off.
        before = site.catalog.statements
        async with site.catalog.read() as tx:
            # In this order: what the walk ends with is due before it has ended.
            walks = await tx.rules.next_backfill() is not None
            due = await tx.tallies.of(f"due:{known.id}")
        asked += site.catalog.statements - before
        if due.files == 0 and not walks:
            return {"asked": asked}
        await asyncio.sleep(0.02)


def counts(site: Site) -> dict[str, Any]:
    mine = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    status = Path("/proc/self/statm").read_text().split()
    return {
        "statements": site.catalog.statements,
        "requests": site.neighbours.requests,
        "cpu": mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime,
        "rss": int(status[1]) * os.sysconf("SC_PAGE_SIZE"),
    }


def globus() -> GlobusSettings | None:
    """Who we are at the Globus that ``remote_clone`` has started."""
    secret = os.environ.get("CLONE_GLOBUS_SECRET")
    return None if secret is None else GlobusSettings(client_id=GLOBUS_CLIENT, client_secret_file=Path(secret))


def collection_of(folder: Path) -> CollectionSettings:
    """Where the store in *folder* is found there: both sites are in one collection."""
    return CollectionSettings(collection=GLOBUS_CLIENT, root=f"{folder}/store", staging=f"{folder}/staging")


async def obey(site: Site, url: str, command: dict[str, Any]) -> dict[str, Any]:
    match command["do"]:
        case "account":
            return await account(site, command)
        case "peer":
            return await peer(site, url, command)
        case "rule":
            return await rule(site, command)
        case "wait":
            return await wait(site, command)
        case _:
            return counts(site)


async def main(name: str, folder: Path, database: str) -> None:
    for part in ("store", "staging"):
        (folder / part).mkdir(parents=True)
    settings = Settings(
        name=name,
        state=folder,
        database=database,
        stores=(
            StoreSettings(name="fast", root=folder / "store", staging=folder / "staging", globus=collection_of(folder)),
        ),
        globus=globus(),
    )
    async with open_site(settings) as site:
        runner = make_runner(create_app(site))
        await runner.setup()
        place = web.TCPSite(runner, "127.0.0.1", 0)
        await place.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        await account(site, {"name": ADMIN, "role": "admin"})
        async with Supervisor(site, all_tasks(site)):
            spare_the_loop()
            say({"url": url})
            reader = asyncio.StreamReader()
            loop = asyncio.get_running_loop()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            while line := await reader.readline():
                say(await obey(site, url, json.loads(line)))
        await runner.cleanup()


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    profiler = cProfile.Profile()
    if "CLONE_PROFILE" in os.environ:
        profiler.enable()
    # The loop of `librarian serve`.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
    if "CLONE_PROFILE" in os.environ:
        profiler.dump_stats(f"{os.environ['CLONE_PROFILE']}-{sys.argv[1]}")
