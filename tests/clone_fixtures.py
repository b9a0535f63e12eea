"""Two or more real sites in one process, served on loopback, with accounts at each other and rules between them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from librarian import intake, replication
from librarian.catalog.incoming_rows import Commit
from librarian.checksum import Algorithm, Checksum
from librarian.errors import Conflict
from librarian.names import FileName, RuleName, SiteName
from librarian.openings import UploadRequest
from librarian.policies import ClonePolicy, RulePolicy
from librarian.site import Site
from librarian.states import Kind, Reach, Role
from librarian.tasks.backfill import Backfill
from librarian.tasks.deliver import Deliver
from librarian.tasks.fetch import Fetch
from librarian.tasks.ingest import Ingest
from librarian.tasks.poll import Poll
from librarian.tasks.receive import Receive
from librarian.tasks.reconcile import Reconcile
from librarian.tasks.reread import Reread
from librarian.tasks.send import Send
from librarian.tasks.submit import Submit
from librarian.tasks.supervisor import Supervisor
from tests.site_fixtures import Live, create_account, opened_site, password_of, served

#: Tests wait for what must happen, never for time to pass; this is when they stop hoping.
PATIENCE = 30.0
POLICY = ClonePolicy(interval=timedelta(milliseconds=200), reconcile_after=timedelta(seconds=2))


def clone_tasks(site: Site, policy: ClonePolicy = POLICY):
    return [
        Ingest(site),
        Backfill(site, policy),
        Send(site, policy),
        Submit(site, policy),
        Poll(site, policy),
        Deliver(site, policy),
        Reconcile(site, policy),
        Reread(site),
        Receive(site),
        Fetch(site, policy),
    ]


@dataclass
class Party:
    """One site of a test: opened, served, its tasks running or not."""

    live: Live
    folder: Path

    @property
    def site(self) -> Site:
        return self.live.site

    @property
    def name(self) -> SiteName:
        return self.site.name

    @property
    def port(self) -> int:
        """Where we listen."""
        return int(self.live.url.rsplit(":", 1)[1])

    async def knows(
        self, other: "Party", *, url: str | None = None, accepts: Sequence[str] = ("",), authority: str | None = None
    ) -> None:
        """Add *other* as a peer, over HTTP as an administrator would."""
        reply = await self.live.call(
            "PUT",
            f"/api/v1/peers/{other.name}",
            body={
                "url": url or other.live.url,
                "username": self.name,
                "password": password_of(self.name),
                "accepts": list(accepts),
                "authority": authority,
            },
        )
        assert reply.status == 200, reply.raw

    async def replicates_to(self, other: "Party", *, name=None, engines=("http",), match=("*",), **more) -> None:
        """A rule of ours: files that match must be at *other*."""
        policy = RulePolicy(peer=other.name, match=match, engines=engines, **more)
        async with self.site.catalog.begin() as tx:
            await replication.put_rule(tx, RuleName(name or f"to-{other.name}"), policy=policy, who="admin")
        self.site.bells.ring("backfill")
        self.site.bells.ring("send")

    async def upload(self, files: dict[str, bytes]) -> None:
        """Upload *files* and wait until each is verified; an ingest task must be running."""
        await self._upload({name: (Kind.FILE, content) for name, content in files.items()})

    async def upload_book(self, name: str, members: dict[str, bytes]) -> None:
        await self._upload({name: (Kind.BOOK, members)})

    async def _upload(self, payloads) -> None:
        admin = await self.account()
        requests = [
            UploadRequest(name=FileName(name), size=_size(content), kind=kind)
            for name, (kind, content) in payloads.items()
        ]
        uploads = await intake.open_uploads(self.site, admin, requests)
        commits = []
        for upload, (_, content) in zip(uploads, payloads.values(), strict=True):
            place = self.site.stores.lookup(upload.store).staging_path(upload.token)
            _lay(place, content)
            measured = await self.site.pool.measure(place, Algorithm.XXH3)
            commits.append(Commit(uuid=upload.uuid, checksum=Checksum(measured.checksum)))
        await intake.commit_uploads(self.site, admin, commits)
        settled = await intake.wait_until_settled(self.site, [c.uuid for c in commits], timedelta(seconds=PATIENCE))
        assert {upload.state.value for upload in settled.values()} == {"completed"}, settled

    async def account(self):
        async with self.site.catalog.read() as tx:
            return await tx.accounts.get("admin")

    async def file(self, name: str):
        async with self.site.catalog.read() as tx:
            return (await tx.files.named([FileName(name)])).get(FileName(name))

    async def remote_instances(self, names: Sequence[str]) -> dict[str, set[str]]:
        """Which peers hold each of *names*, as this site knows."""
        async with self.site.catalog.read() as tx:
            files = await tx.files.named([FileName(name) for name in names])
            found = await tx.remote_instances.of_files([file.id for file in files.values()])
        of_id = {file.id: name for name, file in files.items()}
        held: dict[str, set[str]] = {name: set() for name in names}
        for instance in found:
            held[of_id[instance.file_id]].add(instance.peer)
        return held

    async def dues(self, names: Sequence[str]):
        async with self.site.catalog.read() as tx:
            files = await tx.files.named([FileName(name) for name in names])
            return await tx.copies_due.of_files([file.id for file in files.values()])

    async def outgoing(self):
        async with self.site.catalog.read() as tx:
            return await tx.outgoing.page(before=None, peer=None, states=(), limit=1000)

    async def incoming(self):
        async with self.site.catalog.read() as tx:
            return await tx.offers.page(before=None, peer=None, states=(), limit=1000)

    async def alerts(self):
        async with self.site.catalog.read() as tx:
            return await tx.alerts.open_ones()

    async def knows_copies_at(self, other: "Party", names: Sequence[str]) -> None:
        """Wait until each of *names* is known to be at *other*."""

        async def all_there() -> bool:
            held = await self.remote_instances(names)
            return all(other.name in peers for peers in held.values())

        await until(all_there)


def _size(content) -> int:
    return sum(map(len, content.values())) if isinstance(content, dict) else len(content)


def _lay(place: Path, content) -> None:
    if isinstance(content, bytes):
        place.write_bytes(content)
        return
    place.mkdir()
    for path, each in content.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(each)


async def until(condition: Callable, *, patience: float = PATIENCE) -> None:
    """Ask *condition* again and again until it holds."""
    async with asyncio.timeout(patience):
        while not await condition():
            await asyncio.sleep(0.05)


@asynccontextmanager
async def party(
    url: str, folder: Path, name: str, *, policy=POLICY, tasks: bool = True, port: int = 0, certificate=None, **options
) -> AsyncIterator[Party]:
    """A site called *name*, served, its tasks running. The same *url* and *folder* again: the same site, restarted.

    *certificate* is for TLS; *options* go to ``opened_site``.
    """
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(opened_site(url, folder, name=name, **options))
        with contextlib.suppress(Conflict):
            await create_account(site, "admin", Role.ADMIN)
        live = await stack.enter_async_context(served(site, port=port, certificate=certificate))
        if tasks:
            await stack.enter_async_context(Supervisor(site, clone_tasks(site, policy)))
        yield Party(live, folder)


async def acquaint(sender: Party, receiver: Party, *, both: bool = False, url: str | None = None) -> None:
    """Accounts at each other, and peers: *sender* may offer to *receiver*, which may settle what it was offered.

    *both*: each may offer to the other. *url*: where *sender* calls *receiver*, through a proxy for instance.
    """
    more = (Role.UPSTREAM, Role.CALLBACK)
    await create_account(receiver.site, sender.name, *(more if both else (Role.UPSTREAM,)))
    await create_account(sender.site, receiver.name, *(more if both else (Role.CALLBACK,)))
    await sender.knows(receiver, url=url)
    await receiver.knows(sender)


async def pair(inviter: Party, joiner: Party, *, direction: str = "send") -> str:
    """*inviter* invites, *joiner* joins; the token."""
    invited = await inviter.live.call("POST", "/api/v1/invitations", body={"name": joiner.name, "direction": direction})
    assert invited.status == 201, invited.raw
    joined = await joiner.live.call("POST", "/api/v1/pairings", body={"token": invited.json["token"]})
    assert joined.status == 200, joined.raw
    return invited.json["token"]


async def close_in(site: Party, *, towards: Party) -> None:
    """From now on *towards*, which knows *site*, cannot call it: *site* fetches what waits for it there."""
    async with towards.site.catalog.begin() as tx:
        peer = await tx.peers.get(site.name)
        secret, _ = await tx.peers.secrets_of(peer.id)
        await tx.peers.reach_at(peer.id, url="http://127.0.0.1:9", username=peer.username, secret=secret)
        await tx.peers.reach_by(peer.id, Reach.POLL, is_fetched=False)
    await towards.site.neighbours.forget(site.name)
    async with site.site.catalog.begin() as tx:
        await tx.peers.reach_by((await tx.peers.get(towards.name)).id, Reach.PUSH, is_fetched=True)
    site.site.bells.ring("fetch")
