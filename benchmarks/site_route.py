"""Server CPU per request: authenticated ``GET /api/v1/site`` against ``GET /healthz``.

The server is a process of its own, so that its CPU time is its alone; rounds of both requests alternate. The claim
is that being known, permitted and told about the site costs at most as much again as a bare answer.

    python benchmarks/site_route.py [sqlite|postgresql://…]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import multiprocessing
import resource
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web

from librarian.auth import ensure_first_admin
from librarian.logs import set_up_logging
from librarian.settings import Settings, StoreSettings
from librarian.site import open_site
from librarian.web.app import create_app, make_runner

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ROUNDS: Final = 7
REQUESTS: Final = 3000
CONNECTIONS: Final = 8


def serve(folder: Path, database: str, wire: Connection) -> None:
    """Serve a site in this process; send its address, then the CPU seconds used whenever asked."""
    # With a line in the log per request, as a real server writes.
    sys.stderr = Path("/dev/null").open("w")
    set_up_logging(form="text", level="INFO")
    asyncio.run(_serve(folder, database, wire))


async def _serve(folder: Path, database: str, wire: Connection) -> None:
    settings = Settings(
        name="bench",
        state=folder,
        database=database,
        stores=(StoreSettings(name="fast", root=folder / "root", staging=folder / "staging"),),
    )
    for path in (folder / "root", folder / "staging"):
        path.mkdir()
    async with open_site(settings) as site:
        password = await ensure_first_admin(site.catalog, site.doorkeeper)
        runner = make_runner(create_app(site))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        wire.send((runner.addresses[0][1], password))
        while await asyncio.to_thread(wire.recv):
            used = resource.getrusage(resource.RUSAGE_SELF)
            wire.send(used.ru_utime + used.ru_stime)
        await runner.cleanup()


async def load(session: aiohttp.ClientSession, path: str, requests: int) -> None:
    """Send *requests* requests for *path* over a few connections."""

    async def line() -> None:
        for _ in range(requests // CONNECTIONS):
            async with session.get(path) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()

    await asyncio.gather(*(line() for _ in range(CONNECTIONS)))


async def measure(port: int, password: str, wire: Connection) -> dict[str, list[float]]:
    """CPU seconds of the server per request, per path and round."""
    login = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
    costs: dict[str, list[float]] = {"/healthz": [], "/api/v1/site": []}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers={"Authorization": login}) as session:
        for path in costs:
            await load(session, path, 500)
        for _ in range(ROUNDS):
            for path, each in costs.items():
                before = _ask(wire)
                await load(session, path, REQUESTS)
                each.append((_ask(wire) - before) / REQUESTS)
    return costs


def _ask(wire: Connection) -> float:
    wire.send(True)
    answer: float = wire.recv()
    return answer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database", nargs="?", default="sqlite")
    database = parser.parse_args().database
    ours, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        # Spawned, not forked: the server starts as clean as a real one.
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(Path(folder), database, theirs))
        server.start()
        port, password = ours.recv()
        costs = asyncio.run(measure(port, password, ours))
        ours.send(False)
        server.join()
    for path, each in costs.items():
        spread = f"{min(each) * 1e6:.0f} to {max(each) * 1e6:.0f}"
        print(f"{path:14} {statistics.median(each) * 1e6:6.0f} µs of server CPU per request ({spread})")
    ratios = [site / bare for bare, site in zip(costs["/healthz"], costs["/api/v1/site"], strict=True)]
    print(
        f"ratio          {statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f}); claimed: at most 2"
    )


if __name__ == "__main__":
    main()
