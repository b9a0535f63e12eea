"""What went wrong in the field with systems of this kind, each shown to be impossible here."""

import ast
import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

import librarian
from librarian import guard, intake
from librarian.catalog.schema import IncomingRow, OutgoingRow
from librarian.policies import HousekeepingPolicy
from librarian.states import OPEN, TransferState
from librarian.tasks.housekeeping import Housekeeping
from librarian.timing import plenty_of_time, utc_now
from tests.clone_fixtures import acquaint, party, until
from tests.site_fixtures import password_of
from tests.uploading import ANA, brought, checksum_of, committed, folder_of, ingest, now_of, open_one, state_of
from tests.web.uploads_over_http import UPLOADS, opened, put

#: Uploads that wait at once: more than any pool of connections to a database has.
WAITING = 60


async def test_requests_that_wait_for_long_work_hold_no_connection_and_stop_nobody(live_server):
    uploads = [await opened(live_server, f"{number}", b"truth") for number in range(WAITING)]
    for upload in uploads:
        await put(live_server, upload, b"truth")
    waiting = [asyncio.create_task(a_commit(live_server, upload)) for upload in uploads]

    async def all_wait() -> bool:
        async with live_server.site.catalog.read() as tx:
            return len(await tx.claims.candidates(now=utc_now(), limit=WAITING + 1)) == WAITING

    await until(all_wait)
    async with asyncio.timeout(10):
        ready = await live_server.call("GET", "/readyz", user=None)
        found = await live_server.call("GET", "/api/v1/files", user="reader")
        another = await opened(live_server, "another", b"truth")
    await ingest(live_server.site)
    replies = await asyncio.gather(*waiting)

    assert (ready.status, found.status, another["state"]) == (200, 200, "initiated")
    assert {reply.json["state"] for reply in replies} == {"completed"}


async def a_commit(live, upload):
    body = {"checksum": checksum_of(b"truth")}
    return await live.call("POST", f"{UPLOADS}/{upload['id']}/commit?wait=60", user="uploader", body=body)


async def test_a_clone_costs_far_fewer_requests_than_files(pair):
    sender, receiver = pair
    names = [f"{number}" for number in range(500)]
    await sender.upload({name: name.encode() for name in names})

    await sender.replicates_to(receiver)
    await sender.knows_copies_at(receiver, names)

    assert sender.site.neighbours.requests + receiver.site.neighbours.requests < len(names) * 0.1


async def test_a_disabled_peer_is_not_called_and_starves_nobody(urls, tmp_path):
    async with (
        party(urls[0], tmp_path / "a", "chajnantor") as sender,
        party(urls[1], tmp_path / "b", "princeton") as disabled,
        party(urls[2], tmp_path / "c", "nersc") as other,
    ):
        await acquaint(sender, disabled)
        await acquaint(sender, other)
        await sender.live.call("PATCH", "/api/v1/peers/princeton", body={"is_enabled": False})
        await sender.replicates_to(disabled)
        await sender.replicates_to(other)

        await sender.upload({"one": b"one"})
        await sender.knows_copies_at(other, ["one"])
        await sender.upload({"two": b"two"})
        await sender.knows_copies_at(other, ["two"])

        assert {transfer.name for transfer in await disabled.incoming()} == set()
        assert "princeton" not in sender.site.neighbours._lines
        assert {due.peer for due in await sender.dues(["one", "two"])} == {"princeton"}


async def test_a_transfer_is_not_given_up_for_its_age(urls, tmp_path):
    async with party(urls[0], tmp_path / "a", "chajnantor") as sender:
        async with party(urls[1], tmp_path / "b", "nersc", tasks=False) as receiver:
            await acquaint(sender, receiver)
            port = receiver.port
            await sender.replicates_to(receiver)
            await sender.upload({"one": b"one"})

            async def is_delivered() -> bool:
                return {transfer.state for transfer in await sender.outgoing()} == {TransferState.STAGED}

            await until(is_delivered)
            await age(receiver.site, IncomingRow)
            await Housekeeping(receiver.site, HousekeepingPolicy()).run_pass(plenty_of_time())
        await age(sender.site, OutgoingRow)
        sender.site.bells.ring("reconcile")
        await sender.upload({"two": b"two"})
        meanwhile = {transfer.state for transfer in await sender.outgoing()}

        async with party(urls[1], tmp_path / "b", "nersc", port=port) as back:
            await sender.knows_copies_at(back, ["one", "two"])
            assert len(await back.incoming()) == 2

    assert not meanwhile & {TransferState.FAILED, TransferState.CANCELLED}


