"""Stores that move between two starts, and stores that hang, vanish or become read-only under a site at work."""

import asyncio
import signal
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from librarian.auth import Doorkeeper
from librarian.catalog.database import make_engine
from librarian.policies import HousekeepingPolicy
from librarian.settings import Limits, Settings, StoreSettings
from librarian.site import open_site
from librarian.states import Role
from librarian.tasks.housekeeping import Housekeeping
from librarian.tasks.probe import Probe
from librarian.timing import plenty_of_time
from tests.crash.harness import until
from tests.site_fixtures import CHEAP, create_account, served
from tests.uploading import committed, ingest

ROWS = ("files", "instances", "stores", "incoming_transfers")


@pytest.fixture
def working_on(sqlite_url, tmp_path):
    """Serves one site with stores at the given places, each with its root and staging below; no task runs."""

    @asynccontextmanager
    async def serve(*, answer_timeout=timedelta(seconds=1), **places):
        settings = Settings(
            name="chajnantor",
            state=tmp_path / "state",
            database=sqlite_url,
            stores=tuple(
                StoreSettings(
                    name=store,
                    root=place / "root",
                    staging=place / "staging",
                    answer_timeout=answer_timeout,
                )
                for store, place in places.items()
            ),
            limits=Limits(workers=1),
        )
        async with open_site(settings) as site:
            site.doorkeeper = Doorkeeper(site.catalog, hasher=CHEAP)
            async with site.catalog.read() as tx:
                is_new = not await tx.accounts.count()
            if is_new:
                await create_account(site, "admin", Role.ADMIN)
            async with served(site) as live:
                yield live

    return serve


async def rows_of(url: str) -> list:
    engine = make_engine(url)
    async with engine.connect() as connection:
        rows = [(await connection.execute(text(f"SELECT * FROM {table} ORDER BY id"))).all() for table in ROWS]
    await engine.dispose()
    return rows


async def bring(live, name: str, content: bytes = b"truth") -> str:
    """Upload and ingest a file; the store it went to."""
    upload = await committed(live.site, name, content)
    await ingest(live.site)
    return upload.store


async def is_stuck() -> bool:
    """Whether a thread of ours waits for a file system that does not answer."""
    return any("request_wait_answer" in (task / "wchan").read_text() for task in Path("/proc/self/task").iterdir())


async def look(live) -> None:
    """Look at the stores, as is done every few seconds."""
    probe = Probe(live.site)
    await probe.run_pass(plenty_of_time())


async def stores_of(live) -> dict[str, str | None]:
    """What the status says about each store."""
    reply = await live.call("GET", "/api/v1/status")
    assert reply.status == 200, reply.raw
    return {store["name"]: store["problem"] for store in reply.json["stores"]}


async def alerts_of(live) -> list[str]:
    return [alert["cause"] for alert in (await live.call("GET", "/api/v1/status")).json["alerts"]]


async def test_a_store_whose_root_moved_serves_its_files_from_there(working_on, tmp_path):
    async with working_on(fast=tmp_path / "old") as live:
        await bring(live, "2026/a")
    (tmp_path / "old").rename(tmp_path / "new")

    async with working_on(fast=tmp_path / "new") as live:
        content = await live.call("GET", "/api/v1/content/2026/a")
        described = await live.call("GET", "/api/v1/files/2026/a")
        await bring(live, "2026/b")

    assert content.raw == b"truth"
    assert described.json["instances"][0]["path"] == str(tmp_path / "new" / "root" / "2026" / "a")
    assert (tmp_path / "new" / "root" / "2026" / "b").is_file()


async def test_moving_a_store_rewrites_no_row(working_on, sqlite_url, tmp_path):
    async with working_on(fast=tmp_path / "old") as live:
        await bring(live, "2026/a")
    before = await rows_of(sqlite_url)
    (tmp_path / "old").rename(tmp_path / "new")

    async with working_on(fast=tmp_path / "new"):
        pass

    assert await rows_of(sqlite_url) == before


