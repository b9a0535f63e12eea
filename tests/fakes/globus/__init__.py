"""A Globus of our own on loopback: it speaks to the real SDK, really copies, and misbehaves on cue.

::

    async with fake_globus() as globus:
        collection = globus.add_collection(folder)
        globus.cue("lost_reply", on="submit")

The SDK finds it through GLOBUS_SDK_SERVICE_URL_AUTH and GLOBUS_SDK_SERVICE_URL_TRANSFER, both ``globus.url``. As a
process: ``python -m tests.fakes.globus``, steered by ``POST /fake``.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from unittest.mock import patch

from aiohttp import web

from tests.fakes.globus.service import FakeGlobus, make_app

__all__ = ["SERVICE_URLS", "FakeGlobus", "fake_globus", "pointed_at"]

#: Environment variables by which the SDK finds its services.
SERVICE_URLS = ("GLOBUS_SDK_SERVICE_URL_AUTH", "GLOBUS_SDK_SERVICE_URL_TRANSFER")


@asynccontextmanager
async def fake_globus(*, port: int = 0, on_change: Callable[[], None] = lambda: None) -> AsyncIterator[FakeGlobus]:
    """Serve on loopback; *on_change* is called whenever a task has news."""
    service = FakeGlobus(on_change)
    runner = web.AppRunner(make_app(service), shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    service.stop = runner.cleanup
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield service
    finally:
        await service.close()
        await runner.cleanup()


@contextmanager
def pointed_at(globus: FakeGlobus) -> Iterator[None]:
    """Have the SDK of this process take *globus* for the real one."""
    with patch.dict(os.environ, dict.fromkeys(SERVICE_URLS, globus.url)):
        yield