async def age(site, row) -> None:
    """Make every transfer two months old."""
    long_ago = utc_now() - timedelta(days=60)
    async with site.catalog.begin() as tx:
        await tx._connection.execute(update(row).values(created_at=long_ago, progressed_at=long_ago))


async def test_nothing_is_left_in_staging_whatever_became_of_an_upload(site):
    await committed(site, "good", b"truth")
    await committed(site, "bad", b"truth", claimed=checksum_of(b"liess"))
    await committed(site, "book", {"a/b": b"1"}, claimed=checksum_of({"a/c": b"1"}))
    cancelled = await brought(site, "cancelled", b"truth")
    await brought(site, "abandoned", {"a": b"truth"})

    await ingest(site)
    await intake.cancel(site, ANA, cancelled.uuid)
    await Housekeeping(site, HousekeepingPolicy(abandoned_after=timedelta(0))).run_pass(plenty_of_time())

    staging = site.stores.lookup("fast").staging
    assert sorted(entry.name for entry in staging.iterdir()) == [".private", ".quarantine"]
    async with site.catalog.read() as tx:
        assert await tx.claims.staged_tokens() == frozenset()
        assert [shelf.reserved for shelf in await tx.incoming.shelves()] == [0]


async def test_bytes_go_only_after_their_row_says_so(site, monkeypatch):
    upload = await committed(site, "bad", b"truth", claimed=checksum_of(b"liess"))
    stood: list[bool] = []

    def look(step: str) -> None:
        if step == "recorded but not answered":
            stood.append(folder_of(site, upload).exists())

    monkeypatch.setattr(guard, "_on_step", [look])
    await ingest(site)

    assert stood == [True]
    assert await state_of(site, upload) is TransferState.FAILED
    assert not folder_of(site, upload).exists()


async def test_a_name_is_free_again_after_every_way_in_which_its_arrival_can_end_badly(site):
    await committed(site, "refused", b"truth", claimed=checksum_of(b"liess"))
    await ingest(site)
    cancelled = await brought(site, "cancelled")
    await intake.cancel(site, ANA, cancelled.uuid)
    await brought(site, "abandoned")
    await Housekeeping(site, HousekeepingPolicy(abandoned_after=timedelta(0))).run_pass(plenty_of_time())

    again = [await open_one(site, name, b"something else") for name in ("refused", "cancelled", "abandoned")]

    assert {(await now_of(site, upload)).state for upload in again} <= OPEN


@pytest.mark.parametrize("engine", ["http", "local"])
async def test_one_file_that_exists_refuses_no_other_of_its_batch(pair, engine):
    sender, receiver = pair
    await receiver.upload({"64": b"other content", "65": b"65"})
    names = [f"{number}" for number in range(128)]
    await sender.upload({name: name.encode() for name in names})

    await sender.replicates_to(receiver, engines=(engine,))

    await sender.knows_copies_at(receiver, [name for name in names if name != "64"])
    assert (receiver.folder / "fast" / "64").read_bytes() == b"other content"
    assert {transfer.name for transfer in await receiver.incoming() if transfer.peer_id} == set(names) - {"64", "65"}


async def test_no_password_of_a_peer_stands_in_a_catalog_or_in_what_is_shown(urls, tmp_path):
    async with (
        party(urls[0], tmp_path / "a", "chajnantor") as sender,
        party(urls[1], tmp_path / "b", "nersc") as receiver,
    ):
        await acquaint(sender, receiver)
        shown = await sender.live.call("GET", "/api/v1/peers")
        async with sender.site.catalog.read() as tx:
            peer = await tx.peers.get("nersc")
            kept, _ = await tx.peers.secrets_of(peer.id)

    secret = password_of("chajnantor")
    assert secret.encode() not in kept
    assert secret not in shown.raw.decode()
    assert secret not in repr(peer)


def test_nothing_here_can_unpickle():
    sources = Path(librarian.__file__).parent.rglob("*.py")
    nodes = [node for path in sources for node in ast.walk(ast.parse(path.read_text()))]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}

    assert not imported & {"pickle", "shelve", "marshal", "dill", "cloudpickle", "joblib"}