async def test_another_disk_at_the_new_place_is_not_taken_for_the_store(working_on, tmp_path):
    async with working_on(fast=tmp_path / "fast", slow=tmp_path / "slow"):
        pass
    (tmp_path / "fast").rename(tmp_path / "away")
    (tmp_path / "slow").rename(tmp_path / "fast")
    before = sorted(tmp_path.joinpath("fast").rglob("*"))

    async with working_on(fast=tmp_path / "fast") as live:
        refused = await live.call("POST", "/api/v1/uploads", body={"name": "a", "size": 5})

        assert "another store stands where 'fast' should be" in (await stores_of(live))["fast"]
        assert (refused.status, refused.json["code"]) == (507, "no_room")
        assert "another store stands where 'fast' should be" in refused.json["message"]
        assert (await live.call("GET", "/readyz")).status == 200
    assert sorted(tmp_path.joinpath("fast").rglob("*")) == before


async def test_an_empty_place_is_not_taken_for_a_known_store(working_on, tmp_path):
    async with working_on(fast=tmp_path / "fast") as live:
        await bring(live, "2026/a")

    async with working_on(fast=tmp_path / "new") as live:
        assert "cannot be opened" in (await stores_of(live))["fast"]
    assert not (tmp_path / "new").exists()


async def test_a_hanging_store_is_told_and_others_take_uploads(working_on, mounts, tmp_path):
    disk = mounts.fuse(tmp_path / "disk", tmp_path / "slow")
    async with working_on(fast=tmp_path / "fast", slow=tmp_path / "slow") as live:
        disk.send_signal(signal.SIGSTOP)
        told = await stores_of(live)
        stores = [await bring(live, "a"), await bring(live, "b")]
        alive, ready = await live.call("GET", "/healthz"), await live.call("GET", "/readyz")
        disk.send_signal(signal.SIGCONT)
        await look(live)

        assert "no answer" in told["slow"]
        assert told["fast"] is None
        assert stores == ["fast", "fast"]
        assert (alive.status, ready.status) == (200, 200)
        assert (await stores_of(live))["slow"] is None


async def test_a_store_that_just_began_to_hang_holds_up_neither_the_status_nor_the_site(working_on, mounts, tmp_path):
    disk = mounts.fuse(tmp_path / "disk", tmp_path / "slow")
    places = {"fast": tmp_path / "fast", "slow": tmp_path / "slow"}
    async with working_on(**places, answer_timeout=timedelta(minutes=2)) as live:
        disk.send_signal(signal.SIGSTOP)

        told, site = await asyncio.gather(stores_of(live), live.call("GET", "/api/v1/site"))

        disk.send_signal(signal.SIGCONT)
        assert told == {"fast": None, "slow": "it does not answer for 3 s"}
        assert {point["store"] for point in site.json["entry_points"]} == {"fast"}


async def test_downloads_from_a_hanging_store_hold_up_no_others(working_on, mounts, tmp_path):
    disk = mounts.fuse(tmp_path / "disk", tmp_path / "slow")
    async with working_on(slow=tmp_path / "slow") as live:
        await bring(live, "hung")
    places = {"fast": tmp_path / "fast", "slow": tmp_path / "slow"}
    async with working_on(**places, answer_timeout=timedelta(minutes=1)) as live:
        await live.call("POST", "/api/v1/stores/slow/close")
        await bring(live, "good")
        disk.send_signal(signal.SIGSTOP)
        hung = [asyncio.create_task(live.call("GET", "/api/v1/content/hung")) for _ in range(40)]
        await until(is_stuck)

        good = await live.call("GET", "/api/v1/content/good")
        pending = [download.done() for download in hung]
        disk.send_signal(signal.SIGCONT)
        answers = await asyncio.gather(*hung)

        assert good.raw == b"truth"
        assert not any(pending)
        assert {answer.raw for answer in answers} == {b"truth"}


