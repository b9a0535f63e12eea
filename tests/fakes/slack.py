"""An incoming webhook as Slack has it, on loopback, which misbehaves when it is told to.

::

    async with slack(tmp_path) as hook:
        hook.will(429, "rate_limited", {"Retry-After": "30"})    # answers the next message so; then all is well
        hook.will("hang")                                         # never answers the next one
        hook.will("close")                                        # closes the connection in its face
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from librarian.settings import SlackSettings

#: What makes the URL a secret.
SECRET = "T00000000/B00000000/oolongteaoolongtea"


@dataclass
class Slack:
    """What it was told, and how the settings name it."""

    settings: SlackSettings
    #: The bodies of all requests.
    bodies: list[dict] = field(default_factory=list)
    #: Of the messages that it took.
    shown: list[str] = field(default_factory=list)
    _will: list[tuple] = field(default_factory=list)

    def will(self, *answer: object) -> None:
        """Answer the next request so."""
        self._will.append(answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        match self._will.pop(0) if self._will else (200, "ok"):
            case ("hang",):
                await asyncio.Event().wait()
            case ("close",):
                request.transport.abort()
                return web.Response()
            case (int(status), str(said), *headers):
                if (status, said) == (200, "ok"):
                    self.shown.append(self.bodies[-1]["text"])
                return web.Response(status=status, text=said, headers=dict(*headers))
        raise AssertionError("it knows no such answer")


@asynccontextmanager
async def slack(folder: Path) -> AsyncIterator[Slack]:
    file = folder / "webhook"
    hook = Slack(SlackSettings(webhook_file=file))
    app = web.Application()
    app.router.add_post(f"/services/{SECRET}", hook.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    place = web.TCPSite(runner, "127.0.0.1", 0)
    await place.start()
    file.write_text(f"http://127.0.0.1:{runner.addresses[0][1]}/services/{SECRET}\n")
    try:
        yield hook
    finally:
        await runner.cleanup()