async def test_an_unmounted_store_is_told_never_filled_and_taken_back(working_on, mounts, tmp_path):
    # Somebody was thorough and made the folders under the mount point too.
    hidden = [tmp_path / "fast" / "root", tmp_path / "fast" / "staging"]
    for folder in hidden:
        folder.mkdir(parents=True)
    mounts.bind(tmp_path / "disk", tmp_path / "fast")
    async with working_on(fast=tmp_path / "fast") as live:
        await bring(live, "a")
        mounts.unmount(tmp_path / "fast")
        site = await live.call("GET", "/api/v1/site")
        refused = await live.call("POST", "/api/v1/uploads", body={"name": "b", "size": 5})
        unreadable = await live.call("GET", "/api/v1/content/a")
        await look(live)
        told, alerts = await stores_of(live), await alerts_of(live)
        left = sorted((tmp_path / "fast").rglob("*"))
        mounts.bind(tmp_path / "disk", tmp_path / "fast")
        await look(live)

        assert (refused.status, refused.json["code"]) == (507, "no_room")
        assert "not mounted any more" in refused.json["message"]
        assert (unreadable.status, unreadable.json["code"]) == (503, "store_unavailable")
        assert "it is not mounted, or was emptied" in told["fast"]
        assert [point["engine"] for point in site.json["entry_points"]] == ["http"]
        assert alerts == ["store-unavailable:fast"]
        assert left == hidden
        assert (await live.call("GET", "/api/v1/content/a")).raw == b"truth"
        assert await bring(live, "b") == "fast"


async def test_the_file_by_which_peers_find_a_shared_file_system_is_no_stranger(working_on, tmp_path):
    async with working_on(fast=tmp_path / "fast") as live:
        told = (await live.call("GET", "/api/v1/site")).json["entry_points"]

        await Housekeeping(live.site, HousekeepingPolicy(stranger_after=timedelta(0))).run_pass(plenty_of_time())

        assert await alerts_of(live) == []
        assert [Path(point["staging"], point["probe"]).is_file() for point in told if point["probe"]] == [True]


async def test_a_store_that_became_read_only_is_told_and_taken_back(working_on, mounts, tmp_path):
    disk = mounts.tmpfs(tmp_path / "fast", "size=16m")
    async with working_on(fast=disk) as live:
        await bring(live, "a")
        mounts.make_read_only(disk)
        refused = await live.call("POST", "/api/v1/uploads", body={"name": "b", "size": 5})
        await look(live)
        told, alerts = await stores_of(live), await alerts_of(live)
        mounts.make_writable(disk)
        await look(live)

        assert (refused.status, refused.json["code"]) == (503, "store_unavailable")
        assert "Read-only file system" in told["fast"]
        assert alerts == ["store-unavailable:fast"]
        assert (await stores_of(live))["fast"] is None
        assert await bring(live, "b") == "fast"


async def test_what_was_told_of_a_store_is_not_told_again(working_on, tmp_path):
    async with working_on(fast=tmp_path / "fast") as live:
        probe = Probe(live.site)
        (tmp_path / "fast").rename(tmp_path / "away")

        changes = [await probe.run_pass(plenty_of_time()) for _ in range(3)]

        assert changes == [1, 0, 0]


async def test_the_alert_of_a_store_that_came_back_between_two_starts_is_closed(working_on, tmp_path):
    async with working_on(fast=tmp_path / "fast"):
        pass
    (tmp_path / "fast").rename(tmp_path / "away")
    async with working_on(fast=tmp_path / "fast") as live:
        await look(live)
        before = await alerts_of(live)
    (tmp_path / "away").rename(tmp_path / "fast")

    async with working_on(fast=tmp_path / "fast") as live:
        await look(live)

        assert (before, await alerts_of(live)) == (["store-unavailable:fast"], [])


@pytest.mark.parametrize(
    ("end", "words"), [(signal.SIGSTOP, "no answer"), (signal.SIGKILL, "Transport endpoint is not connected")]
)
async def test_a_server_starts_beside_a_store_that_hangs_or_died(new_server, mounts, tmp_path, end, words):
    server = new_server(stores=("fast", "slow"), each_store='answer_timeout = "1 s"')
    disk = mounts.fuse(tmp_path / "disk", server.folder / "slow")
    server.start()
    await server.ready()
    await server.stop()
    disk.send_signal(end)
    server.start()

    await server.ready()

    told = {store["name"]: store["problem"] for store in (await server.status())["stores"]}
    assert told["fast"] is None
    assert words in told["slow"]
